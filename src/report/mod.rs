//! What others get to see of the daemon: the link to a fleet over MQTT, the outbox and inbox in the
//! ledger behind it, and the journal.
//!
//! The messages themselves are [`crate::contract`]. Knows nothing of what events mean or commands do.

pub mod error;
pub mod inbox;
pub mod journal;
pub mod mqtt;
pub mod outbox;

pub use error::ReportError;

/// The tables of outbox and inbox, for the ledger that holds them.
pub const SCHEMAS: [&str; 2] = [outbox::SCHEMA, inbox::SCHEMA];
