//! Making a batch durable: archive, ledger, quarantine, and only then the spool.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use crate::intake::take::{Batch, Finished};
use crate::intake::watch::FileIdentity;
use crate::intake::{IntakeError, ScanReport, Spool, archive};
use crate::store::ledger::{Ledger, Source};

/// The steps of a commit, for tests that break it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Archived,
    Recorded,
    Quarantined,
    Removed,
}

impl Spool {
    /// Makes the batch durable, see the module's description.
    pub(super) fn commit(
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
            // Written again in the meantime: it is then another file, which a later scan reads.
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

    pub(super) fn forget_oldest(
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
