//! Values that the ledger remembers beside tasks and messages, one for each key.
//!
//! All of them may be lost with a damaged ledger; every type's default is what a new device has. Each
//! type stands with the owner that uses it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::ledger::{Ledger, LedgerError};

/// A value with the key that it is kept under.
pub trait Remembered: Serialize + DeserializeOwned + Default {
    /// The key in the ledger's `meta` table. Keys are a format: they stay.
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
