//! The commands of those who operate a fleet.

pub mod command;
pub mod dashboard;
pub mod simulate;
