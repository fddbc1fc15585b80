//! The worker process: whether it is there, what it does, and what follows from what it says.
//!
//! ```text
//!   absent ──► loading ──► ready ◄──► busy
//!      ▲          │          │         │
//!      └───────── └─ ending ◄┴─────────┘      (or it ends by itself)
//! ```
//!
//! Knows nothing of pipes: the process is anything that can be killed and says whether it is frozen.
//! Why a job is given is the scheduler's business.

mod model;

use std::time::Duration;

pub use model::{KnownModel, ModelFile};

use crate::contract::event::{Ending, Event, Sentence};
use crate::daemon::effect::{AdapterEffect, CycleEffect, Effect};
use crate::daemon::faults::FaultKind;
use crate::daemon::scheduler::{Job, WorkerState};
use crate::latro::metrics::StepMetrics;
use crate::worker::child::{End, Worker};
use crate::worker::hash::Stamp;
use crate::worker::protocol::{Failure, FailureKind, FromWorker};

/// How long a killed worker may take to be gone: longer, and something is badly wrong.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Workers in a row that may die without having got anywhere before the job is given up.
const MAX_CRASHES: u32 = 5;

/// A worker's process, as far as the supervisor needs it.
pub trait Process {
    /// Ends it at once.
    fn kill(&mut self);
    /// Whether it is stopped where it is.
    fn is_frozen(&self) -> bool;
    /// Whether it should have shown progress for too long.
    fn is_stalled(&self) -> bool;
    /// Its process id, while it is there.
    fn pid(&self) -> Option<u32>;
}

impl Process for Worker {
    fn kill(&mut self) {
        Self::kill(self);
    }

    fn is_frozen(&self) -> bool {
        Self::is_frozen(self)
    }

    fn is_stalled(&self) -> bool {
        Self::is_stalled(self)
    }

    fn pid(&self) -> Option<u32> {
        Self::pid(self)
    }
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It loads the model.
    Loading,
    /// It waits for a job.
    Ready,
    /// It does a job.
    Busy(Job),
    /// It was killed; since when, and what it did.
    Ending { since: Duration, job: Option<Job> },
}

/// A process with what it does.
#[derive(Debug)]
struct Present<P> {
    process: P,
    phase: Phase,
    /// The model's file when it was started.
    stamp: Option<Stamp>,
}

/// The worker process, if there is one, and how its predecessors fared.
#[derive(Debug)]
pub struct Supervisor<P = Worker> {
    present: Option<Present<P>>,
    /// The last step of the run in progress.
    last_step: Option<Box<StepMetrics>>,
    /// Workers that ended by themselves without having got anywhere, in a row.
    crashes: u32,
    /// The model that it loads.
    pub model: ModelFile,
}

impl<P> Default for Supervisor<P> {
    fn default() -> Self {
        Self { present: None, last_step: None, crashes: 0, model: ModelFile::default() }
    }
}

impl<P: Process> Supervisor<P> {
    /// A process was started, when the model's file had this stamp.
    pub fn started(&mut self, process: P, stamp: Option<Stamp>) {
        self.present = Some(Present { process, phase: Phase::Loading, stamp });
    }

    /// The process.
    pub fn process(&mut self) -> Option<&mut P> {
        self.present.as_mut().map(|present| &mut present.process)
    }

