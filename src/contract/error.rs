//! What can be wrong with a name or a key, as one sentence: what, where, what to do.

use std::path::PathBuf;

/// The error of everything in [`crate::contract`].
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The name of a fleet, a device or a command cannot stand in a topic.
    #[error("{what} cannot be part of an MQTT topic: {why}; choose another name")]
    Name {
        /// Whose name: `the fleet's name`, `the device's name`, `the command's id`.
        what: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// A file with a password or a key that cannot be read or understood.
    #[error("cannot use {what} {}: {why}", path.display())]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it cannot be used, and what to do.
        why: String,
    },
}
