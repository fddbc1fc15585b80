//! What can go wrong with the ledger, and how such errors are told apart.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::store::sqlite::{advice, is_corrupt};

/// The error of everything in [`crate::store::ledger`]. Holds no text of a task.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite could not open the file.
    #[error("the ledger {} cannot be opened: {source}; {}", path.display(), advice(source))]
    Open {
        /// The ledger's file.
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// SQLite could not do what it was asked to.
    #[error("the ledger cannot be used: {source}; {}", advice(source))]
    Query {
        #[from]
        source: rusqlite::Error,
    },
    /// A file operation on the ledger failed.
    #[error("cannot {action} the ledger {}: {source}; check the disk and the permissions", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The ledger's file.
        path: PathBuf,
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("the ledger is damaged ({what}); it must be set aside and created again")]
    Damaged {
        /// How that was noticed.
        what: String,
    },
    /// A later version of latrod made it.
    #[error(
        "the ledger {} has version {version}, this latrod reads version {known}; install the newer \
         latrod again, or move the file away to start with an empty one",
        path.display()
    )]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// Its version.
        version: u16,
        /// The version that is read.
        known: u16,
    },
    /// An earlier version of latrod made it.
    #[error(
        "the ledger {} has version {version}, this latrod reads version {known}; move the file away \
         to start with an empty one, which takes its tasks from the folder `tasks` beside it (unsent \
         messages and an operator's pause are lost), or install the earlier latrod again",
        path.display()
    )]
    Older {
        /// The ledger's file.
        path: PathBuf,
        /// Its version.
        version: u16,
        /// The version that is read.
        known: u16,
    },
    /// A value without a JSON form.
    #[error("the value of {key} has no JSON form and cannot be stored in the ledger")]
    Unstorable {
        /// The name of the value.
        key: String,
    },
}

impl LedgerError {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    /// Whether the file's content is damaged: no retry will help, [`super::Ledger::replace`] will.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open { source, .. } | Self::Query { source } => is_corrupt(source),
            Self::File { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Unstorable { .. } => false,
        }
    }

    /// Whether the disk (or the quota) is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.has_code(ErrorCode::DiskFull)
            || self.has_kind(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded])
    }

    /// Whether nothing can be written there: a read-only disk or missing permission.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.has_code(ErrorCode::ReadOnly)
            || self.has_kind(&[io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied])
    }

    /// Whether another process holds the file.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.has_code(ErrorCode::DatabaseBusy) || self.has_code(ErrorCode::DatabaseLocked)
    }

    fn has_code(&self, code: ErrorCode) -> bool {
        match self {
            Self::Open { source, .. } | Self::Query { source } => {
                source.sqlite_error_code() == Some(code)
            }
            _ => false,
        }
    }

    fn has_kind(&self, kinds: &[io::ErrorKind]) -> bool {
        matches!(self, Self::File { source, .. } if kinds.contains(&source.kind()))
    }
}
