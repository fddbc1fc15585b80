//! Effects, carried out in their order up to the first that fails.

use super::{Driver, wall};
use crate::contract::event::{Event as Told, Sentence};
use crate::daemon::adapters::CheckFolder;
use crate::daemon::adapters::hook::{HookEvent, HookOutcome};
use crate::daemon::effect::{AdapterEffect, CommandEffect, CycleEffect, Effect};
use crate::daemon::faults::FaultKind;
use crate::daemon::storage::StorageError;
use crate::data::{Task, TaskId, TaskLimits, read_tasks};
use crate::store::versions::CURRENT;
use crate::worker::child::WorkerEvent;
use crate::worker::hash::Stamp;

impl Driver {
    /// Carries effects out; what fails becomes a fault. True if nothing has failed.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) -> bool {
        let done = self.carry_out(effects);
        self.ok_or_raise(done).is_some()
    }

    /// Carries effects out, up to the first that fails.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), StorageError> {
        effects.into_iter().try_for_each(|effect| self.apply(effect))
    }

    fn apply(&mut self, effect: Effect) -> Result<(), StorageError> {
        match effect {
            Effect::Tell(event) => self.tell(event),
            Effect::PublishState => self.publish_state(),
            Effect::PublishProgress(metrics) => {
                self.trained_now();
                self.reporter.progress(&metrics, self.settings.effective.learn.steps);
            }
            Effect::Commit(commit) => self.commit(*commit)?,
            Effect::CountTasks => self.count_tasks(),
            Effect::OpenStorage => self.open_storage(),
            Effect::Raise(kind, sentence) => self.raise(kind, &sentence),
            Effect::Mend(kind) => self.mend(kind),
            Effect::TryAgain(kind) => self.faults.try_again(kind, self.pace.now()),
            Effect::RetryModel => {
                // Also if its file is the same as before.
                if Stamp::of(&self.settings.effective.model).is_ok() {
                    self.faults.try_again(FaultKind::Model, self.pace.now());
                }
            }
            Effect::Cycle(effect) => self.apply_to_cycle(effect)?,
            Effect::Adapter(effect) => self.apply_to_adapters(effect)?,
            Effect::Command(effect) => self.apply_to_command(effect)?,
            Effect::KillWorker => self.supervisor.kill(self.pace.now()),
            Effect::ModelLoaded(loaded) => self.model_loaded(&loaded)?,
        }
        Ok(())
    }

    fn apply_to_cycle(&mut self, effect: CycleEffect) -> Result<(), StorageError> {
        let Some(cycle) = &mut self.storage.cycle else { return Ok(()) };
        let state = &cycle.record.state;
        let next = match effect {
            CycleEffect::Trained => state.trained(),
            CycleEffect::Comparing(baseline) => state.comparing(baseline),
            CycleEffect::Compared => state.compared(),
            CycleEffect::CompareAgain => state.again(),
            CycleEffect::Published(version) => state.published(version),
            CycleEffect::Publish(decision) => return self.publish(&decision),
            CycleEffect::Promote(version) => return self.promote(&version),
            CycleEffect::End => return self.storage.end_cycle(),
            CycleEffect::Drop(why) => {
                log::warn!(event = "cycle_dropped", reason = why.as_str(); "the cycle is replaced by a new one: {why}");
                self.storage.end_cycle()?;
                self.count_tasks();
                return Ok(());
            }
            CycleEffect::Fail(why) => {
                let effects = self.cycles.failed(&cycle.record, &why, wall());
                return self.carry_out(effects);
            }
            CycleEffect::SetTasksAside(why) => return self.set_tasks_aside(&why),
        };
        Ok(next.map_or(Ok(()), |next| cycle.change(next))?)
    }

    fn apply_to_adapters(&mut self, effect: AdapterEffect) -> Result<(), StorageError> {
        match effect {
            AdapterEffect::RollBack { version, reason } => self.roll_back(&version, &reason)?,
            AdapterEffect::Changed => {
                self.count_tasks();
                self.carry_out(vec![CommandEffect::AnswerCheck.into(), Effect::PublishState])?;
            }
            AdapterEffect::Retain => self.retain_versions(),
            AdapterEffect::Repair => self.repair_versions(),
            AdapterEffect::JudgeCheck => {
                let done = self.judge_check();
                self.ok_or_raise(done);
                self.count_tasks();
            }
            AdapterEffect::MarkRollingBack => {
                if let Some(mut folder) = CheckFolder::open(&self.storage.paths.check())? {
                    folder.mark_rolling_back()?;
                }
            }
            AdapterEffect::EndCheck => {
                if let Some(folder) = CheckFolder::open(&self.storage.paths.check())? {
                    folder.end()?;
                }
            }
            AdapterEffect::ForgetCheck(why) => self.forget_check(&why)?,
        }
        Ok(())
    }

    /// Acts on what the worker has said.
    pub(super) fn worker_event(&mut self, event: WorkerEvent) {
        let effects = match event {
            WorkerEvent::Message(message) => {
                self.supervisor.heard(message, self.settings.effective.learn.steps)
            }
            WorkerEvent::Ended(end) => self.supervisor.ended(&end),
        };
        self.perform(effects);
    }

    /// Training has given up on the cycle's tasks: they are not learned from again until an operator
    /// restores them.
    fn set_tasks_aside(&mut self, why: &str) -> Result<(), StorageError> {
        let Some(cycle) = &self.storage.cycle else { return Ok(()) };
        let read = read_tasks(&cycle.tasks(), &TaskLimits::default());
        let ids: Vec<TaskId> =
            read.map(|set| set.tasks.iter().map(Task::id).collect()).unwrap_or_default();
        let set_aside =
            self.with_spool(|spool, ledger| spool.set_aside(ledger, &ids, true)).transpose()?;
        let Some(tasks) = set_aside else { return Ok(()) };
        let sentence = "training on them failed three times; `restore_tasks` takes them back";
        self.tell(Told::TaskSetQuarantined {
            tasks: tasks as u64,
            sentence: Sentence::new(sentence),
        });
        self.carry_out(vec![CycleEffect::Fail(why.to_owned()).into()])
    }

    /// Starts the hook if it is due.
    pub(super) fn run_due_hook(&mut self) {
        if self.pace.is_stopping() {
            return;
        }
        let Some(switch) = self.adapters.hook.start() else { return };
        let settings = self.settings.effective.hook.clone();
        if settings.command.is_empty() {
            return self.hook_ended(None);
        }
        let adapter = self.storage.paths.adapters().join(CURRENT);
        self.channels.hook = Some(tokio::spawn(async move {
            let event = HookEvent {
                kind: switch.kind,
                adapter: &adapter,
                version: switch.version.as_deref().unwrap_or(""),
                previous: switch.previous.as_deref(),
            };
            crate::daemon::adapters::hook::run(&settings, &event).await
        }));
    }

    /// The hook has ended; `None` if it broke down, or there is none.
    pub(super) fn hook_ended(&mut self, outcome: Option<&HookOutcome>) {
        self.channels.hook = None;
        let effects = self.adapters.hook_ended(outcome);
        self.perform(effects);
    }
}
