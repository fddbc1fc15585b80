//! Everything worth telling that happens in the daemon, as one type with its fields.
//!
//! The journal and the MQTT `event` topic say the same: [`Event::name`], [`Event::severity`],
//! [`Event::fields`] and the sentence of its `Display`. Texts are [`Sentence`]s and names made by
//! latrod itself, bounded in length; there is no field that text of a task could travel in.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest sentence in an event, in characters.
pub const MAX_SENTENCE_CHARS: usize = 400;

/// A sentence made by latrod itself: one line of at most [`MAX_SENTENCE_CHARS`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Sentence(String);

impl Sentence {
    /// Cuts `text` to the allowed length and puts it on one line.
    #[must_use]
    pub fn new(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut kept: String = line.take(MAX_SENTENCE_CHARS).collect();
        if text.chars().nth(MAX_SENTENCE_CHARS).is_some() {
            kept.pop();
            kept.push('…');
        }
        Self(kept)
    }

    /// The sentence.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much an event matters to who watches a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The daemon does what it should.
    Info,
    /// It copes, but somebody may want to look.
    Warning,
    /// It cannot do its work until something is done.
    Error,
}

/// Named numbers of a decision, such as gains with their bounds. Non-finite ones become `null`.
pub type Numbers = Vec<(&'static str, f64)>;

/// How the worker process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned this exit code.
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
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The daemon started.
    Started { version: &'static str },
    /// The daemon stops of its own accord.
    Stopped { reason: Sentence },
    /// A cycle of learning began.
    CycleBegan { number: u64, train: u64, held_out: u64 },
    /// A cycle came to nothing.
    CycleFailed { number: u64, reason: Sentence },
    /// The active adapter was held against its parent on tasks newer than both.
    Checked { version: String, keep: bool, reason: Sentence, numbers: Numbers },
    /// Another version is active than before (`None`: the base model), not by a promotion.
    Switched { from: Option<String>, to: Option<String>, reason: Sentence },
    /// A candidate became the active adapter.
    Promoted { version: String, sha256: String, parent: Option<String>, numbers: Numbers },
    /// A candidate was not good enough.
    Rejected { reason: Sentence, numbers: Numbers },
    /// The active adapter gave way to an earlier one, or to the base model (`None`).
    RolledBack { from: String, to: Option<String>, reason: Sentence },
    /// A sentinel stopped a run or set it back.
    Sentinel { kind: String, step: u64, sentence: Sentence },
    /// A training run gave up after too many trips.
    RunGaveUp { step: u64, sentence: Sentence },
    /// The tasks of a run are set aside until an operator restores them.
    TaskSetQuarantined { tasks: u64, sentence: Sentence },
    /// Tasks came in from the spool folder.
    TasksTaken { count: u64, rejected: u64 },
    /// Lines of spool files could not be used; they lie in the quarantine folder with reasons.
    LinesQuarantined { lines: u64, files: u64 },
    /// Too little room on the disk of the state folder.
    LowDisk { free_mib: u64, needed_mib: u64 },
    /// There is room again.
    DiskRecovered { free_mib: u64 },
    /// The model file is not there or not readable.
    ModelMissing { sentence: Sentence },
    /// Another model stands where the known one was.
    ModelChanged { expected_sha256: String, found_sha256: String },
    /// The known model is there again.
    ModelBack { sha256: String },
    /// The ledger was damaged; it was set aside under a file name and made anew.
    LedgerRebuilt { set_aside: String, tasks: u64 },
    /// The worker process ended without being asked to.
    WorkerDied { ending: Ending },
    /// The worker made no progress for too long and was ended.
    WorkerStalled { after_s: u64 },
    /// The wall clock jumped.
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
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Started { version } => vec![("version", (*version).into())],
            Self::Stopped { reason }
            | Self::Degraded { reason }
            | Self::CommandRefused { reason } => {
                vec![("reason", text(reason))]
            }
            Self::CycleBegan { number, train, held_out } => vec![
                ("number", (*number).into()),
                ("train", (*train).into()),
                ("held_out", (*held_out).into()),
            ],
            Self::CycleFailed { number, reason } => {
                vec![("number", (*number).into()), ("reason", text(reason))]
            }
            Self::Checked { version, keep, reason, numbers } => with_numbers(
                vec![
                    ("version", version.as_str().into()),
                    ("keep", (*keep).into()),
                    ("reason", text(reason)),
                ],
                numbers,
            ),
            Self::Switched { from, to, reason } => vec![
                ("from", from.as_deref().into()),
                ("to", to.as_deref().into()),
                ("reason", text(reason)),
            ],
            Self::Promoted { version, sha256, parent, numbers } => with_numbers(
                vec![
                    ("version", version.as_str().into()),
                    ("sha256", sha256.as_str().into()),
                    ("parent", parent.as_deref().into()),
                ],
                numbers,
            ),
            Self::Rejected { reason, numbers } => {
                with_numbers(vec![("reason", text(reason))], numbers)
            }
            Self::RolledBack { from, to, reason } => vec![
                ("from", from.as_str().into()),
                ("to", to.as_deref().into()),
                ("reason", text(reason)),
            ],
            Self::Sentinel { kind, step, sentence } => vec![
                ("kind", kind.as_str().into()),
                ("step", (*step).into()),
                ("sentence", text(sentence)),
            ],
            Self::RunGaveUp { step, sentence } => {
                vec![("step", (*step).into()), ("sentence", text(sentence))]
            }
            Self::TaskSetQuarantined { tasks, sentence } => {
                vec![("tasks", (*tasks).into()), ("sentence", text(sentence))]
            }
            Self::TasksTaken { count, rejected } => {
                vec![("count", (*count).into()), ("rejected", (*rejected).into())]
            }
            Self::LinesQuarantined { lines, files } => {
                vec![("lines", (*lines).into()), ("files", (*files).into())]
            }
            Self::LowDisk { free_mib, needed_mib } => {
                vec![("free_mib", (*free_mib).into()), ("needed_mib", (*needed_mib).into())]
            }
            Self::DiskRecovered { free_mib } => vec![("free_mib", (*free_mib).into())],
            Self::ModelChanged { expected_sha256, found_sha256 } => vec![
                ("expected_sha256", expected_sha256.as_str().into()),
                ("found_sha256", found_sha256.as_str().into()),
            ],
            Self::ModelBack { sha256 } => vec![("sha256", sha256.as_str().into())],
            Self::LedgerRebuilt { set_aside, tasks } => {
                vec![("set_aside", set_aside.as_str().into()), ("tasks", (*tasks).into())]
            }
            Self::WorkerDied { ending: Ending::Exit(code) } => vec![("exit_code", (*code).into())],
            Self::WorkerDied { ending: Ending::Signal(number) } => {
                vec![("signal", (*number).into())]
            }
            Self::WorkerStalled { after_s } => vec![("after_s", (*after_s).into())],
            Self::ClockJumped { by_s } => vec![("by_s", (*by_s).into())],
            Self::HookDone { took_s } => vec![("took_s", (*took_s).into())],
            Self::ModelMissing { sentence }
            | Self::HookFailed { sentence }
            | Self::Recovered { sentence } => vec![("sentence", text(sentence))],
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
                let verdict = if *keep { "stays" } else { "goes" };
                write!(f, "checked adapter {version}, which {verdict}: {reason}")
            }
            Self::Switched { from, to, reason } => {
                let name = |version: &Option<String>| {
                    version.clone().unwrap_or_else(|| "the base model".into())
                };
                write!(f, "switched from {} to {}: {reason}", name(from), name(to))
            }
            Self::Promoted { version, .. } => write!(f, "promoted adapter {version}"),
            Self::Rejected { reason, .. } => write!(f, "rejected the candidate: {reason}"),
            Self::RolledBack { from, to, reason } => {
                let to = to.as_deref().unwrap_or("the base model");
                write!(f, "rolled back from {from} to {to}: {reason}")
            }
            Self::Sentinel { sentence, step, .. } => {
                write!(f, "a sentinel tripped at step {step}: {sentence}")
            }
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
            Self::DiskRecovered { free_mib } => {
                write!(f, "the disk has room again, {free_mib} MiB")
            }
            Self::ModelMissing { sentence } => write!(f, "the model cannot be used: {sentence}"),
            Self::ModelChanged { .. } => {
                f.write_str("the model file is not the one that was learned on")
            }
            Self::ModelBack { .. } => f.write_str("the model is back"),
            Self::LedgerRebuilt { set_aside, tasks } => {
                write!(f, "the damaged ledger lies in {set_aside}; {tasks} tasks were read again")
            }
            Self::WorkerDied { ending } => write!(f, "the worker ended by itself: {ending}"),
            Self::WorkerStalled { after_s } => {
                write!(f, "the worker made no progress for {after_s} s and was ended")
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

fn text(sentence: &Sentence) -> Value {
    sentence.as_str().into()
}

fn with_numbers(
    mut fields: Vec<(&'static str, Value)>,
    numbers: &Numbers,
) -> Vec<(&'static str, Value)> {
    // Value::from turns what JSON has no number for into null.
    fields.extend(numbers.iter().map(|&(name, number)| (name, Value::from(number))));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_one_bounded_line() {
        let long = Sentence::new("ä".repeat(MAX_SENTENCE_CHARS + 1));
        assert_eq!(long.as_str().chars().count(), MAX_SENTENCE_CHARS);
        assert!(long.as_str().ends_with('…'));
        assert_eq!(Sentence::new("two\nlines\0").as_str(), "two lines ");
        assert_eq!(
            Sentence::new("x".repeat(MAX_SENTENCE_CHARS)).as_str().len(),
            MAX_SENTENCE_CHARS
        );
    }

    #[test]
    fn fields_carry_the_numbers_of_a_decision() {
        let event = Event::Promoted {
            version: "00000002-0a1b2c3d".to_owned(),
            sha256: "0a1b".to_owned(),
            parent: None,
            numbers: vec![("accuracy_gain", 0.125), ("kl", f64::NAN)],
        };

        let fields = event.fields();

        assert_eq!(event.name(), "promoted");
        assert_eq!(fields[0], ("version", "00000002-0a1b2c3d".into()));
        assert_eq!(fields[2], ("parent", Value::Null));
        assert_eq!(fields[3], ("accuracy_gain", 0.125.into()));
        assert_eq!(fields[4], ("kl", Value::Null));
        assert_eq!(event.to_string(), "promoted adapter 00000002-0a1b2c3d");
    }
}
