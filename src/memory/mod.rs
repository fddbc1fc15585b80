//! How much memory training takes, and the settings with which it fits a limit.

pub mod fit;
pub mod plan;
