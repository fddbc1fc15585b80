//! Commands: what an operator asks one device for, and until when.

use serde::{Deserialize, Serialize};

use super::{VERSION, other_version, reason};
use crate::contract::keys::random_hex;
use crate::contract::topics::{Topics, check_command_id};

/// Longest version name, key or value in a command, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 256;

/// Longest time between issue and expiry of a command, in seconds: a week.
pub const MAX_LIFE_S: u64 = 7 * 86_400;

/// How far ahead of the device's clock an operator's may be, in seconds.
pub const MAX_AHEAD_S: u64 = 300;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Don't train until [`Action::Resume`].
    Pause,
    /// Train again when the device is idle.
    Resume,
    /// Begin a cycle as soon as the device is idle, however few new tasks there are.
    TrainNow,
    /// Check the active adapter against its parent on held-out tasks that came since.
    Check,
    /// Make this version the active adapter.
    Promote {
        /// The version's folder name.
        version: String,
    },
    /// Go back to the parent of the active adapter.
    Rollback,
    /// Override a setting of the configuration file, or restore the file's value.
    Set {
        /// The setting.
        key: String,
        /// Its new value, as text; empty restores the file's.
        value: String,
    },
    /// Take tasks that were set aside back into training.
    RestoreTasks,
}

impl Action {
    /// Names of all actions, as the wire and the command line write them.
    pub const NAMES: [&str; 8] =
        ["pause", "resume", "train_now", "check", "promote", "rollback", "set", "restore_tasks"];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::TrainNow => "train_now",
            Self::Check => "check",
            Self::Promote { .. } => "promote",
            Self::Rollback => "rollback",
            Self::Set { .. } => "set",
            Self::RestoreTasks => "restore_tasks",
        }
    }

    /// How many arguments it takes.
    const fn arguments(&self) -> usize {
        match self {
            Self::Promote { .. } => 1,
            Self::Set { .. } => 2,
            _ => 0,
        }
    }
}

/// A command, the payload of an [envelope](crate::contract::envelope): `{"v":2, "fleet":"…",
/// "device":"…", "id":"…", "command":"pause", "issued":…, "expires":…}`, with `version` for promote,
/// `key` and `value` for set. Topic `cmd/<command>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The fleet of the device that it is for.
    pub fleet: String,
    /// The device that it is for.
    pub device: String,
    /// Names the command; it acts once, however often it arrives.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// When it was given, in unix seconds.
    pub issued: u64,
    /// When it is too late for it, in unix seconds.
    pub expires: u64,
}

/// A command to one device, signed within an envelope. It acts once.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::contract) struct RawCommand {
    /// Version of the contract: 2.
    v: u32,
    /// The fleet of the device that it is for.
    fleet: String,
    /// The device that it is for.
    device: String,
    /// Names the command: 1 to 64 ASCII letters, digits, `-` and `_`. The last level of its topic.
    id: String,
    /// What to do. The level before in its topic.
    command: String,
    /// For `promote`: the folder name of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// For `set`: the setting, with its section: `learn.steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// For `set`: its new value as text; empty for the configuration file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// When it was given, in seconds since 1970.
    issued: u64,
    /// When it is too late for it, in seconds since 1970; at most a week after `issued`.
    expires: u64,
}

impl Command {
    /// A command to the device of `topics` under a new random id, valid for `valid_s` seconds from
    /// `issued`, in unix seconds.
    ///
    /// # Errors
    /// A sentence if the system gives no random numbers.
    pub fn new(topics: &Topics, action: Action, issued: u64, valid_s: u64) -> Result<Self, String> {
        Ok(Self {
            fleet: topics.fleet().to_owned(),
            device: topics.device().to_owned(),
            id: random_hex::<16>()?,
            action,
            issued,
            expires: issued + valid_s,
        })
    }

    /// Reads a command. Strict: unknown fields, missing or superfluous arguments, and sizes over the
    /// limits are all refused.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without repeating the payload.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        let raw: RawCommand = serde_json::from_slice(payload).map_err(|e| reason(&e))?;
        if raw.v != VERSION {
            return Err(other_version(raw.v));
        }
        check_command_id(&raw.id).map_err(|e| e.to_string())?;
        let action = action(&raw.command, raw.version, raw.key, raw.value)?;
        let RawCommand { fleet, device, id, issued, expires, .. } = raw;
        Ok(Self { fleet, device, id, action, issued, expires })
    }

    /// The command as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (mut version, mut key, mut value) = (None, None, None);
        match &self.action {
            Action::Promote { version: wanted } => version = Some(wanted.clone()),
            Action::Set { key: setting, value: new } => {
                (key, value) = (Some(setting.clone()), Some(new.clone()));
            }
            _ => {}
        }
        let raw = RawCommand {
            v: VERSION,
            fleet: self.fleet.clone(),
            device: self.device.clone(),
            id: self.id.clone(),
            command: self.action.name().to_owned(),
            version,
            key,
            value,
            issued: self.issued,
            expires: self.expires,
        };
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
        "check" => Action::Check,
        "promote" => {
            Action::Promote { version: version.clone().ok_or_else(|| missing("a version"))? }
        }
        "rollback" => Action::Rollback,
        "set" => Action::Set {
            key: key.clone().ok_or_else(|| missing("a key"))?,
            value: value.clone().ok_or_else(|| missing("a value"))?,
        },
        "restore_tasks" => Action::RestoreTasks,
        _ => return Err(format!("its command is not one of {}", Action::NAMES.join(", "))),
    };
    let given = arguments.iter().filter(|(_, text)| text.is_some()).count();
    if given != action.arguments() {
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
