//! What the driver keeps up: storage that is open, faults that are looked at again, tasks that are taken
//! in, and settings that may change while it runs.

use std::time::Duration;

use super::{Driver, wall};
use crate::config::Config;
use crate::contract::event::{Event, Sentence};
use crate::daemon::activity::{Activity, IdleJudge};
use crate::daemon::faults::FaultKind;
use crate::daemon::memory::{HookDue, Judged, KnownModel, LastCycle, Remembered, Wishes};
use crate::daemon::trouble::Trouble;
use crate::store::ledger::{Ledger, LedgerError};

impl Driver {
    /// Opens what storage is missing, and recalls what it knows.
    pub(super) fn open_storage(&mut self) {
        let now = wall();
        match self.storage.open(now) {
            Ok(rebuilt) => {
                self.note_rebuilt(rebuilt);
                // Raised anew if what it recalls cannot be read or written.
                let now = self.now();
                self.faults.try_again(FaultKind::Disk, now);
                self.faults.try_again(FaultKind::Ledger, now);
                self.recall();
            }
            Err(trouble) => self.trouble(trouble),
        }
    }

    /// Reads back what the ledger remembers.
    pub(super) fn recall(&mut self) {
        let recalled = self.with_ledger(|ledger| {
            Ok((
                Wishes::recall(ledger)?,
                LastCycle::recall(ledger)?,
                Judged::recall(ledger)?,
                KnownModel::recall(ledger)?,
                HookDue::recall(ledger)?,
            ))
        });
        if let Some((wishes, last, judged, model, hook_due)) = recalled {
            (self.wishes, self.last, self.judged) = (wishes, last, judged);
            (self.model, self.hook_due) = (model, hook_due);
            self.apply_settings();
        }
        self.repair_versions();
        self.reconcile_commands();
        self.reconcile_adapter();
        self.count_tasks();
    }

    /// What was switched before a kill, and not told, is told; after the ledger was lost, that is all.
    fn reconcile_adapter(&mut self) {
        let publishing =
            self.storage.cycle.as_ref().is_some_and(|cycle| cycle.record.published.is_some());
        if publishing || !self.storage.is_open() {
            return;
        }
        if self.judged.version.is_none()
            && let Some(newest) = self.with_ledger(Ledger::newest_sequence)
        {
            self.judged.newest = newest;
        }
        let known = self.judged.version.clone();
        let switched = self.adapter_switched(known, "so it was found at the start");
        self.check(switched);
    }

    /// A ledger was built anew on the way.
    pub(super) fn note_rebuilt(&mut self, rebuilt: Option<crate::daemon::storage::Rebuilt>) {
        if let Some(rebuilt) = rebuilt {
            self.tell_rebuilt(rebuilt);
        }
    }

    /// Does `work` with the ledger; what fails becomes a fault.
    pub(super) fn with_ledger<T>(
        &mut self,
        work: impl FnMut(&Ledger) -> Result<T, LedgerError>,
    ) -> Option<T> {
        let now = wall();
        let (rebuilt, result) = self.storage.with_ledger(now, work);
        if let Some(rebuilt) = rebuilt {
            self.tell_rebuilt(rebuilt);
            self.count_tasks();
        }
        self.check(result)
    }

