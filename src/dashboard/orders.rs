//! Commands that operators give from the page.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ed25519_dalek::SigningKey;

use super::DashboardError;
use super::fleet::orders::Order;
use super::fleet::{Device, DeviceId};
use super::settings::PageSettings;
use crate::contract::envelope::Envelope;
use crate::contract::keys::load_signing_key;
use crate::contract::topics::Topics;
use crate::contract::wire::{Action, Command, action};

/// Something to send.
#[derive(Debug)]
pub enum Outgoing {
    /// A command to a device.
    Command {
        /// The device.
        device: DeviceId,
        /// What it is to do.
        command: Box<Command>,
        /// The same, signed.
        envelope: Envelope,
    },
    /// What the broker keeps of this device is to be cleared.
    Retire(DeviceId),
}

/// How commands are signed.
enum Signature {
    Key(Box<SigningKey>),
    /// Without a signature, for a closed test bench.
    None,
    /// No commands are given.
    Forbidden,
}

/// Gives commands.
pub struct Giver {
    signature: Signature,
    valid_s: u64,
    /// Devices of commands that the broker does not have yet, by the command's id.
    under_way: Mutex<HashMap<String, DeviceId>>,
}

impl Giver {
    /// One that signs as the settings say.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn new(settings: &PageSettings) -> Result<Self, DashboardError> {
        let signature = match &settings.operator_key {
            Some(path) => Signature::Key(Box::new(load_signing_key(path).map_err(|e| {
                DashboardError::Setting { key: "page.operator_key", why: e.to_string() }
            })?)),
            None if settings.unsigned => Signature::None,
            None => Signature::Forbidden,
        };
        Ok(Self { signature, valid_s: settings.command_valid_s, under_way: Mutex::default() })
    }

    /// Whether commands are given at all.
    #[must_use]
    pub const fn can(&self) -> bool {
        !matches!(self.signature, Signature::Forbidden)
    }

    /// Makes a command of `who` for a device, and the note of it.
    ///
    /// # Errors
    /// A sentence: there is no key, or the system gives no random numbers.
    pub fn make(
        &self,
        device: &DeviceId,
        action: Action,
        who: &str,
        now_ms: u64,
    ) -> Result<(Outgoing, Order), String> {
        let topics = Topics::new(&device.fleet, &device.device).map_err(|e| e.to_string())?;
        let what = in_words(&action);
        let command = Command::new(&topics, action, now_ms / 1000, self.valid_s)?;
        let payload = command.to_json();
        let envelope = match &self.signature {
            Signature::Key(key) => Envelope::signed(key, &payload),
            Signature::None => Envelope::unsigned(&payload),
            Signature::Forbidden => {
                return Err("no operator_key is configured, so no commands can be given".to_owned());
            }
        };
        let order = Order {
            id: command.id.clone(),
            what,
            who: who.to_owned(),
            given_ms: now_ms,
            expires_ms: command.expires * 1000,
            said: None,
            reason: String::new(),
            sent: false,
            unsent: None,
        };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(command.id.clone(), device.clone());
        Ok((
            Outgoing::Command { device: device.clone(), command: Box::new(command), envelope },
            order,
        ))
    }

    /// Notes that the broker has a command, or does not want it; its device.
    pub fn ended(&self, id: &str) -> Option<DeviceId> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

/// What an operator wants of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The same of each.
    Action(Action),
    /// That each promotes the version that waits for approval there, as the page knows it.
    Approve,
}

impl Wish {
    /// Reads what a form asks for.
    ///
    /// # Errors
    /// A sentence, if it is nothing.
    pub fn read(
        command: &str,
        version: Option<String>,
        key: Option<String>,
        value: Option<String>,
    ) -> Result<Self, String> {
        match command {
            "approve" => Ok(Self::Approve),
            _ => action(command, version, key, value).map(Self::Action),
        }
    }

    /// What that is for a device.
    ///
    /// # Errors
    /// A sentence, if there is nothing to approve.
    pub fn of(&self, device: &Device) -> Result<Action, String> {
        match self {
            Self::Action(action) => Ok(action.clone()),
            Self::Approve => {
                let version = device.state().and_then(|state| state.awaiting.clone());
                let version = version.ok_or("no adapter waits for approval there")?;
                Ok(Action::Promote { version })
            }
        }
    }

    /// As the audit log has it.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Action(action) => in_words(action),
            Self::Approve => "approve".to_owned(),
        }
    }
}

/// An action as the audit log has it.
fn in_words(action: &Action) -> String {
    match action {
        Action::Promote { version } => format!("promote {version}"),
        Action::Set { key, value } => format!("set {key}={value}"),
        other => other.name().to_owned(),
    }
}
