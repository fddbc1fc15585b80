//! The messages between the daemon and its worker: one JSON object per line, in both directions.
//!
//! ```text
//!   daemon                                       worker
//!     Setup ───────────────────────────────────►   (loads the model)
//!           ◄─────────────────── Loaded │ Failed
//!     Train │ Compare ─────────────────────────►   one job at a time
//!           ◄──────────── Began, Beat, Step, Sentinel, Progress …
//!     Stop ────────────────────────────────────►   (ignored unless a job runs)
//!           ◄─── Trained │ GaveUp │ Compared │ Stopped │ Failed      ends the job
//!     end of file ─────────────────────────────►   (saves and exits)
//! ```
//!
//! Every job is answered by exactly one line that ends it ([`FromWorker::ends_job`]). Both sides are
//! the same executable, so the format needs no version. Owns the messages and the reading of
//! their lines; doesn't know pipes or processes. No message holds text of a task.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::latro::metrics::StepMetrics;
use crate::latro::sentinel::Trip;
use crate::latro::settings::TrainSettings;
use crate::memory::plan::MemoryPlan;

/// The longest line that either side reads or writes, in bytes. The longest message there is, a
/// `Train` with its settings and three paths, stays under 16 KiB.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// The longest sentence that a message carries, in characters.
pub const MAX_SENTENCE_CHARS: usize = 500;

/// What the daemon asks its worker to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// The first line: which model to load and how to compute.
    Setup(Box<Setup>),
    /// Train until the run is done or interrupted.
    Train(Box<TrainJob>),
    /// Compare a candidate with what it would replace.
    Compare(Box<CompareJob>),
    /// End the current job, keep what is done of it, and wait for the next one.
    Stop,
}

/// Which model to load, and within which bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The GGUF file.
    pub model: PathBuf,
    /// The SHA-256 that it must have, if it must have one: 64 hexadecimal digits.
    pub expected_sha256: Option<String>,
    /// Where the model's SHA-256 is remembered; without it the file is hashed at every start.
    pub hash_cache: Option<PathBuf>,
    /// How products with the frozen weights are computed.
    pub compute: Compute,
    /// Where it computes.
    pub device: DeviceKind,
    /// Threads to compute with; 0 for as many as the process may use.
    pub threads: usize,
    /// Rationales sampled together, at most. Fewer where memory is short.
    pub batch: usize,
    /// The most memory that the worker may take, in MiB; 0 for what the system can spare.
    pub memory_limit_mib: u64,
    /// What will be trained: decides how much memory is planned for.
    pub settings: TrainSettings,
    /// The longest prompt to plan memory for before the tasks are known, in tokens.
    pub prompt_tokens: usize,
}

/// A run to start or resume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainJob {
    /// The run's folder, a PEFT folder after every step.
    pub dir: PathBuf,
    /// The tasks to learn from, a JSON lines file that doesn't change while the run lasts.
    pub tasks: PathBuf,
    /// Settings of the learner.
    pub settings: TrainSettings,
    /// The adapter that the run starts from; a fresh one if there is none. It is only read when the
    /// run starts, but named again whenever the run resumes: another one would be another run.
    pub start: Option<PathBuf>,
    /// The step after which the job ends; that of the settings if there is none or it is beyond.
    pub until_step: Option<u64>,
}

/// A candidate to compare with what it would replace, on the same questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareJob {
    /// Where the results go, a JSON file written durably. Partial results beside it let a stopped
    /// comparison resume.
    pub out: PathBuf,
    /// The held-out tasks, a JSON lines file.
    pub tasks: PathBuf,
    /// The adapter in use; the untouched model without one.
    pub baseline: Option<PathBuf>,
    /// The adapter to judge.
    pub candidate: PathBuf,
    /// Ask only this many questions, the first; 0 asks all.
    pub max_questions: usize,
    /// The learner's settings: with or without rationales, how long they may be, and the seed.
    pub settings: TrainSettings,
    /// General prompts for the KL to the base model, one a line; built-in ones without.
    pub general_prompts: Option<PathBuf>,
    /// Where to write the candidate in llama.cpp's format, if anywhere.
    pub gguf: Option<PathBuf>,
}

/// What the worker tells the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWorker {
    /// The model is loaded; the worker waits for jobs.
    Loaded(Box<Loaded>),
    /// A job's files are read and its memory fits; computing starts.
    Began(Began),
    /// The computation makes progress: how often it has checked for an interrupt since the process
    /// started.
    /// Sent once a second, and only if that number has grown.
    Beat { beats: u64 },
    /// Part of a comparison is done, in questions.
    Progress { done: u64, of: u64 },
    /// A training step is done and saved.
    Step(Box<StepMetrics>),
    /// A sentinel has set the run back; `step` is where it resumes from.
    Sentinel { step: u64, trip: Trip },
    /// The run has done its steps.
    Trained { steps: u64 },
    /// The sentinels have given up on the run.
    GaveUp { sentence: String },
    /// The comparison is done and in this file.
    Compared { path: PathBuf },
    /// The job was ended by `Stop`; the same job would resume where it was.
    Stopped,
    /// The job, or the setup, cannot be done.
    Failed(Failure),
}

/// What a worker has loaded, and what it will take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// The file's name.
    pub file: String,
    /// `general.name` of the file.
    pub name: Option<String>,
    pub sha256: String,
    /// `general.architecture`, for example `llama`.
    pub architecture: String,
    /// The type of most of the weights, by bytes, for example `Q4_1`.
    pub quantization: String,
    pub file_bytes: u64,
    pub tensors: usize,
    /// Values in all tensors.
    pub parameters: u64,
    pub layers: usize,
    pub hidden: usize,
    pub vocab: usize,
    /// Tokens.
    pub context_length: usize,
    pub compute: Compute,
    pub device: DeviceKind,
    pub threads: usize,
    /// Rationales sampled together, after memory was looked at.
    pub batch: usize,
    /// The memory that training is predicted to take; 0 on a device whose memory is not planned.
    pub plan: PlanMib,
    /// The memory that it may take, in MiB.
    pub limit_mib: u64,
    /// Seconds from the setup to now.
    pub load_s: f64,
}

