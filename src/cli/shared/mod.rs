//! What several commands share.

#[cfg(not(all(feature = "charts", feature = "debug", feature = "operator")))]
pub mod absent;
#[cfg(feature = "operator")]
pub mod broker;
pub mod choice;
pub mod common;
pub mod error;
pub mod progress;
pub mod wording;
