//! The operating system, as far as several parts of the program need it.

pub mod memory;
#[cfg(unix)]
pub mod notify;
pub mod secret;
