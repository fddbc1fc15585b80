//! The operating system: what it tells of memory, processors and files, what the service manager is
//! told, and how secrets are read. Knows nothing of what any of it is used for.

pub mod files;
pub mod memory;
pub mod notify;
pub mod proc;
pub mod secret;
