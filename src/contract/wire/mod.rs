//! The messages of the MQTT contract, version 2, as JSON.
//!
//! A device's messages are tolerant on the receiving side: a later latrod may add fields, and
//! receivers ignore those that they don't know. A [`Command`] is strict: whatever it says must be
//! understood, or nothing of it is done. These types are a format; the daemon's own types are others.
//!
//! Every message of a device has a [`Head`]. Its `id` is the same when a message arrives twice
//! (QoS 1), and differs otherwise. `connection` grows with every connection that the device tries:
//! whatever an older connection says, last will included, never counts against a newer one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::contract::event::{Event, Severity};

mod command;
mod state;

#[cfg(test)]
pub(super) use command::RawCommand;
pub use command::{Action, Command, MAX_AHEAD_S, MAX_ARGUMENT_BYTES, MAX_LIFE_S, action};
pub use state::{AdapterInfo, Alarm, Blocker, CycleInfo, State, VersionInfo};

/// The version of the contract that the messages speak. It is also in every topic.
pub const VERSION: u32 = 2;

/// Largest payload that goes out, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 10;

/// Largest command that is looked at, in bytes, with its envelope.
pub const MAX_COMMAND_BYTES: usize = 64 << 10;

/// Now by this machine's wall clock, in milliseconds since 1970; 0 before that.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// What every message of a device begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Head {
    /// Version of the contract: [`VERSION`].
    pub v: u32,
    /// Names the message: a stream and `seq`. Arriving again, a message has the same id.
    pub id: String,
    /// Number of the connection during which it was made; 0 before the first one. Later ones are
    /// larger, across restarts of the daemon as well.
    pub connection: u64,
    /// Counts the messages of the stream that `id` begins with.
    pub seq: u64,
    /// The device's wall clock, in milliseconds since 1970. It may be wrong, even far.
    pub time_ms: u64,
}

/// A message: its head and what it says, side by side in one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Message<T> {
    /// Which message it is.
    #[serde(flatten)]
    pub head: Head,
    /// What it says.
    #[serde(flatten)]
    pub body: T,
}

impl<T: DeserializeOwned> Message<T> {
    /// Reads a device's message.
    ///
    /// # Errors
    /// A sentence that does not repeat the message: it speaks another version of the contract, or is
    /// not such a message.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(payload).map_err(|e| reason(&e))?;
        if v != VERSION {
            return Err(other_version(v));
        }
        serde_json::from_slice(payload).map_err(|e| reason(&e))
    }
}

/// Why a message of version `v` is refused.
fn other_version(v: u32) -> String {
    format!("it speaks version {v} of the contract, this latrod speaks version {VERSION}")
}

/// Whether the device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Connected.
    Online,
    /// Not connected.
    Offline,
}

/// Topic `status`, retained: there or not. The last will has the same form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Birth {
    /// The same as in [`Status`].
    pub boot_id: String,
    /// latrod's version.
    pub version: String,
    /// The device.
    pub device: DeviceInfo,
    /// What the fleet groups devices by, from the device's configuration.
    pub tags: BTreeMap<String, String>,
    /// The model, once it is known.
    pub model: Option<ModelInfo>,
    /// Predicted peaks of memory in MiB, by name.
    pub memory_plan_mib: BTreeMap<String, f64>,
    /// What it can do: names of commands that it takes, `signed_commands` …
    pub capabilities: Vec<String>,
}

/// The device as far as the system tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// Topic `progress`: the numbers of one training step. Those that are not finite are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct StepProgress {
    /// The step, from 1.
    pub step: u64,
    /// Steps that the run will have.
    pub steps: u64,
    /// The numbers by the names they have in `metrics.jsonl`: reward, kl, entropy, loss …
    pub numbers: BTreeMap<String, f64>,
}

impl StepProgress {
    /// A step's progress; numbers that are not finite are left out, since JSON has none.
    pub fn new<'a>(
        step: u64,
        steps: u64,
        numbers: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Self {
        Self { step, steps, numbers: finite(numbers) }
    }
}

/// Numbers by name, without those that are not finite: JSON has none.
pub fn finite<'a>(numbers: impl IntoIterator<Item = (&'a str, f64)>) -> BTreeMap<String, f64> {
    let numbers = numbers.into_iter().filter(|(_, number)| number.is_finite());
    numbers.map(|(name, number)| (name.to_owned(), number)).collect()
}

/// Topic `event`: something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// [`EventMessage`] with the fields of each event, for its schema: who reads events takes any name
/// and any fields, since later versions have more.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its schema counts")]
pub(super) struct EventMessageSchema {
    /// Its name, and what it says besides.
    #[serde(flatten)]
    event: Event,
    /// How much it matters.
    severity: Severity,
    /// One sentence about it, at most 400 characters.
    sentence: String,
}

impl From<&Event> for EventMessage {
    fn from(event: &Event) -> Self {
        Self {
            event: event.name().to_owned(),
            severity: event.severity(),
            sentence: event.to_string(),
            detail: event.fields(),
        }
    }
}

/// Topic `ack/<id>`: what became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// serde's own message could repeat parts of the payload, so only the kind and place are said.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => {
            "a field is missing, unknown, repeated or of the wrong type"
        }
        _ => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests;
