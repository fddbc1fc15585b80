//! The retained state of a device: what it does and why, what is wrong, what has come of its learning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::event::Severity;

/// Topic `state`, retained: what the device does and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// What is wrong now. What is no longer listed is over.
    pub alarms: Vec<Alarm>,
    /// What keeps the device from training now.
    pub blockers: Vec<Blocker>,
    /// When the last training step ended, in milliseconds since 1970 by the device's clock; absent
    /// before the first.
    pub last_trained_ms: Option<u64>,
    /// How the last cycle ended; absent before the first.
    pub last_cycle: Option<CycleInfo>,
    /// The versions of the adapter that the device keeps, oldest first.
    pub versions: Vec<VersionInfo>,
    /// The version that has proved better than the active adapter and waits for an operator's approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaiting: Option<String>,
    /// Settings that operators have put over the configuration file's, by dotted name.
    pub overrides: BTreeMap<String, String>,
}

/// An adapter by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AdapterInfo {
    /// Its folder's name.
    pub version: String,
    /// SHA-256 of its weights, in hex.
    pub sha256: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alarm {
    /// Its name; at most one of a name is listed.
    pub alarm: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence about it.
    pub sentence: String,
    /// For how long, in seconds, as far as this start of the daemon knows.
    pub for_s: u64,
}

/// Something that keeps the device from training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Blocker {
    /// What it is: a signal's name with its unit, `paused`, or `tasks`.
    pub blocker: String,
    /// Its value, where it is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The limit that the value is held against, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The same in words.
    pub sentence: String,
    /// For how long, in seconds, as far as this start of the daemon knows.
    pub for_s: u64,
}

/// How a cycle ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CycleInfo {
    /// Its number, from 1.
    pub number: u64,
    /// `promoted`, `awaiting_approval`, `rejected` or `failed`.
    pub result: String,
    /// Why, in a sentence.
    pub reason: String,
    /// When, in milliseconds since 1970 by the device's clock.
    pub ended_ms: u64,
    /// The numbers that decided, by the names that they have in events.
    pub numbers: BTreeMap<String, f64>,
}

/// A version of the adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct VersionInfo {
    /// Its folder's name.
    pub version: String,
    /// SHA-256 of its weights, in hex.
    pub sha256: String,
    /// The version that it was compared with; absent for the base model.
    pub parent: Option<String>,
    /// When it was published, in milliseconds since 1970 by the device's clock.
    pub published_ms: u64,
    /// Whether it was found to be worse and given up.
    pub rolled_back: bool,
    /// The numbers that decided for it, by the names that they have in events.
    pub numbers: BTreeMap<String, f64>,
}
