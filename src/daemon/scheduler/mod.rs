//! What the daemon does next: a pure state machine.
//!
//! It is level-triggered: [`Scheduler::observe`] is handed everything that matters as it is now, and
//! answers with a state and an [`Action`] for the driver. Nothing depends on having seen every change in
//! between, so a fact that arrives late or twice does no harm.
//!
//! ```text
//!              ready                      work                      idle
//!  starting ──────────► waiting_for_tasks ────► waiting_for_idle ─────────► training ◄──► evaluating
//!                              ▲                       ▲                      │  ▲  judged    │
//!                              │                       │ unloaded       busy  ▼  │ idle       ▼
//!                              │                       └──────────────── yielding         promoting
//!                              └───────────────────────────────────────────────────────────────┘
//!  from anywhere:  stopping ▸ paused ▸ degraded ▸ cooling_down   (the first that applies)
//! ```
//!
//! Wherever the worker may not run it is frozen at once; it is ended once it has been frozen for long,
//! or immediately where memory or disk space is what is missing. Knows neither clocks, nor processes,
//! nor what idle means: these are facts in [`Inputs`].

mod plan;
mod state;

use std::time::Duration;

use serde::Serialize;

pub use plan::{Known, plan};
pub use state::State;

use crate::daemon::activity::Condition;

/// A job for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// The steps of the cycle.
    Train,
    /// The candidate against the active adapter.
    Evaluate,
    /// The active adapter against its parent, on tasks newer than both.
    Check,
}

impl Job {
    /// The name in `latrod status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Check => "check",
        }
    }
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing, and why not.
    None(String),
    /// A new cycle can begin.
    Begin,
    /// The worker is needed.
    Job(Job),
    /// A comparison is complete and has to be judged.
    Judge,
}

/// The worker process, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// There is none.
    Absent,
    /// It runs, with a job or waiting for one.
    Running(Option<Job>),
    /// It is stopped in its tracks.
    Frozen(Option<Job>),
    /// It was told to end, or is being reaped.
    Ending,
}

/// Everything that the decision depends on, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Starting is over.
    pub ready: bool,
    /// The daemon was asked to stop.
    pub stopping: bool,
    /// An operator's pause, and its reason.
    pub paused: Option<&'a str>,
    /// What is broken.
    pub fault: Option<&'a str>,
    /// Whether the device is idle.
    pub condition: &'a Condition,
    /// What there is to do.
    pub work: &'a Work,
    /// How the worker is.
    pub worker: WorkerState,
}

/// What the driver must do. Doing it twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take a snapshot of the tasks and begin a cycle.
    BeginCycle,
    /// Judge the comparison; promote, reject or roll back.
    Judge,
    /// Start the worker.
    StartWorker,
    /// Hand the worker this job.
    Give(Job),
    /// Stop the worker in its tracks, now.
    Freeze,
    /// Let the worker go on.
    Thaw,
    /// Let the worker end, and free its memory.
    EndWorker,
}

/// The scheduler's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The state from now on; [`Scheduler::reason`] says why.
    pub state: State,
    /// What has changed since the last decision.
    pub news: News,
    /// What the driver must do now.
    pub action: Option<Action>,
}

/// How a decision differs from the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// In nothing.
    None,
    /// The reason for the state is another one.
    Reason,
    /// The state is another one.
    State,
}

/// A state with its reason, and what the driver must do for it.
struct Judgment {
    state: State,
    reason: String,
    action: Option<Action>,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Scheduler {
    state: State,
    /// Why it is in that state, in a sentence; empty before the first decision.
    reason: String,
    /// Since when it is in that state.
    since: Duration,
    /// Since when the worker has done nothing, on the driver's monotonic clock.
    resting_since: Option<Duration>,
    unload_after: Duration,
    seen: Duration,
    spent: [Duration; State::ALL.len()],
}

impl Scheduler {
    /// A scheduler that has just started. A worker that rests for `unload_after` is ended.
    #[must_use]
    pub const fn new(unload_after: Duration) -> Self {
        Self {
            state: State::Starting,
            reason: String::new(),
            since: Duration::ZERO,
            resting_since: None,
            unload_after,
            seen: Duration::ZERO,
            spent: [Duration::ZERO; State::ALL.len()],
        }
    }

    /// Changes after how much rest a worker is ended.
    pub const fn set_unload_after(&mut self, unload_after: Duration) {
        self.unload_after = unload_after;
    }

