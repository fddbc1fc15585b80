//! Errors of files and database, as far as the daemon tells them apart: what is broken, and what
//! would mend it.

use super::faults::FaultKind;
use crate::intake::IntakeError;
use crate::store::StoreError;
use crate::store::ledger::LedgerError;
use crate::store::versions::VersionError;

/// Something that failed, and what kind of fault that makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub kind: FaultKind,
    pub sentence: String,
}

impl Trouble {
    /// A fault with its sentence.
    #[must_use]
    pub fn new(kind: FaultKind, sentence: impl std::fmt::Display) -> Self {
        Self { kind, sentence: sentence.to_string() }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::new(FaultKind::Disk, error)
    }
}

impl From<LedgerError> for Trouble {
    /// A full or read-only disk is the disk's fault; all else is the ledger's.
    fn from(error: LedgerError) -> Self {
        let disk = error.is_disk_full() || error.is_read_only();
        Self::new(if disk { FaultKind::Disk } else { FaultKind::Ledger }, error)
    }
}

impl From<IntakeError> for Trouble {
    /// A spool that cannot be used keeps nobody from learning what is there already.
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Ledger(error) => error.into(),
            IntakeError::Store(error) => error.into(),
            IntakeError::Folder { .. } => Self::new(FaultKind::Tasks, error),
        }
    }
}

impl From<VersionError> for Trouble {
    fn from(error: VersionError) -> Self {
        Self::new(FaultKind::Disk, error)
    }
}
