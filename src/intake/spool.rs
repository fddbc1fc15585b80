//! A scan of the spool folder: look, read, commit.
//!
//! Owns what is in progress between two scans, so that a large file is read in several of them.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::data::TaskId;
use crate::intake::archive::{self, private_folder};
#[cfg(test)]
use crate::intake::commit::Phase;
use crate::intake::take::{Batch, Budget, Finished, ReadOutcome, Reading};
use crate::intake::watch::{FileIdentity, Ready, Watch};
use crate::intake::{IntakeError, ScanReport, SpoolSettings};
use crate::store::ledger::Ledger;
use crate::store::remove_stale_temps;

/// The most that one scan does; a record takes some 20 µs and a commit two or three disk syncs.
const SCAN_FILES: usize = 256;
const SCAN_BYTES: u64 = 4 << 20;
const SCAN_RECORDS: usize = 2000;
/// How much longer than usual a file may pause that ends in the middle of a line.
const TORN_PATIENCE: u32 = 10;

/// The task intake. Only one may work on a state folder at a time.
pub struct Spool {
    pub(super) settings: SpoolSettings,
    pub(super) tasks_dir: PathBuf,
    pub(super) quarantine_dir: PathBuf,
    pub(super) watch: Watch,
    ready: VecDeque<Ready>,
    reading: Option<Reading>,
    pub(super) batch: Batch,
    /// Whether the ledger holds all of the archive, and the folders are there.
    in_order: bool,
    /// Whether the ledger may remember files that an earlier process read and removed.
    stale_sources: bool,
    #[cfg(test)]
    pub(super) after_phase: Option<Box<dyn FnMut(Phase)>>,
}

impl Spool {
    /// An intake from `settings.folder`, which keeps its files in `state_dir`. Touches nothing yet.
    #[must_use]
    pub fn new(settings: SpoolSettings, state_dir: &Path) -> Self {
        Self {
            settings,
            tasks_dir: state_dir.join("tasks"),
            quarantine_dir: state_dir.join("quarantine"),
            watch: Watch::default(),
            ready: VecDeque::new(),
            reading: None,
            batch: Batch::default(),
            in_order: false,
            stale_sources: true,
            #[cfg(test)]
            after_phase: None,
        }
    }

    /// Takes in the files in the folder that have settled: a bounded amount, some tens of
    /// milliseconds; [`ScanReport::more`] says whether to scan again at once. `since_start` is a monotonic
    /// time, `unix_s` the time that goes into names of files.
    ///
    /// # Errors
    /// [`IntakeError`]: the spool or state folder or the ledger cannot be used. Nothing is lost;
    /// scan again once the cause is gone. If [`IntakeError::is_corrupt`], replace the ledger first.
    pub fn scan(
        &mut self,
        ledger: &Ledger,
        since_start: Duration,
        unix_s: i64,
    ) -> Result<ScanReport, IntakeError> {
        let mut report = ScanReport::default();
        let done = self
            .put_in_order(ledger, unix_s, &mut report)
            .and_then(|()| self.work(ledger, since_start, unix_s, &mut report));
        match done {
            Ok(()) => Ok(report),
            Err(error) => {
                // What was read so far may not have become durable: all of it is read again.
                self.in_order = false;
                self.stale_sources = true;
                self.ready.clear();
                self.reading = None;
                self.batch = Batch::default();
                Err(error)
            }
        }
    }

