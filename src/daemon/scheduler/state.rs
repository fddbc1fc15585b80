//! The states of the daemon, and their names on the wire.

use serde::{Deserialize, Serialize};

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
    /// An operator has paused it.
    Paused,
    /// Too hot.
    CoolingDown,
    /// Something is broken that somebody else must mend; looked at again and again.
    Degraded,
    /// The daemon is about to end.
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
