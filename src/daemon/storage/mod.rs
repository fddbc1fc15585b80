//! Everything that the daemon keeps: the ledger, the cycle in progress, the versions of adapters.
//!
//! Each part is open or waits to be opened again: a disk that is full or gone makes parts of the
//! storage absent, but never ends the daemon. A damaged ledger is set aside and rebuilt from the task
//! files at once. Doesn't know what its parts are used for.

mod error;
mod paths;
mod remembered;

use std::fs;
use std::path::{Path, PathBuf};

pub use error::StorageError;
pub use paths::Paths;
pub use remembered::Remembered;

use crate::daemon::cycle::Cycle;
use crate::daemon::faults::FaultKind;
use crate::intake::{IntakeError, Spool, SpoolSettings};
use crate::store::ledger::{Ledger, LedgerError};
use crate::store::versions::{VersionSettings, Versions};
use crate::store::{DirLock, StoreError, durable::create_folder, write_atomic};

/// A ledger that was rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The name under which the damaged one lies.
    pub set_aside: String,
    /// Tasks that were read from their files.
    pub tasks: u64,
}

/// The parts of the storage that are open.
pub struct Storage {
    /// Where they lie.
    pub paths: Paths,
    /// The database.
    pub ledger: Option<Ledger>,
    /// The promoted adapters.
    pub versions: Option<Versions>,
    /// The cycle in progress.
    pub cycle: Option<Cycle>,
    /// The task intake, which works on the ledger.
    pub spool: Spool,
    cycle_open: bool,
    lock: Option<DirLock>,
    tasks: SpoolSettings,
    adapters: VersionSettings,
}

impl Storage {
    /// Storage in `state`, nothing of it open yet.
    #[must_use]
    pub fn new(state: PathBuf, tasks: SpoolSettings, adapters: VersionSettings) -> Self {
        Self {
            spool: Spool::new(tasks.clone(), &state),
            paths: Paths { state },
            ledger: None,
            versions: None,
            cycle: None,
            cycle_open: false,
            lock: None,
            tasks,
            adapters,
        }
    }

    /// Takes other settings for the tasks' folder.
    pub fn set_tasks(&mut self, tasks: SpoolSettings) {
        if tasks != self.tasks {
            self.spool = Spool::new(tasks.clone(), &self.paths.state);
            self.tasks = tasks;
        }
    }

    /// Takes other settings for the adapters. True if their folder has to be opened again.
    pub fn set_adapters(&mut self, adapters: VersionSettings) -> bool {
        let changed = adapters != self.adapters;
        if changed {
            self.adapters = adapters;
            self.versions = None;
        }
        changed
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another daemon has it, and those of making the folder.
    pub fn lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_none() {
            self.lock = Some(DirLock::acquire(&self.paths.state)?);
        }
        Ok(())
    }

    /// Opens what is not open. Says what had to be rebuilt on the way.
    ///
    /// # Errors
    /// The first thing that cannot be opened; the others may be open.
    pub fn open(&mut self, now: i64) -> Result<Option<Rebuilt>, StorageError> {
        self.lock()?;
        self.probe()?;
        let mut rebuilt = None;
        if self.ledger.is_none() {
            create_folder(&self.paths.state)?;
            let (ledger, aside) =
                Ledger::open_at(&self.paths.ledger(), &crate::report::SCHEMAS, now)?;
            if let Some(aside) = aside {
                rebuilt = Some(self.refill(&ledger, &aside.path, now)?);
            }
            self.ledger = Some(ledger);
        }
        if self.versions.is_none() {
            let versions = Versions::open(&self.paths.adapters(), self.adapters.clone())?;
            self.versions = Some(versions);
        }
        if !self.cycle_open {
            self.cycle = match Cycle::open(&self.paths.training()) {
                Ok(cycle) => cycle,
                Err(error @ StoreError::Damaged { .. }) => {
                    log::warn!("the cycle in progress is abandoned: {error}");
                    self.set_cycle_aside(now)?;
                    None
                }
                Err(error) => return Err(error.into()),
            };
            self.cycle_open = true;
        }
        Ok(rebuilt)
    }

