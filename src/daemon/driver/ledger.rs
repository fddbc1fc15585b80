//! The ledger and the rest of the storage, as the driver uses them: opened when something is missing,
//! recalled, written in transactions, and a fault when they fail.

use super::{Driver, wall};
use crate::contract::event::Event as Told;
use crate::daemon::adapters::{ActiveAdapter, HookDue};
use crate::daemon::cycle::LastCycle;
use crate::daemon::effect::{CommandStep, Commit};
use crate::daemon::faults::FaultKind;
use crate::daemon::operator::OperatorState;
use crate::daemon::storage::{Rebuilt, Remembered, StorageError};
use crate::daemon::supervisor::KnownModel;
use crate::intake::{IntakeError, ScanReport, Spool};
use crate::store::ledger::{Ledger, LedgerError};

impl Driver {
    /// Opens what is not open of the storage, and recalls what it knows.
    pub(super) fn open_storage(&mut self) {
        match self.storage.open(wall()) {
            Ok(rebuilt) => {
                self.note_rebuilt(rebuilt);
                // Raised again if what is recalled cannot be read or written.
                let now = self.pace.now();
                self.faults.try_again(FaultKind::Disk, now);
                self.faults.try_again(FaultKind::Ledger, now);
                self.recall();
            }
            Err(error) => self.raise(error.kind, &error.sentence),
        }
    }

    /// Reads back what the ledger remembers, and completes what a kill has left half done.
    fn recall(&mut self) {
        let recalled = self.with_ledger(|ledger| {
            Ok((
                OperatorState::recall(ledger)?,
                LastCycle::recall(ledger)?,
                ActiveAdapter::recall(ledger)?,
                KnownModel::recall(ledger)?,
                HookDue::recall(ledger)?,
            ))
        });
        if let Some((operator, last, active, model, hook)) = recalled {
            self.operator.set(operator);
            (self.cycles.last, self.adapters.active) = (last, active);
            self.supervisor.model.known = model;
            self.adapters.hook.set(hook.into());
            self.recall_trained();
            self.apply_settings();
        }
        self.repair_versions();
        self.resume_commands();
        self.reconcile_adapter();
        self.count_tasks();
    }

    /// A switch that a kill has left untold is told; after the ledger was lost, that is every switch.
    fn reconcile_adapter(&mut self) {
        let record = self.storage.cycle.as_ref().map(|cycle| &cycle.record);
        let publishing = record.is_some_and(|record| record.state.is_promoting());
        if publishing || !self.storage.is_open() {
            return;
        }
        if self.adapters.active.version.is_none()
            && let Some(newest) = self.with_ledger(Ledger::newest_sequence)
        {
            self.adapters.active.newest = newest;
        }
        let known = self.adapters.active.version.clone();
        let switched = self.adapter_switched(known, "it was found so at the start");
        self.ok_or_raise(switched);
    }

    /// Writes to the ledger, all or nothing, and takes over what was written.
    pub(super) fn commit(&mut self, commit: Commit) -> Result<(), StorageError> {
        let Commit { operator, last_cycle, active, hook, model, commands, event } = commit;
        let operator = operator.map(|change| self.operator.state().with(change));
        let due = hook.clone().map(HookDue::from);
        let reporter = &self.reporter;
        let (rebuilt, result) = self.storage.with_ledger(wall(), |ledger| {
            ledger.transaction(|_| {
                keep(operator.as_ref(), ledger)?;
                keep(last_cycle.as_ref(), ledger)?;
                keep(active.as_ref(), ledger)?;
                keep(due.as_ref(), ledger)?;
                keep(model.as_ref(), ledger)?;
                for step in &commands {
                    match step {
                        CommandStep::Started(id) => reporter.start(ledger, id)?,
                        CommandStep::Ended(id, outcome) => {
                            reporter.finish(ledger, id, outcome.clone())?;
                        }
                    }
                }
                event.as_ref().map_or(Ok(()), |event| reporter.enqueue(ledger, event))
            })
        });
        self.note_rebuilt(rebuilt);
        result?;
        if let Some(state) = operator {
            self.operator.set(state);
        }
        if let Some(last) = last_cycle {
            self.cycles.last = last;
        }
        if let Some(active) = active {
            self.adapters.active = active;
        }
        if let Some(due) = hook {
            self.adapters.hook.set(due);
        }
        if let Some(model) = model {
            self.supervisor.model.known = model;
        }
        if let Some(event) = event {
            self.reporter.told_in_transaction(&event);
        }
        Ok(())
    }