    /// Brings every task of the archive into the ledger, as after [`Ledger::open`] has set a
    /// damaged one aside. A scan does the same, one file at a time; call this to have all tasks
    /// before anything else happens. Returns how many were missing.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn restore(&mut self, ledger: &Ledger, unix_s: i64) -> Result<u64, IntakeError> {
        let mut report = ScanReport::default();
        while !self.in_order {
            self.put_in_order(ledger, unix_s, &mut report)?;
        }
        Ok(report.restored)
    }

    /// Sets tasks aside, so that they are neither trained nor evaluated on, or takes them back
    /// with `false`. Returns how many changed. Also holds after the ledger was lost.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn set_aside(
        &self,
        ledger: &Ledger,
        ids: &[TaskId],
        aside: bool,
    ) -> Result<usize, IntakeError> {
        private_folder(&self.tasks_dir)?;
        let changed = ledger.transaction(|_| ledger.mark_set_aside(ids, aside))?;
        archive::write_set_aside(&self.tasks_dir, &ledger.set_aside_ids()?)?;
        Ok(changed)
    }

    /// Takes back all tasks that are set aside. Returns how many those were.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn take_back_all(&self, ledger: &Ledger) -> Result<usize, IntakeError> {
        self.set_aside(ledger, &ledger.set_aside_ids()?, false)
    }

    /// Makes the folders and loads one archive file that the ledger doesn't know.
    fn put_in_order(
        &mut self,
        ledger: &Ledger,
        unix_s: i64,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        if self.in_order {
            return Ok(());
        }
        for dir in [&self.tasks_dir, &self.quarantine_dir] {
            private_folder(dir)?;
            remove_stale_temps(dir)?;
        }
        let was_empty = ledger.newest_sequence()? == 0;
        let share = self.settings.held_out_share;
        if let Some(restored) = archive::restore_one(&self.tasks_dir, ledger, share)? {
            if was_empty && restored > 0 && ledger.rebuilt_at()?.is_none() {
                // The ledger was not set aside but is gone, and what it knew of commands with it.
                ledger.set_rebuilt_at(unix_s)?;
            }
            report.restored += restored;
            report.more = true;
            return Ok(());
        }
        for source in ledger.kept_sources()? {
            let name = OsStr::from_bytes(&source.name).to_owned();
            self.watch.leave(name, FileIdentity::from_stored(source.identity));
        }
        self.forget_oldest(ledger, unix_s, report)?;
        self.in_order = true;
        Ok(())
    }

    fn work(
        &mut self,
        ledger: &Ledger,
        since_start: Duration,
        unix_s: i64,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        if !self.in_order {
            return Ok(());
        }
        if self.reading.is_none() && self.ready.is_empty() {
            self.look(ledger, since_start, report)?;
        }
        let mut budget = Budget { files: SCAN_FILES, bytes: SCAN_BYTES, records: SCAN_RECORDS };
        while !budget.is_spent() && self.open_next(&mut budget, report) {
            self.read_on(ledger, since_start, &mut budget, report)?;
            if self.batch.is_full() {
                self.commit(ledger, unix_s, report)?;
            }
        }
        // A file that a scan leaves half-read is continued in the next.
        if self.reading.is_none() || !self.batch.finished.is_empty() {
            self.commit(ledger, unix_s, report)?;
        }
        report.unsettled = self.watch.unsettled();
        report.more |= self.reading.is_some() || !self.ready.is_empty();
        Ok(())
    }

    fn look(
        &mut self,
        ledger: &Ledger,
        since_start: Duration,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        let folder = &self.settings.folder;
        if !folder.is_dir() {
            fs::create_dir(folder).map_err(IntakeError::folder("make", folder))?;
        }
        let settle = Duration::from_secs(self.settings.settle_s);
        let max_bytes = self.settings.max_file_mib << 20;
        let look = self.watch.look(folder, settle, max_bytes, since_start, report)?;
        self.ready = look.ready;
        if !look.gone.is_empty() {
            ledger.transaction(|_| {
                look.gone.iter().try_for_each(|name| ledger.drop_source(name.as_bytes()))
            })?;
        }
        if self.stale_sources && self.ready.is_empty() && self.watch.unsettled() == 0 {
            ledger.drop_pending_sources()?;
            self.stale_sources = false;
        }
        Ok(())
    }

    /// Makes sure that a file is being read; false if there is none.
    fn open_next(&mut self, budget: &mut Budget, report: &mut ScanReport) -> bool {
        while self.reading.is_none() {
            let Some(file) = self.ready.pop_front() else { return false };
            let (name, identity) = (file.name.clone(), file.identity.clone());
            let max_line = self.settings.max_line_bytes();
            match Reading::open(&self.settings.folder, file, max_line) {
                Ok(reading) => self.reading = reading,
                // Removed by its writer in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    report.problem(&name, format!("it cannot be read: {error}"));
                    self.watch.leave(name, identity);
                }
            }
            budget.files = budget.files.saturating_sub(1);
        }
        true
    }

    fn read_on(
        &mut self,
        ledger: &Ledger,
        since_start: Duration,
        budget: &mut Budget,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        let Some(mut reading) = self.reading.take() else { return Ok(()) };
        let mut lookup = ledger.lookup()?;
        let share = self.settings.held_out_share;
        match reading.advance(&mut self.batch, &mut lookup, share, budget)? {
            ReadOutcome::Paused => self.reading = Some(reading),
            ReadOutcome::End { torn } if torn && !self.is_final(&reading, since_start) => {}
            ReadOutcome::End { .. } => {
                let Reading { name, identity, duplicates, rejects, .. } = reading;
                report.files += 1;
                report.duplicates += duplicates;
                report.rejected += rejects.count;
                self.batch.finished.push(Finished { name, identity, rejects });
            }
            ReadOutcome::Refused(reason) => {
                report.problem(&reading.name, reason.to_string());
                self.watch.leave(reading.name, reading.identity);
            }
            ReadOutcome::Failed(error) => {
                report.problem(&reading.name, format!("it cannot be read: {error}"));
                self.watch.leave(reading.name, reading.identity);
            }
        }
        Ok(())
    }

    /// Whether to accept a file that ends within a line.
    fn is_final(&mut self, reading: &Reading, since_start: Duration) -> bool {
        let settle = Duration::from_secs(self.settings.settle_s);
        let since = since_start + TORN_PATIENCE * settle;
        self.watch.is_final(&reading.name, &reading.identity, since)
    }
}