/// A memory plan in MiB, see [`crate::memory::plan::MemoryPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanMib {
    pub program: u64,
    pub weights: u64,
    pub adapter: u64,
    pub optimizer: u64,
    /// Keys, values and logits while sampling.
    pub sampling: u64,
    /// Activations, one block's graph and the head while training.
    pub training: u64,
    /// The peak.
    pub total: u64,
}

/// A job that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Began {
    /// Steps done before, when a run resumes; 0 for a comparison.
    pub step: u64,
    /// Tasks that are worked on.
    pub tasks: usize,
    /// Tasks that were left out because they don't fit the model's context or its chat template.
    pub left_out: usize,
    /// Rationales sampled together.
    pub batch: usize,
    /// The memory that the job is predicted to take at its peak, in MiB.
    pub plan_mib: u64,
}

/// Why something cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub kind: FailureKind,
    /// What, where, what to do; at most [`MAX_SENTENCE_CHARS`] characters, no text of tasks.
    pub sentence: String,
}

/// What has to change before it can be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The model's file is missing, unreadable or not one that can be trained.
    Model,
    /// The file is not the one that was expected, or has changed since it was loaded: load it again.
    ModelChanged,
    /// The tasks cannot be read, or none of them fits the model.
    Tasks,
    /// The settings contradict themselves, the model, or the adapter to start from.
    Settings,
    /// The folder holds another run (other settings, tasks, model or start): remove it or give
    /// another folder.
    OtherRun,
    /// A file of the run or of an adapter is damaged.
    Damaged,
    /// It would take more memory than there is.
    Memory,
    /// The disk is full.
    DiskFull,
    /// The disk, or the folder on it, cannot be written to.
    ReadOnly,
    /// Another process holds the run's folder.
    Busy,
    /// A line that is not a message, or a message out of turn. The worker ends after it.
    Protocol,
    /// Anything else, a panic for example.
    Other,
}

impl Failure {
    /// A failure with its sentence cut to the length that messages may have, control characters
    /// replaced by spaces.
    #[must_use]
    pub fn new(kind: FailureKind, sentence: impl std::fmt::Display) -> Self {
        Self { kind, sentence: bounded(&sentence.to_string()) }
    }
}

impl FromWorker {
    /// Whether the current job (or the setup) ends with this message.
    #[must_use]
    pub const fn ends_job(&self) -> bool {
        match self {
            Self::Loaded(_)
            | Self::Trained { .. }
            | Self::GaveUp { .. }
            | Self::Compared { .. }
            | Self::Stopped
            | Self::Failed(_) => true,
            Self::Began(_)
            | Self::Beat { .. }
            | Self::Progress { .. }
            | Self::Step(_)
            | Self::Sentinel { .. } => false,
        }
    }

    /// The message that the sentinels gave up, with its sentence cut to length.
    #[must_use]
    pub fn gave_up(sentence: &str) -> Self {
        Self::GaveUp { sentence: bounded(sentence) }
    }
}

/// The first [`MAX_SENTENCE_CHARS`] characters of a sentence, on one line.
fn bounded(sentence: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = sentence.chars().take(MAX_SENTENCE_CHARS).map(printable).collect();
    if sentence.chars().nth(MAX_SENTENCE_CHARS).is_some() {
        text.pop();
        text.push('…');
    }
    text
}

/// Why a line is not a message. Says nothing about its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("a line of the worker's protocol is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("a line of the worker's protocol is not a message: {0}")]
    NotAMessage(String),
}

/// A message as a line, its newline included.
///
/// # Errors
/// If it has no JSON form (a path that is not UTF-8) or is too long.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, ProtocolError::TooLong));
    }
    Ok(line)
}

/// A line, with or without its newline, as a message.
///
/// # Errors
/// [`ProtocolError`]; the reason names JSON's syntax or a field, never a value.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, ProtocolError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(ProtocolError::TooLong);
    }
    serde_json::from_slice(line).map_err(|error| {
        // serde's own words may repeat values.
        let what = match error.classify() {
            serde_json::error::Category::Data => "an unknown type, field or value",
            serde_json::error::Category::Eof => "it is cut off",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                "it is not JSON"
            }
        };
        ProtocolError::NotAMessage(format!("{what} (column {})", error.column()))
    })
}

/// Reads the next line, its newline included, into `line`; `false` at the end of the file. Takes
/// no more memory than a line may have.
///
/// # Errors
/// Of the kind `InvalidData` for a line that is too long, or that the file ends in; otherwise the
/// reader's own.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', line)?;
    match line.last() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if line.len() == MAX_LINE_BYTES => {
            Err(io::Error::new(io::ErrorKind::InvalidData, ProtocolError::TooLong))
        }
        Some(_) => {
            let cut = ProtocolError::NotAMessage("it is cut off".into());
            Err(io::Error::new(io::ErrorKind::InvalidData, cut))
        }
    }
}

impl From<&MemoryPlan> for PlanMib {
    fn from(plan: &MemoryPlan) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Self {
            program: mib(plan.program),
            weights: mib(plan.weights),
            adapter: mib(plan.adapter),
            optimizer: mib(plan.optimizer),
            sampling: mib(plan.sampling()),
            training: mib(plan.training()),
            total: mib(plan.total),
        }
    }
}

#[cfg(test)]
mod tests;
