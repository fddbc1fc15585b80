//! The worker as the driver sees it: whether it is there, what it does, what it has said.

use std::time::Duration;

use crate::daemon::scheduler::{Job, WorkerState};
use crate::latro::metrics::StepMetrics;
use crate::worker::child::{Worker, WorkerEvent};
use crate::worker::hash::Stamp;
use crate::worker::protocol::Loaded;

/// How long a killed worker may take to be gone: longer, and something is badly wrong.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The worker, if there is one.
#[derive(Default)]
pub struct Trainer {
    worker: Option<Worker>,
    /// Since when it is expected to end.
    ending: Option<Duration>,
    job: Option<Job>,
    /// What it has loaded.
    pub loaded: Option<Loaded>,
    /// The model's file when the worker was started.
    pub stamp: Option<Stamp>,
    /// The last step of the run in progress.
    pub last_step: Option<Box<StepMetrics>>,
    /// Workers that ended by themselves without having got anywhere, in a row.
    pub crashes: u32,
}

impl Trainer {
    /// Takes a new worker on.
    pub fn set(&mut self, worker: Worker, stamp: Option<Stamp>) {
        (self.ending, self.job, self.loaded) = (None, None, None);
        (self.worker, self.stamp) = (Some(worker), stamp);
    }

    /// The process.
    pub const fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// What the scheduler has to know.
    pub fn state(&self) -> WorkerState {
        match &self.worker {
            None => WorkerState::Absent,
            Some(_) if self.ending.is_some() => WorkerState::Ending,
            Some(worker) if worker.is_frozen() => WorkerState::Frozen(self.job),
            Some(_) => WorkerState::Running(self.job),
        }
    }

    /// Whether a process is there, in whatever state.
    pub const fn is_there(&self) -> bool {
        self.worker.is_some()
    }

    /// Whether it computes, or may begin to.
    pub fn is_running(&self) -> bool {
        let idle = self.loaded.is_some() && self.job.is_none();
        matches!(self.state(), WorkerState::Running(_)) && !idle
    }

    /// Whether a worker can be handed jobs.
    pub const fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// The job in hand.
    pub const fn job(&self) -> Option<Job> {
        self.job
    }

    /// A job was handed over, or has ended.
    pub const fn set_job(&mut self, job: Option<Job>) {
        self.job = job;
    }

    /// Whether nothing hangs: a worker that computes nothing though it should is killed and replaced,
    /// but one that cannot be killed is a reason to let the service manager's watchdog end
    /// everything.
    pub fn is_sound(&self, now: Duration) -> bool {
        let stalled = self.worker.as_ref().is_some_and(Worker::is_stalled);
        self.ending.map_or(!stalled, |since| now.saturating_sub(since) < END_LIMIT)
    }

    /// Kills the process: its work is saved up to the last finished half-step, and a killed worker
    /// goes on there.
    pub fn kill(&mut self, now: Duration) {
        if let Some(worker) = &mut self.worker {
            worker.kill();
            self.ending.get_or_insert(now);
        }
    }

    /// The process is gone. Says whether that was expected.
    pub fn gone(&mut self) -> bool {
        self.worker = None;
        (self.job, self.loaded, self.stamp) = (None, None, None);
        self.ending.take().is_some()
    }

    /// The next thing that the worker says; never, without one.
    pub async fn next(&mut self) -> WorkerEvent {
        match &mut self.worker {
            Some(worker) => worker.next().await,
            None => std::future::pending().await,
        }
    }

    /// The processes whose load is ours: this one, and the worker.
    pub fn own_pids(&self) -> Vec<u32> {
        let worker = self.worker.as_ref().and_then(Worker::pid);
        std::iter::once(std::process::id()).chain(worker).collect()
    }

    /// The worker's process id.
    pub fn pid(&self) -> Option<u32> {
        self.worker.as_ref().and_then(Worker::pid)
    }
}
