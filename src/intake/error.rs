//! What can go wrong with the task intake as a whole. A single bad file is not such an error.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::ledger::LedgerError;

/// The error of everything in [`crate::intake`]. Nothing is lost: the next scan continues.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file of the state folder could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spool folder cannot be used.
    #[error("cannot {action} the folder {}: {source}; check the path and its permissions", path.display())]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        source: io::Error,
    },
}

impl IntakeError {
    pub(super) fn folder(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { action, path, source }
    }

    /// Whether the ledger must be replaced, see [`crate::store::ledger::Ledger::replace`].
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_corrupt())
    }

    /// Whether the disk (or the quota) is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_disk_full(),
            _ => self.has_kind(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]),
        }
    }

    /// Whether nothing can be written there.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_read_only(),
            _ => {
                self.has_kind(&[io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied])
            }
        }
    }

    fn has_kind(&self, kinds: &[io::ErrorKind]) -> bool {
        match self {
            Self::Store(StoreError::Io { source, .. }) | Self::Folder { source, .. } => {
                kinds.contains(&source.kind())
            }
            _ => false,
        }
    }
}
