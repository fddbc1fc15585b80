//! The dashboard from outside: the program, a real broker, a real device, and made-up ones.

mod access;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod neighbors;
mod page;
mod program;
mod shares;
#[expect(dead_code, reason = "the daemon's tests use the rest")]
#[path = "../daemon/support.rs"]
mod support;

use common::broker;
