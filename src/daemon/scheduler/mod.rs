//! What the daemon does next: a pure state machine.
//!
//! It is level-triggered: [`Scheduler::observe`] is handed everything that matters as it is now, and
//! answers with a state and with orders for the driver. Nothing depends on having seen every change in
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
//! Wherever the worker may not run it is frozen in the same breath, and ended once it has been frozen
//! for long, or at once where its memory or the disk is what is missing. Knows neither clocks, nor
//! processes, nor what idle means: these are facts in [`World`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::daemon::activity::Condition;

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Opening files, before anything else.
    Starting,
    /// There is nothing to learn.
    WaitingForTasks,
    /// There is something to learn, and the device is in use.
    WaitingForIdle,
    /// The worker trains.
    Training,
    /// The worker is frozen, with its work in memory, because the device is needed.
    Yielding,
    /// The worker compares two adapters.
    Evaluating,
    /// The comparison is judged, and what follows from it is done.
    Promoting,
    /// An operator has said so.
    Paused,
    /// Too hot.
    CoolingDown,
    /// Something is broken that others must mend; looked at again and again.
    Degraded,
    /// The end.
    Stopping,
}

impl State {
    /// Every state, in the order of the declaration.
    pub const ALL: [Self; 11] = [
        Self::Starting,
        Self::WaitingForTasks,
        Self::WaitingForIdle,
        Self::Training,
        Self::Yielding,
        Self::Evaluating,
        Self::Promoting,
        Self::Paused,
        Self::CoolingDown,
        Self::Degraded,
        Self::Stopping,
    ];

    /// The name on the wire and in the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::WaitingForTasks => "waiting_for_tasks",
            Self::WaitingForIdle => "waiting_for_idle",
            Self::Training => "training",
            Self::Yielding => "yielding",
            Self::Evaluating => "evaluating",
            Self::Promoting => "promoting",
            Self::Paused => "paused",
            Self::CoolingDown => "cooling_down",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

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
    /// Nothing, and why.
    None(String),
    /// A new cycle can begin.
    Begin,
    /// The worker is needed.
    Job(Job),
    /// A comparison is complete and waits for its judgement.
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
pub struct World<'a> {
    /// Starting is over.
    pub ready: bool,
    /// The daemon was told to end.
    pub stopping: bool,
    /// An operator's pause, and its reason.
    pub paused: Option<&'a str>,
    /// What is broken.
    pub fault: Option<&'a str>,
    pub condition: &'a Condition,
    pub work: &'a Work,
    pub worker: WorkerState,
}

/// What the driver must do. Each is safe to hear again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub state: State,
    /// Why, in a sentence.
    pub reason: String,
    pub order: Option<Order>,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Scheduler {
    state: State,
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

    /// How long each state has been held so far, in the order of [`State::ALL`].
    #[must_use]
    pub const fn spent(&self) -> &[Duration; State::ALL.len()] {
        &self.spent
    }

    /// Decides. `now` is monotonic, from any beginning; a time before the last one counts as that.
    pub fn observe(&mut self, now: Duration, world: &World<'_>) -> Decision {
        let now = now.max(self.seen);
        self.spent[self.state as usize] += now.saturating_sub(self.seen);
        self.seen = now;
        let decision = match hold(world) {
            Some(hold) => self.rest(now, world.worker, hold),
            None => self.work(now, world),
        };
        self.state = decision.state;
        decision
    }

    /// The worker may not run.
    fn rest(&mut self, now: Duration, worker: WorkerState, hold: Hold) -> Decision {
        let Hold { state, reason, end } = hold;
        let order = match worker {
            WorkerState::Absent | WorkerState::Ending => {
                self.resting_since = None;
                None
            }
            WorkerState::Running(_) if end => Some(Order::EndWorker),
            WorkerState::Running(_) => {
                self.resting_since = Some(now);
                Some(Order::Freeze)
            }
            WorkerState::Frozen(_) => (end || self.rested(now)).then_some(Order::EndWorker),
        };
        let in_memory = matches!(worker, WorkerState::Running(_) | WorkerState::Frozen(_));
        let state = match state {
            State::WaitingForIdle if in_memory => State::Yielding,
            other => other,
        };
        Decision { state, reason, order }
    }

    /// Whether the worker has rested long enough to be ended.
    fn rested(&mut self, now: Duration) -> bool {
        let since = *self.resting_since.get_or_insert(now);
        now.saturating_sub(since) >= self.unload_after
    }

    /// The device is ours.
    fn work(&mut self, now: Duration, world: &World<'_>) -> Decision {
        let decide = |state, reason: &str, order| Decision { state, reason: reason.into(), order };
        match world.work {
            Work::None(why) => {
                let order = match world.worker {
                    WorkerState::Absent | WorkerState::Ending => {
                        self.resting_since = None;
                        None
                    }
                    // Its job is no longer wanted.
                    WorkerState::Running(Some(_)) | WorkerState::Frozen(_) => {
                        Some(Order::EndWorker)
                    }
                    WorkerState::Running(None) => self.rested(now).then_some(Order::EndWorker),
                };
                decide(State::WaitingForTasks, why, order)
            }
            Work::Begin => decide(State::Training, "a new cycle begins", Some(Order::BeginCycle)),
            Work::Judge => {
                decide(State::Promoting, "the comparison is complete", Some(Order::Judge))
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
                let order = match world.worker {
                    WorkerState::Absent => Some(Order::StartWorker),
                    WorkerState::Ending => None,
                    WorkerState::Running(Some(at)) if at == *job => None,
                    WorkerState::Running(None) => Some(Order::Give(*job)),
                    WorkerState::Frozen(at) if at.is_none_or(|at| at == *job) => Some(Order::Thaw),
                    WorkerState::Running(Some(_)) | WorkerState::Frozen(_) => {
                        Some(Order::EndWorker)
                    }
                };
                decide(state, reason, order)
            }
        }
    }
}

/// Why the worker may not run.
struct Hold {
    state: State,
    reason: String,
    /// Whether the worker must end instead of being frozen.
    end: bool,
}

/// The first of the reasons why nothing may run.
fn hold(world: &World<'_>) -> Option<Hold> {
    let hold = |state, reason: &str, end| Some(Hold { state, reason: reason.into(), end });
    if world.stopping {
        return hold(State::Stopping, "told to stop", true);
    }
    if !world.ready {
        return hold(State::Starting, "starting", true);
    }
    if let Some(why) = world.paused {
        return hold(State::Paused, why, false);
    }
    if let Some(what) = world.fault {
        return hold(State::Degraded, what, true);
    }
    let idle_state = match world.work {
        Work::None(_) => State::WaitingForTasks,
        _ => State::WaitingForIdle,
    };
    match world.condition {
        Condition::Idle => None,
        Condition::Hot { reason } => hold(State::CoolingDown, reason, false),
        // Frozen, it would keep the memory that is missing.
        Condition::LowResources { reason } => hold(idle_state, reason, true),
        Condition::Busy { reason, .. }
        | Condition::NoPower { reason }
        | Condition::Closed { reason, .. } => match world.work {
            Work::None(why) => hold(idle_state, why, false),
            _ => hold(idle_state, reason, false),
        },
    }
}

#[cfg(test)]
mod tests;