    /// What the scheduler has to know.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        let Some(present) = &self.present else { return WorkerState::Absent };
        let job = match present.phase {
            Phase::Ending { .. } => return WorkerState::Ending,
            Phase::Loading | Phase::Ready => None,
            Phase::Busy(job) => Some(job),
        };
        if present.process.is_frozen() {
            WorkerState::Frozen(job)
        } else {
            WorkerState::Running(job)
        }
    }

    /// Whether there is a process, in whatever phase.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.present.is_some()
    }

    /// Whether it computes, or may begin to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let computes = |present: &Present<P>| {
            matches!(present.phase, Phase::Loading | Phase::Busy(_)) && !present.process.is_frozen()
        };
        self.present.as_ref().is_some_and(computes)
    }

    /// Whether it waits for a job.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.phase == Phase::Ready)
    }

    /// The job in hand.
    #[must_use]
    pub fn job(&self) -> Option<Job> {
        match self.present.as_ref()?.phase {
            Phase::Loading | Phase::Ready => None,
            Phase::Busy(job) => Some(job),
            Phase::Ending { job, .. } => job,
        }
    }

    /// The worker's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.present.as_ref()?.process.pid()
    }

    /// The last step of the run in progress.
    #[must_use]
    pub fn last_step(&self) -> Option<&StepMetrics> {
        self.last_step.as_deref()
    }

    /// Another run begins.
    pub fn forget_steps(&mut self) {
        self.last_step = None;
    }

    /// Whether nothing hangs: a worker that computes nothing though it should is killed and replaced,
    /// but one that cannot be killed is a reason to let the service manager's watchdog end the daemon.
    #[must_use]
    pub fn is_sound(&self, now: Duration) -> bool {
        self.present.as_ref().is_none_or(|present| match present.phase {
            Phase::Ending { since, .. } => now.saturating_sub(since) < END_LIMIT,
            _ => !present.process.is_stalled(),
        })
    }

    /// The model is loaded: it can be given jobs.
    pub fn loaded(&mut self) {
        self.go(Phase::Loading, Phase::Ready);
    }

    /// It was given a job.
    pub fn given(&mut self, job: Job) {
        self.go(Phase::Ready, Phase::Busy(job));
    }

    fn go(&mut self, from: Phase, to: Phase) {
        if let Some(present) = self.present.as_mut().filter(|present| present.phase == from) {
            present.phase = to;
        }
    }

    /// Takes the job away; the job that it was. Also of a worker that was killed and has yet to end.
    fn end_job(&mut self) -> Option<Job> {
        let phase = &mut self.present.as_mut()?.phase;
        match phase {
            Phase::Loading | Phase::Ready => None,
            Phase::Busy(job) => {
                let job = *job;
                *phase = Phase::Ready;
                Some(job)
            }
            Phase::Ending { job, .. } => job.take(),
        }
    }

    /// Kills the process: its work is saved up to the last half-step, and the next one resumes there.
    pub fn kill(&mut self, now: Duration) {
        let job = self.job();
        if let Some(present) = &mut self.present {
            present.process.kill();
            if !matches!(present.phase, Phase::Ending { .. }) {
                present.phase = Phase::Ending { since: now, job };
            }
        }
    }

    /// What follows from a message; `steps` are those of a run.
    pub fn heard(&mut self, message: FromWorker, steps: u64) -> Vec<Effect> {
        match message {
            FromWorker::Loaded(loaded) => vec![Effect::ModelLoaded(loaded)],
            FromWorker::Began(began) => {
                log::debug!("the worker begins at step {} with {} tasks", began.step, began.tasks);
                Vec::new()
            }
            FromWorker::Beat { .. } | FromWorker::Progress { .. } => Vec::new(),
            FromWorker::Step(metrics) => {
                log_step(&metrics, steps);
                self.last_step = Some(metrics.clone());
                self.got_on([Effect::PublishProgress(metrics)])
            }
            FromWorker::Sentinel { trip, .. } => {
                let kind = trip.kind.name().to_owned();
                let sentence = Sentence::new(&trip.sentence);
                self.got_on([Effect::Tell(Event::Sentinel { kind, step: trip.step, sentence })])
            }
            FromWorker::Trained { steps } => {
                log::info!(event = "trained", step = steps; "the cycle's {steps} steps are done");
                self.end_job();
                self.got_on([CycleEffect::Trained.into()])
            }
            FromWorker::GaveUp { sentence } => {
                self.end_job();
                let step = self.last_step().map_or(0, |metrics| metrics.step);
                let event = Event::RunGaveUp { step, sentence: Sentence::new(&sentence) };
                self.got_on([Effect::Tell(event), CycleEffect::SetTasksAside(sentence).into()])
            }
            FromWorker::Compared { .. } => {
                let judge = match self.end_job() {
                    Some(Job::Evaluate) => Some(CycleEffect::Compared.into()),
                    Some(Job::Check) => Some(AdapterEffect::JudgeCheck.into()),
                    Some(Job::Train) | None => None,
                };
                self.got_on(judge)
            }
            FromWorker::Stopped => {
                self.end_job();
                self.got_on([])
            }
            FromWorker::Failed(failure) => self.failed(failure),
        }
    }

    /// The worker does what it is there for.
    fn got_on(&mut self, effects: impl IntoIterator<Item = Effect>) -> Vec<Effect> {
        self.crashes = 0;
        std::iter::once(Effect::Mend(FaultKind::Worker)).chain(effects).collect()
    }

    /// A job, or the loading, could not be done.
    fn failed(&mut self, failure: Failure) -> Vec<Effect> {
        let Failure { kind, sentence } = failure;
        let job = self.end_job();
        let fault = match kind {
            FailureKind::Model => FaultKind::Model,
            FailureKind::DiskFull | FailureKind::ReadOnly => FaultKind::Disk,
            FailureKind::Settings if job.is_none() => FaultKind::Settings,
            FailureKind::Memory | FailureKind::Busy => FaultKind::Worker,
            FailureKind::ModelChanged => {
                log::info!(event = "model_reload"; "the model is loaded again: {sentence}");
                return vec![Effect::KillWorker];
            }
            FailureKind::OtherRun => return vec![CycleEffect::Drop(sentence).into()],
            FailureKind::Tasks | FailureKind::Settings | FailureKind::Damaged => {
                return vec![AdapterEffect::Repair.into(), give_up(job, sentence)];
            }
            FailureKind::Protocol | FailureKind::Other => {
                // It ends by itself, and that is counted.
                log::error!(event = "worker_failed"; "the worker failed: {sentence}");
                return Vec::new();
            }
        };
        if fault == FaultKind::Model {
            self.model.cannot_load(self.present.as_ref().and_then(|present| present.stamp));
        }
        vec![Effect::KillWorker, Effect::Raise(fault, sentence)]
    }

    /// The process has ended.
    pub fn ended(&mut self, end: &End) -> Vec<Effect> {
        let job = self.job();
        let gone = self.present.take();
        if gone.is_none_or(|gone| matches!(gone.phase, Phase::Ending { .. })) {
            return Vec::new();
        }
        let ending = match end {
            End::Exited(code) => Ending::Exit(*code),
            End::Killed(signal) => Ending::Signal(*signal),
            End::Broken(_) => Ending::Signal(9),
        };
        if let End::Broken(why) = end {
            log::error!(event = "worker_broken"; "the worker broke the protocol: {why}");
        }
        let died = Effect::Tell(Event::WorkerDied { ending });
        std::iter::once(died).chain(self.got_nowhere(job, &end.to_string())).collect()
    }

    /// Kills a worker that computes nothing though it should; another one resumes its work. It may show
    /// nothing for `limit_s` seconds.
    pub fn watch(&mut self, now: Duration, limit_s: u64) -> Vec<Effect> {
        let stalled = self.present.as_ref().is_some_and(|present| present.process.is_stalled());
        if !stalled || !self.is_running() {
            return Vec::new();
        }
        let job = self.job();
        self.kill(now);
        let told = Effect::Tell(Event::WorkerStalled { after_s: limit_s });
        let lost = self.got_nowhere(job, "the worker made no progress");
        std::iter::once(told).chain(lost).collect()
    }

    /// A worker has ended without having got on: the first time another takes its place at once, then
    /// after longer and longer waits, and in the end its job is given up.
    fn got_nowhere(&mut self, job: Option<Job>, why: &str) -> Option<Effect> {
        self.crashes += 1;
        if job.is_some() && self.crashes >= MAX_CRASHES {
            self.crashes = 0;
            let why = format!("{MAX_CRASHES} attempts were made; at the last, {why}");
            return Some(give_up(job, why));
        }
        (self.crashes > 1).then(|| Effect::Raise(FaultKind::Worker, why.to_owned()))
    }

    /// Looks at the model's file: `found` is its stamp, or why it has none. One that was replaced is
    /// loaded again; one that is gone is a fault (`is_faulty`: it is one already).
    pub fn watch_model(&mut self, found: Result<Stamp, String>, is_faulty: bool) -> Vec<Effect> {
        let loaded = self.present.as_ref().and_then(|present| present.stamp);
        self.model.look(found, loaded, is_faulty)
    }
}

/// A job that cannot be done; without one it is the cycle that cannot go on.
fn give_up(job: Option<Job>, why: String) -> Effect {
    match job {
        Some(Job::Check) => AdapterEffect::ForgetCheck(why).into(),
        Some(Job::Train | Job::Evaluate) | None => CycleEffect::Fail(why).into(),
    }
}

fn log_step(metrics: &StepMetrics, steps: u64) {
    log::info!(
        event = "step", step = metrics.step, reward = metrics.reward;
        "step {}/{steps}: reward {:.3}, log p(answer) {:.3}, {:.1} s",
        metrics.step, metrics.reward, metrics.log_p_answer, metrics.total_s
    );
}

#[cfg(test)]
mod tests;