    /// A ledger was rebuilt on the way.
    pub(super) fn note_rebuilt(&mut self, rebuilt: Option<Rebuilt>) {
        let Some(Rebuilt { set_aside, tasks }) = rebuilt else { return };
        if let Some(ledger) = &self.storage.ledger
            && let Ok(Some(at)) = ledger.rebuilt_at()
        {
            self.reporter.refuse_issued_until(u64::try_from(at).unwrap_or(0));
        }
        self.tell(Told::LedgerRebuilt { set_aside, tasks });
    }

    /// Does `work` with the ledger; what fails becomes a fault.
    pub(super) fn with_ledger<T>(
        &mut self,
        work: impl FnMut(&Ledger) -> Result<T, LedgerError>,
    ) -> Option<T> {
        let (rebuilt, result) = self.storage.with_ledger(wall(), work);
        if rebuilt.is_some() {
            self.note_rebuilt(rebuilt);
            self.count_tasks();
        }
        self.ok_or_raise(result)
    }

    /// Does `work` with the intake and the ledger; nothing without a ledger.
    pub(super) fn with_spool<T>(
        &mut self,
        work: impl FnOnce(&mut Spool, &Ledger) -> Result<T, IntakeError>,
    ) -> Option<Result<T, StorageError>> {
        let (rebuilt, result) = self.storage.with_spool(wall(), work);
        self.note_rebuilt(rebuilt);
        result
    }

    /// A result's value; what failed becomes a fault.
    pub(super) fn ok_or_raise<T, E: Into<StorageError>>(
        &mut self,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let StorageError { kind, sentence } = error.into();
                self.raise(kind, &sentence);
                None
            }
        }
    }

    /// Notes a fault, and tells of it if it is new.
    pub(super) fn raise(&mut self, kind: FaultKind, sentence: &str) {
        if matches!(kind, FaultKind::Disk | FaultKind::Ledger) {
            self.storage.close();
        }
        if let Some(event) = self.faults.report(kind, sentence, self.pace.now()) {
            self.tell(event);
        }
    }

    /// The cause of a fault is gone.
    pub(super) fn mend(&mut self, kind: FaultKind) {
        if let Some(event) = self.faults.mend(kind, &self.supervisor.model.known.sha256) {
            self.tell(event);
        }
    }

    /// Takes in what lies in the tasks' folder. True if there is more.
    pub(super) fn take_tasks(&mut self) -> bool {
        let (since, now) = (self.pace.now(), wall());
        let (rebuilt, scanned) =
            self.storage.with_spool(now, |spool, ledger| spool.scan(ledger, since, now));
        if rebuilt.is_some() {
            self.note_rebuilt(rebuilt);
            self.recall();
        }
        let Some(intake) = scanned.and_then(|scanned| self.ok_or_raise(scanned)) else {
            return false;
        };
        self.mend(FaultKind::Tasks);
        if !intake.is_quiet() || intake.rejected > 0 {
            self.tell_intake(&intake);
            self.count_tasks();
        }
        intake.more
    }

    fn tell_intake(&mut self, intake: &ScanReport) {
        let count = intake.train + intake.held_out;
        if count > 0 || intake.rejected > 0 {
            self.tell(Told::TasksTaken { count, rejected: intake.rejected });
        }
        for problem in &intake.problems {
            log::warn!(event = "spool_trouble"; "{}: {}", problem.file, problem.reason);
        }
        if intake.rejected > 0 {
            let (lines, files) = (intake.rejected, intake.files);
            self.tell(Told::LinesQuarantined { lines, files });
        }
    }

    /// Counts the tasks again, after they or what they are counted from have changed.
    pub(super) fn count_tasks(&mut self) {
        let (last, judged) = (self.cycles.last.newest, self.adapters.active.newest);
        let counted = self.with_ledger(|ledger| {
            let (new_tasks, _) = ledger.tasks_after(last)?;
            let (_, fresh) = ledger.tasks_after(judged)?;
            Ok((ledger.task_counts()?, new_tasks, fresh))
        });
        if let Some((counts, new_tasks, fresh)) = counted {
            (self.cycles.counts, self.cycles.new_tasks) = (counts, new_tasks);
            self.adapters.fresh_held_out = fresh;
        }
    }
}

fn keep<T: Remembered>(value: Option<&T>, ledger: &Ledger) -> Result<(), LedgerError> {
    value.map_or(Ok(()), |value| value.keep(ledger))
}
