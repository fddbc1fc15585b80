//! The commands of the daemon: run it, check its configuration, show what it is doing.

pub mod run;
pub mod status;
pub mod validate;
pub mod worker;
