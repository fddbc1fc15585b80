//! What others get to see of the learner.

pub mod error;
pub mod inbox;
pub mod journal;
pub mod mqtt;
pub mod outbox;

pub use error::ReportError;