    /// A result's value; what failed becomes a fault.
    pub(super) fn check<T, E: Into<Trouble>>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.trouble(error.into());
                None
            }
        }
    }

    /// Notes a fault, and tells of it if it is new.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        let Trouble { kind, sentence } = trouble;
        if matches!(kind, FaultKind::Disk | FaultKind::Ledger) {
            self.storage.close();
        }
        let now = self.now();
        if self.faults.raise(kind, sentence.clone(), now) {
            let reason = Sentence::new(sentence);
            self.tell(match kind {
                FaultKind::Model => Event::ModelMissing { sentence: reason },
                _ => Event::Degraded { reason },
            });
        }
    }

    /// The cause of a fault is gone.
    pub(super) fn mended(&mut self, kind: FaultKind) {
        if self.faults.clear(kind) {
            let sentence = Sentence::new(format!("{} works again", kind.name()));
            self.tell(match kind {
                FaultKind::Model => Event::ModelBack { sha256: self.model.sha256.clone() },
                _ => Event::Recovered { sentence },
            });
        }
    }

    /// Looks whether the causes of faults are gone.
    pub(super) fn retry_faults(&mut self) {
        let now = self.now();
        for kind in self.faults.proven(now) {
            if matches!(kind, FaultKind::Disk | FaultKind::Ledger) && self.storage.is_open() {
                self.mended(kind);
            }
        }
        let held = self.faults.holds(FaultKind::Disk) || self.faults.holds(FaultKind::Ledger);
        if !self.storage.is_open() && !held {
            self.open_storage();
        }
        for kind in self.faults.due(now) {
            match kind {
                FaultKind::Disk | FaultKind::Ledger => self.open_storage(),
                FaultKind::Model => self.retry_model(),
                // Trying again is the only way to know.
                FaultKind::Worker => self.faults.try_again(FaultKind::Worker, now),
                // Mended by a reload, or by a scan that succeeds.
                FaultKind::Settings | FaultKind::Tasks => {}
            }
        }
    }

    /// Takes in what lies in the tasks' folder.
    pub(super) fn take_tasks(&mut self) {
        let (since, now) = (self.began.elapsed(), wall());
        let (rebuilt, scanned) =
            self.storage.with_spool(now, |spool, ledger| spool.scan(ledger, since, now));
        if let Some(rebuilt) = rebuilt {
            self.tell_rebuilt(rebuilt);
            self.recall();
        }
        self.more_waiting = false;
        let Some(intake) = scanned.and_then(|scanned| self.check(scanned)) else { return };
        self.mended(FaultKind::Tasks);
        self.more_waiting = intake.more;
        if !intake.is_quiet() || intake.rejected > 0 {
            self.tell_intake(&intake);
            self.count_tasks();
        }
    }

    /// Counts the tasks anew, after they have changed.
    pub(super) fn count_tasks(&mut self) {
        let (last, judged) = (self.last.newest, self.judged.newest);
        let counted = self.with_ledger(|ledger| {
            let (new_tasks, _) = ledger.tasks_after(last)?;
            let (_, fresh) = ledger.tasks_after(judged)?;
            Ok((ledger.task_counts()?, new_tasks, fresh))
        });
        if let Some(counted) = counted {
            (self.counts, self.new_tasks, self.fresh_held_out) = counted;
        }
    }

    /// Goes on with other settings.
    pub(super) fn use_config(&mut self, config: Config) {
        if config.idle != self.config.idle {
            let (root, state) = (self.start.root.clone(), config.state_dir.clone());
            match Activity::new(config.idle.clone(), root, state) {
                Ok(activity) => {
                    self.activity = activity;
                    self.judge = IdleJudge::new(&config.idle);
                }
                Err(error) => log::error!("[idle] stays as it was: {error}"),
            }
        }
        self.scheduler.set_unload_after(Duration::from_secs(config.compute.unload_after_s));
        self.storage.set_tasks(config.tasks.clone());
        let reload = config.model != self.config.model || config.compute != self.config.compute;
        if reload {
            self.trainer.kill(self.now());
        }
        if reload || config.learn != self.config.learn {
            self.mended(FaultKind::Settings);
        }
        let reopen = self.storage.set_adapters(config.adapters.clone());
        self.config = config;
        if reopen {
            self.open_storage();
        }
    }

    /// Reads the configuration again; one that cannot be used changes nothing.
    pub(super) fn reload(&mut self) {
        self.manager.reloading();
        match Config::load(&self.start.config_path) {
            Ok(config) => {
                let fixed = |c: &Config| (c.state_dir.clone(), c.device.clone(), c.mqtt.clone());
                if fixed(&config) != fixed(&self.start.config) {
                    log::warn!("state_dir, [device] and [mqtt] take effect at the next start");
                }
                self.start.config = config;
                self.apply_settings();
                self.mended(FaultKind::Settings);
                log::info!(event = "reloaded"; "the configuration was read again");
            }
            Err(errors) => {
                log::error!(event = "reload_failed"; "the configuration stays as it was: {errors}");
            }
        }
        self.manager.ready();
    }
}
