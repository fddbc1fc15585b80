//! What the worker says, and what follows from it.

use super::{Driver, wall};
use crate::contract::event::{Ending, Event, Sentence};
use crate::daemon::cycle::Stage;
use crate::daemon::faults::FaultKind;
use crate::daemon::memory::{KnownModel, Remembered};
use crate::daemon::scheduler::Job;
use crate::daemon::trouble::Trouble;
use crate::data::{TaskId, TaskLimits, read_tasks};
use crate::worker::child::{End, WorkerEvent};
use crate::worker::hash::Stamp;
use crate::worker::protocol::{Failure, FailureKind, FromWorker, Loaded};

/// Workers in a row that may die without having got anywhere until the cycle is given up.
const MAX_CRASHES: u32 = 5;

impl Driver {
    /// Acts on what the worker has said.
    pub(super) fn worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Message(message) => self.worker_message(message),
            WorkerEvent::Ended(end) => self.worker_ended(&end),
        }
    }

    fn worker_message(&mut self, message: FromWorker) {
        match message {
            FromWorker::Loaded(loaded) => self.model_loaded(*loaded),
            FromWorker::Began(began) => {
                log::debug!("the worker begins at step {} with {} tasks", began.step, began.tasks);
            }
            FromWorker::Beat { .. } | FromWorker::Progress { .. } => {}
            FromWorker::Step(metrics) => {
                self.got_on();
                let steps = self.config.learn.steps;
                log::info!(
                    event = "step", step = metrics.step, reward = metrics.reward;
                    "step {}/{steps}: reward {:.3}, log p(answer) {:.3}, {:.1} s",
                    metrics.step, metrics.reward, metrics.log_p_answer, metrics.total_s
                );
                self.teller.progress(&metrics, steps);
                self.trainer.last_step = Some(metrics);
            }
            FromWorker::Sentinel { trip, .. } => {
                self.got_on();
                self.tell(Event::Sentinel {
                    kind: trip.kind.name().to_owned(),
                    step: trip.step,
                    sentence: Sentence::new(&trip.sentence),
                });
            }
            FromWorker::Trained { steps } => {
                log::info!(event = "trained", step = steps; "the cycle's {steps} steps are done");
                self.job_ended();
                self.advance(Stage::Evaluating);
            }
            FromWorker::GaveUp { sentence } => {
                self.job_ended();
                self.quarantine_tasks(&sentence);
            }
            FromWorker::Compared { .. } => {
                let job = self.trainer.job();
                self.job_ended();
                match job {
                    Some(Job::Check) => self.judge_check(),
                    _ => self.advance(Stage::Judging),
                }
            }
            FromWorker::Stopped => self.job_ended(),
            FromWorker::Failed(failure) => self.job_failed(failure),
        }
    }

    /// The worker does what it is there for.
    fn got_on(&mut self) {
        self.trainer.crashes = 0;
        self.mended(FaultKind::Worker);
    }

    fn job_ended(&mut self) {
        self.got_on();
        self.trainer.set_job(None);
    }

    /// A model is loaded: is it the one that is known?
    fn model_loaded(&mut self, loaded: Loaded) {
        let known = KnownModel { sha256: loaded.sha256.clone(), name: loaded.file.clone() };
        if known.sha256 != self.model.sha256 {
            if !self.model.sha256.is_empty() {
                self.tell(Event::ModelChanged {
                    expected_sha256: self.model.sha256.clone(),
                    found_sha256: known.sha256.clone(),
                });
            }
            if self.with_ledger(|ledger| known.keep(ledger)).is_none() {
                return;
            }
            self.model = known;
        }
        // Also if the model is known: a kill may have come before the switch.
        let switched = self.switch_base();
        self.check(switched);
        self.mended(FaultKind::Model);
        self.teller.loaded(&loaded);
        self.trainer.loaded = Some(loaded);
        self.publish_state();
    }

    /// Makes the newest adapter for the model at hand the active one; without one, the base model
    /// serves alone. What was learned on another model is kept, for that one's return.
    fn switch_base(&mut self) -> Result<(), Trouble> {
        let Some(versions) = &mut self.storage.versions else { return Ok(()) };
        let Some(active) = versions.active()? else { return Ok(()) };
        let base = |id| versions.get(id).map(|v| v.manifest.adapter.base_sha256);
        if base(active)? == self.model.sha256 {
            return Ok(());
        }
        let fitting = versions.list()?.versions.into_iter().rfind(|version| {
            version.rolled_back.is_none()
                && version.manifest.adapter.base_sha256 == self.model.sha256
        });
        match fitting {
            Some(version) => versions.activate(version.id).map(|_| ())?,
            None => versions.deactivate()?,
        }
        self.adapter_switched(Some(active.to_string()), "the model is another one")
    }

    /// The sentinels have given up: these tasks are not learned from again until somebody says so.
    fn quarantine_tasks(&mut self, sentence: &str) {
        let Some(cycle) = &self.storage.cycle else { return };
        let step = self.trainer.last_step.as_ref().map_or(0, |metrics| metrics.step);
        let read = read_tasks(&cycle.tasks(), &TaskLimits::default());
        let ids: Vec<TaskId> = read
            .map(|set| set.tasks.iter().map(crate::data::Task::id).collect())
            .unwrap_or_default();
        self.tell(Event::RunGaveUp { step, sentence: Sentence::new(sentence) });
        let now = wall();
        let (rebuilt, aside) =
            self.storage.with_spool(now, |spool, ledger| spool.set_aside(ledger, &ids, true));
        self.note_rebuilt(rebuilt);
        if let Some(tasks) = aside.and_then(|aside| self.check(aside)) {
            let why = "training on them failed three times; `restore_tasks` takes them back";
            self.tell(Event::TaskSetQuarantined {
                tasks: tasks as u64,
                sentence: Sentence::new(why),
            });
            self.fail_cycle(sentence);
        }
    }

    /// A job, or the loading, could not be done.
    fn job_failed(&mut self, failure: Failure) {
        let Failure { kind, sentence } = failure;
        let job = self.trainer.job();
        self.trainer.set_job(None);
        let fault = match kind {
            FailureKind::Model => FaultKind::Model,
            FailureKind::DiskFull | FailureKind::ReadOnly => FaultKind::Disk,
            FailureKind::Settings if job.is_none() => FaultKind::Settings,
            FailureKind::Memory | FailureKind::Busy => FaultKind::Worker,
            FailureKind::ModelChanged => {
                log::info!(event = "model_reload"; "the model is loaded anew: {sentence}");
                return self.trainer.kill(self.now());
            }
            FailureKind::OtherRun => {
                let dropped = self.drop_cycle(&sentence);
                self.check(dropped);
                return self.count_tasks();
            }
            FailureKind::Tasks | FailureKind::Settings | FailureKind::Damaged => {
                self.repair_versions();
                return match job {
                    Some(job) => self.give_up(job, &sentence),
                    None => self.fail_cycle(&sentence),
                };
            }
            FailureKind::Protocol | FailureKind::Other => {
                // It ends by itself, and that is counted.
                log::error!(event = "worker_failed"; "the worker failed: {sentence}");
                return;
            }
        };
        if fault == FaultKind::Model {
            self.broken_model = Stamp::of(&self.config.model).ok();
        }
        self.trainer.kill(self.now());
        self.trouble(Trouble::new(fault, sentence));
    }

    fn worker_ended(&mut self, end: &End) {
        let job = self.trainer.job();
        if self.trainer.gone() {
            return;
        }
        let ending = match end {
            End::Exited(code) => Ending::Exit(*code),
            End::Killed(signal) => Ending::Signal(*signal),
            End::Broken(_) => Ending::Signal(9),
        };
        if let End::Broken(why) = end {
            log::error!(event = "worker_broken"; "the worker broke its rules: {why}");
        }
        self.tell(Event::WorkerDied { ending });
        self.got_nowhere(job, &end.to_string());
    }

    /// A worker has ended without having got on: the first time another takes its place at once, then
    /// after longer and longer waits, and in the end its job is given up.
    fn got_nowhere(&mut self, job: Option<Job>, why: &str) {
        self.trainer.crashes += 1;
        match job {
            Some(job) if self.trainer.crashes >= MAX_CRASHES => {
                self.trainer.crashes = 0;
                self.give_up(job, &format!("it was tried {MAX_CRASHES} times, at last {why}"));
            }
            _ if self.trainer.crashes > 1 => {
                self.trouble(Trouble::new(FaultKind::Worker, why));
            }
            _ => {}
        }
    }

    /// A job that cannot be done.
    fn give_up(&mut self, job: Job, why: &str) {
        match job {
            Job::Check => {
                let forgotten = self.forget_check(why);
                self.check(forgotten);
            }
            Job::Train | Job::Evaluate => self.fail_cycle(why),
        }
    }

    /// A worker that computes nothing though it should is ended; another one goes on where it was.
    pub(super) fn watch_worker(&mut self) {
        let now = self.now();
        let after_s = self.config.compute.stall_s;
        let stalled = self.trainer.worker().is_some_and(|worker| worker.is_stalled());
        if stalled && self.trainer.is_running() {
            let job = self.trainer.job();
            self.tell(Event::WorkerStalled { after_s });
            self.trainer.kill(now);
            self.got_nowhere(job, "the worker made no progress");
        }
        self.watch_model();
    }

    /// A model that was replaced on disk is loaded anew; one that is gone is a fault.
    fn watch_model(&mut self) {
        let path = &self.config.model;
        match Stamp::of(path) {
            Ok(stamp) => {
                let loaded = self.trainer.stamp;
                if self.trainer.is_there() && loaded.is_some_and(|loaded| loaded != stamp) {
                    log::warn!(event = "model_replaced"; "{} was replaced", path.display());
                    self.trainer.kill(self.now());
                }
                if self.faults.has(FaultKind::Model) && self.broken_model != Some(stamp) {
                    self.broken_model = Some(stamp);
                    self.faults.try_again(FaultKind::Model, self.began.elapsed());
                }
            }
            Err(error) => {
                let sentence = format!("{}: {error}; put the model there", path.display());
                self.trouble(Trouble::new(FaultKind::Model, sentence));
                self.broken_model = None;
            }
        }
    }

    /// It is time to try a model again that could not be loaded, even though its file is the same.
    pub(super) fn retry_model(&mut self) {
        if Stamp::of(&self.config.model).is_ok() {
            self.faults.try_again(FaultKind::Model, self.began.elapsed());
        }
    }
}
