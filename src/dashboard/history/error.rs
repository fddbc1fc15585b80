//! What can go wrong with the history.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::sqlite::{advice, is_corrupt};

/// The error of everything in this module. Holds nothing that a device sent.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite could not open the file.
    #[error("the history {} cannot be opened: {source}; {}", path.display(), advice(source))]
    Open {
        /// The history's file.
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// SQLite could not do what it was asked to.
    #[error("the history cannot be used: {source}; {}", advice(source))]
    Query {
        #[from]
        source: rusqlite::Error,
    },
    /// A file operation on the history failed.
    #[error("cannot {action} the history {}: {source}; check the disk and the permissions", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The history's file.
        path: PathBuf,
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("the history is damaged ({what}); it must be set aside and created again")]
    Damaged {
        /// How that was noticed.
        what: &'static str,
    },
    /// It is a database of another program.
    #[error("{} is not a history of latrod dashboard; name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another version of latrod made it.
    #[error(
        "the history {} has version {version}, this latrod reads version {known}; install the other \
         latrod again, or move the file away to start with an empty one",
        path.display()
    )]
    Version {
        /// The history's file.
        path: PathBuf,
        /// Its version.
        version: i32,
        /// The version that is read.
        known: i32,
    },
}

impl HistoryError {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    /// Whether the file's content is damaged: no retry will help, [`super::History::replace`] will.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open { source, .. } | Self::Query { source } => is_corrupt(source),
            Self::File { .. } | Self::Foreign { .. } | Self::Version { .. } => false,
        }
    }
}
