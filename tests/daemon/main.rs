//! The daemon from outside: the program with its worker, real files, a real broker.
//!
//! `LATROD_DAEMON_KILLS=200` kills it that often over its cycles (12 times otherwise),
//! `LATROD_BROKER_KILLS=50` its broker (3 times otherwise); `LATROD_BIN` names another program to test, for
//! example a release build.

#[allow(dead_code, reason = "the tests of the MQTT contract use the rest")]
#[path = "../mqtt/broker.rs"]
mod broker;
mod canary;
mod clock;
mod cycle;
mod day;
mod faults;
mod kills;
#[allow(dead_code, reason = "the tests of the MQTT contract use the rest")]
#[path = "../mqtt/observer.rs"]
mod observer;
mod outages;
#[allow(dead_code, reason = "the tests of the MQTT contract use the rest")]
#[path = "../mqtt/proxy.rs"]
mod proxy;
mod service;
mod support;
mod yielding;
