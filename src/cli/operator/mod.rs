//! The commands of those who operate a fleet.

pub mod command;
pub mod dashboard;
#[cfg(feature = "demo")]
pub mod demo;
pub mod simulate;
