//! What several commands share.

#[cfg(not(all(feature = "charts", feature = "debug", feature = "operator")))]
pub mod absent;
pub mod choice;
pub mod common;
pub mod error;
pub mod progress;
pub mod wording;
