//! The messages of the MQTT contract, version 1, as JSON.
//!
//! What goes out is tolerant on the receiving side: a later version may add fields, and receivers
//! ignore those that they don't know. What comes in, the [`Command`], is strict: a field that is
//! not known would not be signed, so it is refused. These types are a format; the daemon's own
//! types are others.
//!
//! Every message has a [`Head`]. Its `id` is the same when a message arrives twice (QoS 1), and
//! differs otherwise. `session` grows with every connection that the device tries: whatever an
//! older session says, last will included, never counts against a newer one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::contract::event::{Event, Severity};
use crate::contract::topics::check_command_id;

/// The version of the contract that the messages speak.
pub const VERSION: u32 = 1;

/// Largest payload that goes out, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 10;

/// Largest command that is looked at, in bytes.
pub const MAX_COMMAND_BYTES: usize = 64 << 10;

/// Longest version name, key or value in a command, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 256;

/// What every message of a device begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the contract: [`VERSION`].
    pub v: u32,
    /// Names the message: a stream and `seq`. Arriving again, a message has the same id.
    pub id: String,
    /// Number of the connection during which it was made; 0 before the first one.
    pub session: u64,
    /// Counts the messages of the stream that `id` begins with.
    pub seq: u64,
    /// The device's wall clock, in milliseconds since 1970. It may be wrong, even far.
    pub time_ms: u64,
}

/// A message: its head and what it says, side by side in one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message<T> {
    /// Which message it is.
    #[serde(flatten)]
    pub head: Head,
    /// What it says.
    #[serde(flatten)]
    pub body: T,
}

/// Whether the device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Connected.
    Online,
    /// Not connected.
    Offline,
}

/// Topic `status`, retained: there or not. The last will has the same form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// There or not.
    pub status: Presence,
    /// Names the process: another one after every start of the daemon.
    pub boot_id: String,
    /// Why: `connected`, `stopped` or `connection lost`.
    pub reason: String,
}

/// Topic `birth`, retained: who the device is. Empty and absent things are unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Birth {
    /// The same as in [`Status`].
    pub boot_id: String,
    /// latrod's version.
    pub version: String,
    /// The device.
    pub device: DeviceInfo,
    /// The model, once it is known.
    pub model: Option<ModelInfo>,
    /// Predicted peaks of memory in MiB, by name.
    pub memory_plan_mib: BTreeMap<String, f64>,
    /// What it can do: names of commands that it takes, `signed_commands` …
    pub capabilities: Vec<String>,
}

/// The device as far as the system tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceInfo {
    /// Host name.
    pub host: String,
    /// The board or machine.
    pub hardware: String,
    /// Operating system.
    pub os: String,
    /// Instruction set: `x86_64`, `aarch64`.
    pub arch: String,
    /// Processor cores.
    pub cores: u32,
    /// Main memory.
    pub memory_mib: u64,
}

/// The model that is trained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelInfo {
    /// SHA-256 of the GGUF file, in hex.
    pub sha256: String,
    /// As in the file: `llama`, `qwen2` …
    pub architecture: String,
    /// Its most frequent tensor type: `Q4_1` …
    pub quantization: String,
    /// Its size.
    pub file_mib: u64,
}

/// Topic `state`, retained: what the device does and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The scheduler's state, by name.
    pub state: String,
    /// Why it is in it, in a sentence of latrod's own.
    pub reason: String,
    /// How long it has been in it, in seconds.
    pub for_s: u64,
    /// The active adapter; absent while the base model serves.
    pub adapter: Option<AdapterInfo>,
    /// The step of the run in progress; 0 without one.
    pub step: u64,
    /// Steps that the run will have.
    pub steps: u64,
    /// Lengths of queues and totals, by name: tasks, outbox …
    pub counts: BTreeMap<String, u64>,
    /// What was dropped or refused since it was first counted, by name.
    pub dropped: BTreeMap<String, u64>,
    /// What the device's sensors say, by name with its unit.
    pub signals: BTreeMap<String, f64>,
}

/// An adapter by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// Its folder's name.
    pub version: String,
    /// SHA-256 of its weights, in hex.
    pub sha256: String,
}

/// Topic `progress`: the numbers of one training step. Those that are not finite are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The step, from 1.
    pub step: u64,
    /// Steps that the run will have.
    pub steps: u64,
    /// The numbers by the names they have in `metrics.jsonl`: reward, kl, entropy, loss …
    pub numbers: BTreeMap<String, f64>,
}

impl Progress {
    /// A step's progress; numbers that are not finite are left out, since JSON has none.
    pub fn new<'a>(
        step: u64,
        steps: u64,
        numbers: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Self {
        let finite = numbers.into_iter().filter(|(_, number)| number.is_finite());
        Self { step, steps, numbers: finite.map(|(name, n)| (name.to_owned(), n)).collect() }
    }
}

/// Topic `event`: something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventMessage {
    /// Its name, see [`Event::name`].
    pub event: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence about it.
    pub sentence: String,
    /// Its fields.
    pub detail: Map<String, Value>,
}

impl From<&Event> for EventMessage {
    fn from(event: &Event) -> Self {
        Self {
            event: event.name().to_owned(),
            severity: event.severity(),
            sentence: event.to_string(),
            detail: event.fields().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }
    }
}

/// Topic `ack/<id>`: what became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The command's id.
    pub command: String,
    /// How far it is.
    pub state: AckState,
    /// Why it failed or was refused; what came of it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A command's life: received → running → done or failed; or expired, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckState {
    /// It is written down and will be acted on.
    Received,
    /// It is being acted on.
    Running,
    /// It was done.
    Done,
    /// It was tried and did not succeed.
    Failed,
    /// It came too late; nothing was done.
    Expired,
    /// It was not accepted; nothing was done.
    Refused,
}

