//! What can go wrong with versions, in one sentence.

use std::path::PathBuf;

use super::VersionId;
use crate::store::StoreError;

/// The error of everything in [`crate::store::versions`].
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such version.
    #[error("{} holds no version {id}; list the folder to see which it holds", dir.display())]
    Unknown { dir: PathBuf, id: VersionId },
    /// A version that was found to be worse.
    #[error(
        "version {id} was rolled back ({reason}) and cannot become active again; reinstate it first"
    )]
    RolledBack { id: VersionId, reason: String },
    /// The candidate's parent was trained on another model.
    #[error(
        "version {parent} was made for the model with sha256 {found}, the candidate for {expected}; \
         a candidate starts from a version for its own model"
    )]
    OtherBase { parent: VersionId, expected: String, found: String },
    /// All numbers are taken.
    #[error("{} has a version with the last number; move the folder away to start over", dir.display())]
    Full { dir: PathBuf },
}

impl VersionError {
    /// Whether it says that what is on disk is not what was written, and not that the disk could not
    /// be read just now.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Store(StoreError::Damaged { .. }) => true,
            Self::Store(StoreError::Io { source, .. }) => {
                use std::io::ErrorKind as Kind;
                matches!(source.kind(), Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory)
            }
            _ => false,
        }
    }
}
