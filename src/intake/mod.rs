//! Takes in task files that are dropped into a folder, at any time, in any number, half-written or
//! broken. No task is lost or taken twice, whenever the process is killed.
//!
//! ```text
//!  spool/x.jsonl ──settled──► read in pieces ──► 1. tasks/<time>-<hash>.jsonl    new tasks, durable
//!                                                2. ledger, one transaction      deduplicated by id
//!                                                3. quarantine/…                 rejected lines
//!                                                4. spool/x.jsonl removed        if it is unchanged
//! ```
//!
//! After a kill at any point the file is still there and is read again: the tasks of step 1 come
//! into the ledger from the archive, those of step 2 are known, and step 3 writes the same file.
//! Many small files share one round of these steps.
//!
//! Owns the folders `tasks` and `quarantine` in the state folder, and what is done with the spool.
//! The tables are the [`Ledger`]'s. Doesn't know when a scan is due or who is told about it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use self::archive::private_folder;
use self::take::{Batch, Budget, Finished, ReadOutcome, Reading};
use self::watch::{FileIdentity, Ready, Watch};
use crate::data::TaskId;
use crate::store::ledger::{Ledger, Source};
use crate::store::remove_stale_temps;

mod archive;
mod error;
mod quarantine;
mod scan;
mod settings;
mod take;
mod watch;

pub use error::IntakeError;
pub use scan::{FileProblem, ScanReport};
pub use settings::SpoolSettings;

/// The most that one scan does; a record takes some 20 µs and a commit two or three disk syncs.
const SCAN_FILES: usize = 256;
const SCAN_BYTES: u64 = 4 << 20;
const SCAN_RECORDS: usize = 2000;
/// How much longer than usual a file may pause that ends in the middle of a line.
const TORN_PATIENCE: u32 = 10;

/// The task intake. Only one may work on a state folder at a time.
pub struct Spool {
    settings: SpoolSettings,
    tasks_dir: PathBuf,
    quarantine_dir: PathBuf,
    watch: Watch,
    ready: VecDeque<Ready>,
    reading: Option<Reading>,
    batch: Batch,
    /// Whether the ledger holds all of the archive, and the folders are there.
    in_order: bool,
    /// Whether the ledger may remember files that an earlier process read and removed.
    stale_sources: bool,
    #[cfg(test)]
    after_phase: Option<Box<dyn FnMut(Phase)>>,
}

/// The steps of a commit, for tests that break it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Archived,
    Recorded,
    Quarantined,
    Removed,
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

    /// Takes in what lies in the folder and has settled: a bounded amount, some tens of
    /// milliseconds; [`ScanReport::more`] says whether to go on at once. `since_start` is a monotonic
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
        // A file in the middle of which a scan ends goes on in the next.
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
                // Removed meanwhile by whoever wrote it.
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

    /// Whether a file that ends within a line is to be taken as it is.
    fn is_final(&mut self, reading: &Reading, since_start: Duration) -> bool {
        let settle = Duration::from_secs(self.settings.settle_s);
        let since = since_start + TORN_PATIENCE * settle;
        self.watch.is_final(&reading.name, &reading.identity, since)
    }

    /// Makes the batch durable, see the module's description.
    fn commit(
        &mut self,
        ledger: &Ledger,
        unix_s: i64,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        let Batch { mut tasks, finished, .. } = std::mem::take(&mut self.batch);
        if tasks.is_empty() && finished.is_empty() {
            return Ok(());
        }
        let first = ledger.newest_sequence()? + 1;
        tasks.iter_mut().zip(first..).for_each(|(new, sequence)| new.sequence = sequence);
        let archived = if tasks.is_empty() {
            None
        } else {
            Some(archive::write(&self.tasks_dir, &tasks, unix_s)?)
        };
        self.reached(Phase::Archived);
        let mut taken_at = Vec::new();
        let (train, held_out) = ledger.transaction(|_| {
            for file in &finished {
                let name = file.name.as_bytes().to_vec();
                let identity = file.identity.as_str().to_owned();
                taken_at.push(ledger.add_source(&Source { name, identity, taken_at: unix_s })?);
            }
            match &archived {
                Some(name) => ledger.add_tasks(name, &tasks),
                None => Ok((0, 0)),
            }
        })?;
        self.reached(Phase::Recorded);
        report.train += train;
        report.held_out += held_out;
        let max_bytes = self.settings.max_quarantine_mib << 20;
        for (file, unix_s) in finished.iter().zip(&taken_at) {
            file.rejects.write(&self.quarantine_dir, &file.name, *unix_s, max_bytes)?;
        }
        self.reached(Phase::Quarantined);
        self.remove(ledger, finished, report)?;
        if train + held_out > 0 {
            self.forget_oldest(ledger, unix_s, report)?;
        }
        Ok(())
    }

    /// Removes the files from the spool, and remembers those that stay.
    fn remove(
        &mut self,
        ledger: &Ledger,
        finished: Vec<Finished>,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        if finished.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for Finished { name, identity, .. } in &finished {
            let path = self.settings.folder.join(name);
            // Written again meanwhile: then it is another file, to be read in its turn.
            if !FileIdentity::at(&path).is_ok_and(|now| now == *identity) {
                continue;
            }
            if let Err(error) = self.clear_away(&path, name) {
                let reason = format!(
                    "its tasks were taken, but the file stays because it cannot be removed: {error}"
                );
                report.problem(name, reason);
                kept.push((name.clone(), identity.clone()));
            }
        }
        self.reached(Phase::Removed);
        ledger.transaction(|_| {
            for Finished { name, .. } in &finished {
                if kept.iter().any(|(kept, _)| kept == name) {
                    ledger.keep_source(name.as_bytes())?;
                } else {
                    ledger.drop_source(name.as_bytes())?;
                }
            }
            Ok::<_, IntakeError>(())
        })?;
        kept.into_iter().for_each(|(name, identity)| self.watch.leave(name, identity));
        Ok(())
    }

    fn clear_away(&self, path: &Path, name: &OsStr) -> io::Result<()> {
        if !self.settings.keep_taken {
            return fs::remove_file(path);
        }
        let folder = self.settings.folder.join("taken");
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let free = (0..10_000).map(|n| numbered(name, n)).find(|name| {
            fs::symlink_metadata(folder.join(name))
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        });
        match free {
            Some(name) => fs::rename(path, folder.join(name)),
            None => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn forget_oldest(
        &self,
        ledger: &Ledger,
        unix_s: i64,
        report: &mut ScanReport,
    ) -> Result<(), IntakeError> {
        let (tasks, bytes) = (self.settings.max_tasks, self.settings.max_text_mib << 20);
        report.forgotten += ledger.transaction(|_| ledger.forget_oldest(tasks, bytes))?;
        archive::tidy(&self.tasks_dir, ledger, unix_s)
    }

    #[cfg(test)]
    fn reached(&mut self, phase: Phase) {
        if let Some(after) = &mut self.after_phase {
            after(phase);
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests break off here")]
    fn reached(&mut self, _: Phase) {}
}

/// The name, with a number in front unless that is 0.
fn numbered(name: &OsStr, n: u64) -> OsString {
    if n == 0 {
        return name.to_owned();
    }
    let mut numbered = OsString::from(format!("{n}-"));
    numbered.push(name);
    numbered
}

#[cfg(test)]
mod tests;