impl AckState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Received, Self::Running, Self::Done, Self::Failed, Self::Expired, Self::Refused];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Received | Self::Running)
    }
}

impl fmt::Display for AckState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Don't train until `Resume`.
    Pause,
    /// Train again when the device is idle.
    Resume,
    /// Begin a cycle as soon as the device is idle, however few new tasks there are.
    TrainNow,
    /// Evaluate the active adapter on the held-out tasks.
    Evaluate,
    /// Make this version the active adapter.
    Promote {
        /// The version's folder name or its number.
        version: String,
    },
    /// Go back to the parent of the active adapter.
    Rollback,
    /// Change a setting until the next start.
    Set {
        /// The setting.
        key: String,
        /// Its new value, as text.
        value: String,
    },
    /// Take tasks that were set aside back into training.
    RestoreTasks,
}

impl Action {
    /// Names of all actions, as the wire and the command line write them.
    pub const NAMES: [&str; 8] =
        ["pause", "resume", "train_now", "evaluate", "promote", "rollback", "set", "restore_tasks"];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::TrainNow => "train_now",
            Self::Evaluate => "evaluate",
            Self::Promote { .. } => "promote",
            Self::Rollback => "rollback",
            Self::Set { .. } => "set",
            Self::RestoreTasks => "restore_tasks",
        }
    }

    /// Its arguments in the order in which they are signed.
    #[must_use]
    pub fn arguments(&self) -> Vec<&str> {
        match self {
            Self::Promote { version } => vec![version],
            Self::Set { key, value } => vec![key, value],
            _ => Vec::new(),
        }
    }
}

/// Topic `cmd/<id>`: a command. Its JSON: `{"v":1, "id":"…", "command":"pause", "issued":…,
/// "expires":…, "signature":"…"}`, with `version` for promote, `key` and `value` for set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Names the command; it acts once, however often it arrives.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// When it was given, in unix seconds.
    pub issued: u64,
    /// When it is too late for it, in unix seconds.
    pub expires: u64,
    /// Ed25519 signature in base64, over what [`crate::contract::sign`] says.
    pub signature: Option<String>,
}

/// A command as it stands in JSON, before its parts are held against each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    v: u32,
    id: String,
    command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    issued: u64,
    expires: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

impl Command {
    /// Reads a command's payload. Strict: unknown fields, missing or needless arguments, sizes
    /// over the limits are all refused.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without repeating the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        if payload.len() > MAX_COMMAND_BYTES {
            return Err(format!("it has {} bytes, {MAX_COMMAND_BYTES} are allowed", payload.len()));
        }
        let raw: RawCommand = serde_json::from_slice(payload).map_err(|e| reason(&e))?;
        if raw.v != VERSION {
            return Err(format!("it speaks version {}, this device speaks {VERSION}", raw.v));
        }
        check_command_id(&raw.id).map_err(|e| e.to_string())?;
        let action = action(&raw.command, raw.version, raw.key, raw.value)?;
        let signature = raw.signature;
        Ok(Self { id: raw.id, action, issued: raw.issued, expires: raw.expires, signature })
    }

    /// The command's payload.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut raw = RawCommand {
            v: VERSION,
            id: self.id.clone(),
            command: self.action.name().to_owned(),
            version: None,
            key: None,
            value: None,
            issued: self.issued,
            expires: self.expires,
            signature: self.signature.clone(),
        };
        match &self.action {
            Action::Promote { version } => raw.version = Some(version.clone()),
            Action::Set { key, value } => {
                raw.key = Some(key.clone());
                raw.value = Some(value.clone());
            }
            _ => {}
        }
        serde_json::to_vec(&raw).unwrap_or_default()
    }
}

/// An action from its name and the arguments that were there.
///
/// # Errors
/// A sentence: unknown name, missing, needless or unusable argument.
pub fn action(
    name: &str,
    version: Option<String>,
    key: Option<String>,
    value: Option<String>,
) -> Result<Action, String> {
    let arguments = [("version", &version), ("key", &key), ("value", &value)];
    for (argument, text) in arguments {
        if let Some(text) = text {
            check_argument(argument, text)?;
        }
    }
    let missing = |argument: &str| format!("{name} needs {argument}");
    let action = match name {
        "pause" => Action::Pause,
        "resume" => Action::Resume,
        "train_now" => Action::TrainNow,
        "evaluate" => Action::Evaluate,
        "promote" => {
            Action::Promote { version: version.clone().ok_or_else(|| missing("a version"))? }
        }
        "rollback" => Action::Rollback,
        "set" => Action::Set {
            key: key.clone().ok_or_else(|| missing("a key"))?,
            value: value.clone().ok_or_else(|| missing("a value"))?,
        },
        "restore_tasks" => Action::RestoreTasks,
        _ => return Err(format!("it is none of {}", Action::NAMES.join(", "))),
    };
    let given = arguments.iter().filter(|(_, text)| text.is_some()).count();
    if given != action.arguments().len() {
        return Err(format!("{name} has an argument that it does not take"));
    }
    Ok(action)
}

fn check_argument(name: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_ARGUMENT_BYTES {
        return Err(format!("its {name} has more than {MAX_ARGUMENT_BYTES} bytes"));
    }
    if name != "value" && text.is_empty() {
        return Err(format!("its {name} is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("its {name} contains control characters"));
    }
    Ok(())
}

/// serde's own message could repeat parts of the payload, so only the kind and place are said.
fn reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => {
            "a field is missing, unknown, twice there or of the wrong type"
        }
        _ => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests;
