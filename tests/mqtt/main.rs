//! The MQTT contract against a real mosquitto, started on loopback with the sample configuration
//! and certificates made on the spot.
//!
//! `LATROD_BROKER_KILLS=50` kills the broker that often (3 times otherwise). The same contract on
//! another broker: `cargo test --test mqtt -- --ignored rabbitmq`, see `rabbitmq.rs`.

mod access;
#[cfg(feature = "operator")]
mod cli;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod home_assistant;
mod hostile;
mod outages;
mod presence;
mod rabbitmq;
mod signing;

use common::{broker, observer, proxy};
