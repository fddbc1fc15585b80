//! What can go wrong between a device and its fleet, as one sentence: what, where, what to do.

use std::path::PathBuf;

use crate::contract::ContractError;

/// The error of everything in [`crate::report`] that speaks MQTT.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A name that cannot stand in a topic, or a key that cannot be used.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A setting of the connection that cannot be used.
    #[error("{key} in [mqtt] cannot be used: {why}")]
    Setting {
        /// The setting's key.
        key: &'static str,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// A file with a certificate or its key that cannot be read or understood.
    #[error("cannot use {what} {}: {why}", path.display())]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it cannot be used, and what to do.
        why: String,
    },
    /// A message larger than brokers and receivers are asked to take.
    #[error("a message of {bytes} bytes for {topic} is over the limit of {limit}; it was not sent")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// Where it should have gone.
        topic: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A command cannot go from its present state to the one asked for.
    #[error("the command {id} is {from}, it cannot become {to}")]
    Transition {
        /// The command's id.
        id: String,
        /// Its present state, or `unknown`.
        from: String,
        /// The state asked for.
        to: &'static str,
    },
    /// A value that cannot be written as JSON.
    #[error("a message for {topic} cannot be written as JSON: {source}")]
    Json {
        /// Where it should have gone.
        topic: String,
        source: serde_json::Error,
    },
    /// The ledger refused.
    #[error("the ledger failed: {0}; check the disk that holds the state folder")]
    Ledger(#[from] rusqlite::Error),
}

impl ReportError {
    /// Whether the ledger was the reason, so that trying again later may help.
    #[must_use]
    pub const fn is_ledger(&self) -> bool {
        matches!(self, Self::Ledger(_))
    }
}
