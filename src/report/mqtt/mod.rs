//! The link to a fleet over MQTT: a device reports and takes commands.
//!
//! - [`MqttSettings`]: what the configuration says.
//! - [`Link`]: the device's side of the contract: keeps connecting, reports who the device is and what
//!   it does, sends what waits in the outbox, hands out commands.
//! - `operator`: the operator's side of one command; `subscriber`: that of whole fleets (feature `operator`).
//! - [`connection`]: one connection.
//!
//! How the daemon's loop uses it:
//!
//! ```no_run
//! # use latrod::contract::{event::Event, wire};
//! # use latrod::report::mqtt::{DeviceIdentity, Link, LinkEvent, MqttSettings};
//! # use latrod::report::{ReportError, inbox};
//! # async fn drive(db: rusqlite::Connection, settings: MqttSettings) -> Result<(), ReportError> {
//! let identity = DeviceIdentity::new("press", "jetson-3")?;
//! let mut link = Link::new(settings, identity)?;
//! link.set_birth(wire::Birth::default());
//! link.event(Some(&db), &Event::Started { version: env!("CARGO_PKG_VERSION") });
//! loop {
//!     tokio::select! {
//!         event = link.poll(Some(&db)) => match event {
//!             LinkEvent::Command(command) => {
//!                 link.start(&db, &command.id)?;
//!                 // … do it, then, in the transaction that keeps its effect:
//!                 link.finish(&db, &command.id, inbox::CommandOutcome::Done(None))?;
//!             }
//!             other => log::info!("{other}"),
//!         },
//!         // … the worker, the clock, signals:
//!         () = tokio::time::sleep(std::time::Duration::from_secs(60)) => {
//!             link.set_state(wire::State::default());
//!         }
//!     }
//! }
//! # }
//! ```

mod backoff;
pub mod connection;
mod home_assistant;
mod link;
#[cfg(feature = "operator")]
pub mod operator;
mod retained;
mod settings;
#[cfg(feature = "operator")]
pub mod subscriber;
pub mod tls;

pub use link::{DeviceIdentity, Link, LinkCounts, LinkEvent};
pub use settings::{Broker, MqttSettings, Protocol};
