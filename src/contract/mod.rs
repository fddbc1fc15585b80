//! What a device and its fleet say to each other over MQTT: topics, payloads, signatures.
//!
//! `docs/mqtt.md` is the same contract as a reference for those who write another client;
//! `docs/schema/` and `docs/asyncapi.json` are made from these types. Knows nothing of connections,
//! of the ledger, or of what the daemon does with a command.

pub mod envelope;
mod error;
pub mod event;
pub mod keys;
#[cfg(test)]
mod schema;
pub mod topics;
pub mod wire;

pub use error::ContractError;
