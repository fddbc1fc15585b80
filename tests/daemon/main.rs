//! The daemon from outside: the program with its worker, real files, a real broker.
//!
//! `LATROD_DAEMON_KILLS=200` kills it that often over its cycles (12 times otherwise),
//! `LATROD_BROKER_KILLS=50` its broker (3 times otherwise); `LATROD_BIN` names another program to test, for
//! example a release build.

mod clock;
#[path = "../common/mod.rs"]
mod common;
mod cycle;
mod day;
mod faults;
mod fleet;
mod kills;
mod outages;
mod script;
mod service;
mod support;
mod yielding;

use common::{broker, observer, proxy};
