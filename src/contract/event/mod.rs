//! Everything worth telling that happens in the daemon, as one type with its fields.
//!
//! The journal and the MQTT `event` topic say the same: [`Event::name`], [`Event::severity`],
//! [`Event::fields`] and the sentence of its `Display`. Texts are [`Sentence`]s and names made by
//! latrod itself, bounded in length; there is no field that text of a task could travel in.

#[cfg(test)]
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

mod sentence;

pub use sentence::{MAX_SENTENCE_CHARS, Sentence};

/// How much an event matters to who watches a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The daemon does what it should.
    Info,
    /// It copes, but somebody may want to look.
    Warning,
    /// It cannot do its work until something is done.
    Error,
}

impl Severity {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Named numbers of a decision, such as gains with their bounds. Those that are not finite become
/// `null`.
pub type Numbers = Vec<(&'static str, f64)>;

/// How the worker process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It returned this exit code.
    #[serde(rename = "exit_code")]
    Exit(i32),
    /// This signal ended it; 9 is often the kernel's out-of-memory killer.
    Signal(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Something that happened. Sizes in MiB, times in seconds, versions by their folder's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", content = "detail", rename_all = "snake_case")]
pub enum Event {
    /// The daemon started; latrod's version.
    Started { version: &'static str },
    /// The daemon stops of its own accord.
    Stopped { reason: Sentence },
    /// A cycle of learning began: its number, and the tasks that it trains on and holds out.
    CycleBegan { number: u64, train: u64, held_out: u64 },
    /// A cycle came to nothing.
    CycleFailed { number: u64, reason: Sentence },
    /// The active adapter was compared with its parent on tasks newer than both; whether it stays,
    /// and the numbers that decided.
    Checked {
        version: String,
        keep: bool,
        reason: Sentence,
        #[serde(flatten, serialize_with = "as_fields")]
        #[cfg_attr(test, schemars(with = "BTreeMap<String, Option<f64>>"))]
        numbers: Numbers,
    },
    /// Another version is active than before (`null`: the base model), not by a promotion.
    Switched { from: Option<String>, to: Option<String>, reason: Sentence },
    /// A candidate became the active adapter: SHA-256 of its weights in hex, the version that it was
    /// compared with (`null`: the base model), why, and the numbers that decided.
    Promoted {
        version: String,
        sha256: String,
        parent: Option<String>,
        reason: Sentence,
        #[serde(flatten, serialize_with = "as_fields")]
        #[cfg_attr(test, schemars(with = "BTreeMap<String, Option<f64>>"))]
        numbers: Numbers,
    },
    /// A candidate has proved better and was published, and waits for an operator's approval; the fields are
    /// those of `promoted`.
    AwaitsApproval {
        version: String,
        sha256: String,
        parent: Option<String>,
        reason: Sentence,
        #[serde(flatten, serialize_with = "as_fields")]
        #[cfg_attr(test, schemars(with = "BTreeMap<String, Option<f64>>"))]
        numbers: Numbers,
    },
    /// A candidate was not good enough, and the numbers that decided.
    Rejected {
        reason: Sentence,
        #[serde(flatten, serialize_with = "as_fields")]
        #[cfg_attr(test, schemars(with = "BTreeMap<String, Option<f64>>"))]
        numbers: Numbers,
    },
    /// The active adapter gave way to an earlier one, or to the base model (`null`).
    RolledBack { from: String, to: Option<String>, reason: Sentence },
    /// A sentinel stopped a run or set it back.
    Sentinel { kind: String, step: u64, sentence: Sentence },
    /// A training run gave up after too many trips of its sentinels.
    RunGaveUp { step: u64, sentence: Sentence },
    /// The tasks of a run are set aside until an operator restores them.
    TaskSetQuarantined { tasks: u64, sentence: Sentence },
    /// Tasks were taken in from the spool folder, and lines rejected.
    TasksTaken { count: u64, rejected: u64 },
    /// Lines of spool files could not be used; they are in the quarantine folder with reasons.
    #[serde(rename = "quarantined_lines")]
    LinesQuarantined { lines: u64, files: u64 },
    /// Too little room on the disk that holds the state folder.
    LowDisk { free_mib: u64, needed_mib: u64 },
    /// There is room again.
    DiskRecovered { free_mib: u64 },
    /// The model file is missing or cannot be read.
    ModelMissing { sentence: Sentence },
    /// Another model is in the place of the known one.
    ModelChanged { expected_sha256: String, found_sha256: String },
    /// The known model is back.
    ModelBack { sha256: String },
    /// The ledger was damaged; it was set aside under a file name and made anew.
    LedgerRebuilt { set_aside: String, tasks: u64 },
    /// The worker process ended without being asked to, by an exit code or a signal.
    WorkerDied {
        #[serde(flatten)]
        ending: Ending,
    },
    /// The worker made no progress for too long and was ended.
    WorkerStalled { after_s: u64 },
    /// The wall clock jumped, forward or (negative) back.
    ClockJumped { by_s: i64 },
    /// The hook command succeeded.
    HookDone { took_s: f64 },
    /// The hook command failed or took too long.
    HookFailed { sentence: Sentence },
    /// The daemon cannot do part of its work.
    Degraded { reason: Sentence },
    /// It can again.
    Recovered { sentence: Sentence },
    /// A command was refused.
    CommandRefused { reason: Sentence },
}

impl Event {
    /// The event's name on the wire and in the journal. Names are a format: they stay.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::CycleBegan { .. } => "cycle_began",
            Self::CycleFailed { .. } => "cycle_failed",
            Self::Checked { .. } => "checked",
            Self::Switched { .. } => "switched",
            Self::Promoted { .. } => "promoted",
            Self::AwaitsApproval { .. } => "awaits_approval",
            Self::Rejected { .. } => "rejected",
            Self::RolledBack { .. } => "rolled_back",
            Self::Sentinel { .. } => "sentinel",
            Self::RunGaveUp { .. } => "run_gave_up",
            Self::TaskSetQuarantined { .. } => "task_set_quarantined",
            Self::TasksTaken { .. } => "tasks_taken",
            Self::LinesQuarantined { .. } => "quarantined_lines",
            Self::LowDisk { .. } => "low_disk",
            Self::DiskRecovered { .. } => "disk_recovered",
            Self::ModelMissing { .. } => "model_missing",
            Self::ModelChanged { .. } => "model_changed",
            Self::ModelBack { .. } => "model_back",
            Self::LedgerRebuilt { .. } => "ledger_rebuilt",
            Self::WorkerDied { .. } => "worker_died",
            Self::WorkerStalled { .. } => "worker_stalled",
            Self::ClockJumped { .. } => "clock_jumped",
            Self::HookDone { .. } => "hook_done",
            Self::HookFailed { .. } => "hook_failed",
            Self::Degraded { .. } => "degraded",
            Self::Recovered { .. } => "recovered",
            Self::CommandRefused { .. } => "command_refused",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Started { .. }
            | Self::Stopped { .. }
            | Self::CycleBegan { .. }
            | Self::Checked { .. }
            | Self::Promoted { .. }
            | Self::AwaitsApproval { .. }
            | Self::Rejected { .. }
            | Self::TasksTaken { .. }
            | Self::DiskRecovered { .. }
            | Self::ModelBack { .. }
            | Self::HookDone { .. }
            | Self::Recovered { .. } => Severity::Info,
            Self::RolledBack { .. }
            | Self::CycleFailed { .. }
            | Self::Switched { .. }
            | Self::Sentinel { .. }
            | Self::TaskSetQuarantined { .. }
            | Self::LinesQuarantined { .. }
            | Self::LedgerRebuilt { .. }
            | Self::WorkerDied { .. }
            | Self::WorkerStalled { .. }
            | Self::ClockJumped { .. }
            | Self::HookFailed { .. }
            | Self::CommandRefused { .. } => Severity::Warning,
            Self::RunGaveUp { .. }
            | Self::LowDisk { .. }
            | Self::ModelMissing { .. }
            | Self::ModelChanged { .. }
            | Self::Degraded { .. } => Severity::Error,
        }
    }

    /// The event's fields, for structured logs and for the wire.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        // An event always becomes an object with its name and these fields (see the tests).
        match serde_json::to_value(self) {
            Ok(Value::Object(mut parts)) => match parts.remove("detail") {
                Some(Value::Object(fields)) => fields,
                _ => Map::new(),
            },
            _ => Map::new(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version } => write!(f, "latrod {version} started"),
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
            Self::CycleBegan { number, train, held_out } => {
                write!(f, "cycle {number} began with {train} tasks and {held_out} held-out ones")
            }
            Self::CycleFailed { number, reason } => write!(f, "cycle {number} failed: {reason}"),
            Self::Checked { version, keep, reason, .. } => {
                write!(f, "checked adapter {version}, which {}: {reason}", verdict(*keep))
            }
            Self::Switched { from, to, reason } => {
                let (from, to) = (name(from.as_ref()), name(to.as_ref()));
                write!(f, "switched from {from} to {to}: {reason}")
            }
            Self::Promoted { version: v, reason: r, .. } => write!(f, "promoted adapter {v}: {r}"),
            Self::AwaitsApproval { version: v, reason: r, .. } => {
                write!(f, "adapter {v} waits for an operator's approval: {r}")
            }
            Self::Rejected { reason, .. } => write!(f, "rejected the candidate: {reason}"),
            Self::RolledBack { from, to, reason } => {
                write!(f, "rolled back from {from} to {}: {reason}", name(to.as_ref()))
            }
            Self::Sentinel { sentence: s, step, .. } => write!(f, "sentinel at step {step}: {s}"),
            Self::RunGaveUp { step, sentence } => {
                write!(f, "the run gave up at step {step}: {sentence}")
            }
            Self::TaskSetQuarantined { tasks, sentence } => {
                write!(f, "{tasks} tasks are set aside: {sentence}")
            }
            Self::TasksTaken { count, rejected } => {
                write!(f, "took {count} tasks in, rejected {rejected} lines")
            }
            Self::LinesQuarantined { lines, files } => {
                write!(f, "{lines} lines of {files} files went to quarantine")
            }
            Self::LowDisk { free_mib, needed_mib } => {
                write!(f, "the disk has {free_mib} MiB free, {needed_mib} MiB are needed")
            }
            Self::DiskRecovered { free_mib: n } => write!(f, "the disk has room again, {n} MiB"),
            Self::ModelMissing { sentence } => write!(f, "the model cannot be used: {sentence}"),
            Self::ModelChanged { .. } => f.write_str("the model file has changed"),
            Self::ModelBack { .. } => f.write_str("the model is back"),
            Self::LedgerRebuilt { set_aside, tasks } => {
                write!(f, "the damaged ledger is now {set_aside}; {tasks} tasks were read again")
            }
            Self::WorkerDied { ending } => write!(f, "the worker ended by itself: {ending}"),
            Self::WorkerStalled { after_s: s } => {
                write!(f, "the worker made no progress for {s} s and was ended")
            }
            Self::ClockJumped { by_s } => write!(f, "the wall clock jumped by {by_s} s"),
            Self::HookDone { took_s } => write!(f, "the hook command took {took_s:.1} s"),
            Self::HookFailed { sentence } => write!(f, "the hook command failed: {sentence}"),
            Self::Degraded { reason } => write!(f, "degraded: {reason}"),
            Self::Recovered { sentence } => write!(f, "recovered: {sentence}"),
            Self::CommandRefused { reason } => write!(f, "refused a command: {reason}"),
        }
    }
}

/// What a version is called in a sentence.
fn name(version: Option<&String>) -> &str {
    version.map_or("the base model", String::as_str)
}

/// What follows from a check for the adapter.
const fn verdict(keep: bool) -> &'static str {
    if keep { "stays" } else { "goes" }
}

/// Writes numbers as fields of their own. JSON has none that are not finite: they become `null`.
fn as_fields<S: Serializer>(numbers: &Numbers, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(numbers.iter().copied())
}

#[cfg(test)]
pub(super) mod tests;
