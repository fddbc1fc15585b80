//! Errors of files and the database, told apart by what would mend them.

use crate::daemon::faults::FaultKind;
use crate::intake::IntakeError;
use crate::store::StoreError;
use crate::store::ledger::LedgerError;
use crate::store::versions::VersionError;

/// A part of the storage that failed, and the kind of fault that this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    /// The fault that is raised for it.
    pub kind: FaultKind,
    /// What failed, where, and what to do.
    pub sentence: String,
}

impl StorageError {
    /// An error of the kind `kind`.
    #[must_use]
    pub fn new(kind: FaultKind, sentence: impl std::fmt::Display) -> Self {
        Self { kind, sentence: sentence.to_string() }
    }

    /// The state folder, or a part of it, is not open.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(FaultKind::Disk, "the state folder is not open")
    }
}

impl From<StoreError> for StorageError {
    fn from(error: StoreError) -> Self {
        Self::new(FaultKind::Disk, error)
    }
}

impl From<LedgerError> for StorageError {
    /// A full or read-only disk is the disk's fault; anything else is the ledger's.
    fn from(error: LedgerError) -> Self {
        let disk = error.is_disk_full() || error.is_read_only();
        Self::new(if disk { FaultKind::Disk } else { FaultKind::Ledger }, error)
    }
}

impl From<IntakeError> for StorageError {
    /// A spool folder that cannot be read does not keep the daemon from learning from what it has.
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Ledger(error) => error.into(),
            IntakeError::Store(error) => error.into(),
            IntakeError::Folder { .. } => Self::new(FaultKind::Tasks, error),
        }
    }
}

impl From<VersionError> for StorageError {
    fn from(error: VersionError) -> Self {
        Self::new(FaultKind::Disk, error)
    }
}
