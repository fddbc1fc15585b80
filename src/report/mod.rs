//! What others get to see of the learner.

#[cfg(feature = "charts")]
pub mod curve;
pub mod error;
pub mod event;
pub mod inbox;
pub mod journal;
pub mod memory;
pub mod mqtt;
pub mod outbox;
pub mod sign;
pub mod topics;
pub mod wire;

pub use error::ReportError;