    /// The present state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it is in the present state, in a sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// How long it has been in the present state, at `now`.
    #[must_use]
    pub const fn held(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// How long each state has been held so far, in the order of [`State::ALL`].
    #[must_use]
    pub const fn spent(&self) -> &[Duration; State::ALL.len()] {
        &self.spent
    }

    /// Decides. `now` is monotonic, from any beginning; a time before the last one counts as that.
    pub fn observe(&mut self, now: Duration, inputs: &Inputs<'_>) -> Decision {
        let now = now.max(self.seen);
        self.spent[self.state as usize] += now.saturating_sub(self.seen);
        self.seen = now;
        let Judgment { state, reason, action } = match blocker(inputs) {
            Some(blocker) => self.rest(now, inputs.worker, blocker),
            None => self.work(now, inputs),
        };
        let news = match () {
            () if state != self.state => News::State,
            () if reason != self.reason => News::Reason,
            () => News::None,
        };
        if news == News::State {
            self.since = now;
        }
        (self.state, self.reason) = (state, reason);
        Decision { state, news, action }
    }

    /// The worker may not run.
    fn rest(&mut self, now: Duration, worker: WorkerState, blocker: Blocker) -> Judgment {
        let Blocker { state, reason, end } = blocker;
        let action = match worker {
            WorkerState::Absent | WorkerState::Ending => {
                self.resting_since = None;
                None
            }
            WorkerState::Running(_) if end => Some(Action::EndWorker),
            WorkerState::Running(_) => {
                self.resting_since = Some(now);
                Some(Action::Freeze)
            }
            WorkerState::Frozen(_) => (end || self.rested(now)).then_some(Action::EndWorker),
        };
        let in_memory = matches!(worker, WorkerState::Running(_) | WorkerState::Frozen(_));
        let state = match state {
            State::WaitingForIdle if in_memory => State::Yielding,
            other => other,
        };
        Judgment { state, reason, action }
    }

    /// Whether the worker has rested long enough to be ended.
    fn rested(&mut self, now: Duration) -> bool {
        let since = *self.resting_since.get_or_insert(now);
        now.saturating_sub(since) >= self.unload_after
    }

    /// Nothing keeps the worker from running.
    fn work(&mut self, now: Duration, inputs: &Inputs<'_>) -> Judgment {
        let decide =
            |state, reason: &str, action| Judgment { state, reason: reason.into(), action };
        match inputs.work {
            Work::None(why) => {
                let action = match inputs.worker {
                    WorkerState::Absent | WorkerState::Ending => {
                        self.resting_since = None;
                        None
                    }
                    // Its job is no longer wanted.
                    WorkerState::Running(Some(_)) | WorkerState::Frozen(_) => {
                        Some(Action::EndWorker)
                    }
                    WorkerState::Running(None) => self.rested(now).then_some(Action::EndWorker),
                };
                decide(State::WaitingForTasks, why, action)
            }
            Work::Begin => decide(State::Training, "a new cycle begins", Some(Action::BeginCycle)),
            Work::Judge => {
                decide(State::Promoting, "the comparison is complete", Some(Action::Judge))
            }
            Work::Job(job) => {
                self.resting_since = None;
                let (state, reason) = match job {
                    Job::Train => (State::Training, "the device is idle"),
                    Job::Evaluate => {
                        (State::Evaluating, "the candidate against the active adapter")
                    }
                    Job::Check => (State::Evaluating, "the active adapter on newer tasks"),
                };
                let action = match inputs.worker {
                    WorkerState::Absent => Some(Action::StartWorker),
                    WorkerState::Ending => None,
                    WorkerState::Running(Some(at)) if at == *job => None,
                    WorkerState::Running(None) => Some(Action::Give(*job)),
                    WorkerState::Frozen(at) if at.is_none_or(|at| at == *job) => Some(Action::Thaw),
                    WorkerState::Running(Some(_)) | WorkerState::Frozen(_) => {
                        Some(Action::EndWorker)
                    }
                };
                decide(state, reason, action)
            }
        }
    }
}

/// Why the worker may not run.
struct Blocker {
    state: State,
    reason: String,
    /// Whether the worker must end instead of being frozen.
    end: bool,
}

/// The first of the reasons why the worker may not run.
fn blocker(inputs: &Inputs<'_>) -> Option<Blocker> {
    let blocked = |state, reason: &str, end| Some(Blocker { state, reason: reason.into(), end });
    if inputs.stopping {
        return blocked(State::Stopping, "asked to stop", true);
    }
    if !inputs.ready {
        return blocked(State::Starting, "starting", true);
    }
    if let Some(why) = inputs.paused {
        return blocked(State::Paused, why, false);
    }
    if let Some(what) = inputs.fault {
        return blocked(State::Degraded, what, true);
    }
    let idle_state = match inputs.work {
        Work::None(_) => State::WaitingForTasks,
        _ => State::WaitingForIdle,
    };
    match inputs.condition {
        Condition::Idle => None,
        Condition::Hot { reason } => blocked(State::CoolingDown, reason, false),
        // Frozen, it would keep the memory that is missing.
        Condition::LowResources { reason } => blocked(idle_state, reason, true),
        Condition::Busy { reason, .. }
        | Condition::NoPower { reason }
        | Condition::Closed { reason, .. } => match inputs.work {
            Work::None(why) => blocked(idle_state, why, false),
            _ => blocked(idle_state, reason, false),
        },
    }
}

#[cfg(test)]
mod tests;
