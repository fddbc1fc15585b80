//! What operators have asked for, as the ledger remembers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::daemon::storage::Remembered;

/// What operators have asked for and what has not ended yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorState {
    /// Don't train.
    pub paused: bool,
    /// Begin a cycle now; the command that is done once it has begun.
    pub train_now: Option<String>,
    /// Check the active adapter now; the command that is done once that is.
    pub check: Option<String>,
    /// The version to roll back; the command that is done once that is.
    pub roll_back: Option<(String, String)>,
    /// Settings that override the file's, by dotted name.
    pub settings: BTreeMap<String, String>,
}

impl Remembered for OperatorState {
    const KEY: &'static str = "operator";
}

/// A change of an [`OperatorState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorChange {
    /// Pauses, or resumes.
    Paused(bool),
    /// The command that waits for a cycle to begin.
    TrainNow(Option<String>),
    /// The command that waits for the active adapter to be checked.
    Check(Option<String>),
    /// The version to roll back, with the command that waits for that.
    RollBack(Option<(String, String)>),
    /// Overrides a setting, or (`None`) leaves it to the file.
    Setting(String, Option<String>),
}

impl OperatorState {
    /// The state after `change`.
    #[must_use]
    pub fn with(&self, change: OperatorChange) -> Self {
        let mut state = self.clone();
        match change {
            OperatorChange::Paused(paused) => state.paused = paused,
            OperatorChange::TrainNow(command) => state.train_now = command,
            OperatorChange::Check(command) => state.check = command,
            OperatorChange::RollBack(version) => state.roll_back = version,
            OperatorChange::Setting(key, Some(value)) => {
                state.settings.insert(key, value);
            }
            OperatorChange::Setting(key, None) => {
                state.settings.remove(&key);
            }
        }
        state
    }
}
