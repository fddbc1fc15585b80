//! What `latrod status` shows: the daemon at one moment, as a document; and the socket that it is read
//! from.

pub mod since;
pub mod socket;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::daemon::activity::Signal;
use crate::daemon::scheduler::State;

/// The daemon at one moment. Times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// latrod's version.
    pub version: String,
    pub pid: u32,
    /// Since the start.
    pub up_s: f64,
    pub fleet: String,
    pub device: String,
    pub state: State,
    /// Why it is in this state.
    pub reason: String,
    /// How long it has been.
    pub for_s: f64,
    /// What is broken, by name, each with a sentence.
    pub faults: BTreeMap<String, String>,
    /// Until the device is looked at again.
    pub next_look_s: f64,
    pub model: ModelStatus,
    /// The worker process, while there is one.
    pub worker: Option<WorkerStatus>,
    /// The active adapter; none while the base model serves alone.
    pub adapter: Option<String>,
    /// The version that has proved better and waits for an operator's approval.
    #[serde(default)]
    pub awaiting: Option<String>,
    pub cycle: Option<CycleStatus>,
    /// Settings that an operator has put over the file's, by dotted name.
    pub settings: BTreeMap<String, String>,
    /// Cycles that have come to an end.
    pub cycles: u64,
    /// How the last cycle ended, in a sentence.
    pub last_cycle: Option<String>,
    /// The numbers of the last training step, by the names that they have in `metrics.jsonl`.
    pub last_step: BTreeMap<String, f64>,
    pub tasks: TaskStatus,
    pub broker: BrokerStatus,
    /// What is measured of the device.
    pub signals: Vec<Signal>,
    /// Seconds spent in each state since the start.
    pub spent_s: BTreeMap<String, f64>,
}

/// The model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    pub path: PathBuf,
    /// SHA-256 of the file that was last loaded; empty before the first time.
    pub sha256: String,
}

/// The worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub pid: u32,
    /// Stopped in its tracks.
    pub frozen: bool,
    /// `train`, `evaluate`, `check`; none while it loads or waits.
    pub job: Option<String>,
}

/// The cycle in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleStatus {
    pub number: u64,
    /// `training`, `evaluating`, `judging`.
    pub stage: String,
    pub step: u64,
    pub steps: u64,
    /// Tasks to learn from, and questions to compare with.
    pub train: usize,
    pub held_out: usize,
}

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub train: u64,
    pub held_out: u64,
    /// Not used until an operator restores them.
    pub set_aside: u64,
    /// To learn from, and come since the last cycle.
    pub new: u64,
}

/// The connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Its address; empty if none is set.
    pub url: String,
    pub connected: bool,
    /// Messages that wait for it.
    pub waiting: u64,
    pub dropped_events: u64,
    pub dropped_progress: u64,
    pub commands_refused: u64,
}
