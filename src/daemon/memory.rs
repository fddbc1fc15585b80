//! What the daemon remembers in its ledger, beside tasks and messages: one value for each key.
//!
//! All of it may be lost with a damaged ledger; every type's default is what a new device has.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hook::HookKind;
use crate::store::ledger::{Ledger, LedgerError};

/// A value with the key that it is kept under.
pub trait Remembered: Serialize + DeserializeOwned + Default {
    /// The key in the ledger's `meta` table.
    const KEY: &'static str;

    /// What is kept, or the default.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn recall(ledger: &Ledger) -> Result<Self, LedgerError> {
        Ok(ledger.get_meta(Self::KEY)?.unwrap_or_default())
    }

    /// Keeps it, durably once the transaction is.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn keep(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        ledger.set_meta(Self::KEY, self)
    }
}

/// An operator's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Don't train.
    pub paused: bool,
    /// Begin a cycle now; the command that is done once it has begun.
    pub train_now: Option<String>,
    /// Check the active adapter now; the command that is done once that is.
    pub check_now: Option<String>,
    /// The version that a rollback command takes back; the command that is done once it is.
    pub roll_back: Option<(String, String)>,
    /// Settings that override the file's, by dotted name.
    pub settings: BTreeMap<String, String>,
}

impl Remembered for Wishes {
    const KEY: &'static str = "wishes";
}

/// How the last cycle ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastCycle {
    /// Its number; 0 before the first.
    pub number: u64,
    /// The newest task that it had.
    pub newest: i64,
    /// Unix seconds.
    pub ended: Option<i64>,
    /// Failures in a row, up to and including this one.
    pub failures: u32,
    /// Candidates that were rejected against the adapter that is active now.
    pub attempts: u32,
    /// How it ended, in a sentence.
    pub outcome: String,
}

impl Remembered for LastCycle {
    const KEY: &'static str = "last_cycle";
}

/// Up to which task the active adapter has been judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judged {
    /// The version that this is about.
    pub version: Option<String>,
    /// The newest task when it was promoted or last checked.
    pub newest: i64,
    /// How often it was checked.
    pub checks: u32,
}

impl Remembered for Judged {
    const KEY: &'static str = "judged";
}

/// A hook that has yet to run: the change is made, and this is kept with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookDue {
    /// What has happened; nothing if no hook is due.
    pub kind: Option<HookKind>,
    /// What is active now; nothing for the base model.
    pub version: Option<String>,
    pub previous: Option<String>,
}

impl Remembered for HookDue {
    const KEY: &'static str = "hook_due";
}

/// The model that was last loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownModel {
    /// Empty before the first.
    pub sha256: String,
    pub name: String,
}

impl Remembered for KnownModel {
    const KEY: &'static str = "model";
}
