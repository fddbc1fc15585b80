//! What a device can tell of itself, one file for each kind of source.
//!
//! Each reads files below a [`Root`](crate::system::files::Root) and answers with plain numbers; the
//! limits that these are held against are [`Activity`](super::Activity)'s business.

pub(super) mod cpu;
pub(super) mod disk;
pub(super) mod gpu;
pub(super) mod heat;
pub(super) mod inhibit;
#[cfg(target_os = "macos")]
pub(super) mod macos;
pub(super) mod power;
pub(super) mod users;