    /// Whether everything is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ledger.is_some() && self.versions.is_some() && self.cycle_open
    }

    /// Writes and removes a small file, as a full or read-only disk would not allow.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn probe(&self) -> Result<(), StoreError> {
        let path = self.paths.probe();
        write_atomic(&path, |w| w.write_all(&[b'x'; 1 << 16]))?;
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))
    }

    /// Does `work` with the intake and the ledger. A damaged ledger is replaced, and the rest left to
    /// the next time.
    ///
    /// # Errors
    /// What `work` returned; nothing without a ledger.
    pub fn with_spool<T>(
        &mut self,
        now: i64,
        work: impl FnOnce(&mut Spool, &Ledger) -> Result<T, IntakeError>,
    ) -> (Option<Rebuilt>, Option<Result<T, StorageError>>) {
        let Some(ledger) = self.ledger.take() else { return (None, None) };
        match work(&mut self.spool, &ledger) {
            Err(IntakeError::Ledger(error)) if error.is_corrupt() => {
                match self.replace(ledger, now, &error) {
                    Ok(rebuilt) => (rebuilt, None),
                    Err(error) => (None, Some(Err(error))),
                }
            }
            result => {
                self.ledger = Some(ledger);
                (None, Some(result.map_err(Into::into)))
            }
        }
    }

    /// Does `work` with the ledger. A damaged ledger is replaced and `work` tried once more.
    ///
    /// # Errors
    /// What `work` returned, and a ledger that is not open. The first value says what was rebuilt.
    pub fn with_ledger<T>(
        &mut self,
        now: i64,
        mut work: impl FnMut(&Ledger) -> Result<T, LedgerError>,
    ) -> (Option<Rebuilt>, Result<T, StorageError>) {
        let closed = || StorageError::new(FaultKind::Ledger, "the ledger is not open");
        let Some(ledger) = self.ledger.take() else { return (None, Err(closed())) };
        match work(&ledger) {
            Err(error) if error.is_corrupt() => match self.replace(ledger, now, &error) {
                Ok(rebuilt) => {
                    let again = self.ledger.as_ref().map(&mut work);
                    (rebuilt, again.map_or_else(|| Err(closed()), |r| r.map_err(Into::into)))
                }
                Err(error) => (None, Err(error)),
            },
            result => {
                self.ledger = Some(ledger);
                (None, result.map_err(Into::into))
            }
        }
    }

    fn replace(
        &mut self,
        ledger: Ledger,
        now: i64,
        error: &LedgerError,
    ) -> Result<Option<Rebuilt>, StorageError> {
        let (ledger, aside) = ledger.replace(now, error)?;
        let rebuilt = match aside {
            Some(aside) => Some(self.refill(&ledger, &aside.path, now)?),
            None => None,
        };
        self.ledger = Some(ledger);
        Ok(rebuilt)
    }

    /// Reads the tasks' files into a new ledger.
    fn refill(&mut self, ledger: &Ledger, aside: &Path, now: i64) -> Result<Rebuilt, StorageError> {
        self.spool = Spool::new(self.tasks.clone(), &self.paths.state);
        let tasks = self.spool.restore(ledger, now)?;
        let name = aside.file_name().unwrap_or_default();
        Ok(Rebuilt { set_aside: name.to_string_lossy().into_owned(), tasks })
    }

    /// Ends the cycle in progress, if there is one.
    ///
    /// # Errors
    /// If its folder cannot be moved away; it is found again when the storage is next opened.
    pub fn end_cycle(&mut self) -> Result<(), StorageError> {
        match self.cycle.take() {
            Some(cycle) => {
                self.cycle_open = false;
                cycle.end(&self.paths.training())?;
                self.cycle_open = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Keeps a cycle that cannot be read, one at most, for whoever wants to know why.
    fn set_cycle_aside(&self, now: i64) -> Result<(), StoreError> {
        let training = self.paths.training();
        for entry in fs::read_dir(&training).map_err(StoreError::io("read", &training))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("damaged-") {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        let (from, to) = (training.join("cycle"), training.join(format!("damaged-{now}")));
        fs::rename(&from, &to).map_err(StoreError::io("rename", &from))
    }

    /// Closes everything, to be opened again: after an error what is in memory may be ahead of
    /// what is on disk.
    pub fn close(&mut self) {
        self.ledger = None;
        self.versions = None;
        self.cycle = None;
        self.cycle_open = false;
    }
}
