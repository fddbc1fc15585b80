//! Telling a fleet over MQTT, and taking its commands.
//!
//! - [`MqttSettings`]: what the configuration says.
//! - [`Link`]: the daemon's side of the contract: keeps connecting, tells who we are and what we do,
//!   sends what waits in the outbox, hands out commands.
//! - `operator`: the other side of a command (feature `operator`).
//! - [`connection`]: one connection.
//!
//! How the daemon's loop uses it:
//!
//! ```no_run
//! # use latrod::report::event::Event;
//! # use latrod::report::mqtt::{Identity, Link, LinkEvent, MqttSettings};
//! # use latrod::report::{ReportError, inbox, wire};
//! # async fn drive(db: rusqlite::Connection, settings: MqttSettings) -> Result<(), ReportError> {
//! let identity = Identity::new("press", "jetson-3")?;
//! let mut link = Link::new(settings, identity)?;
//! link.set_birth(wire::Birth::default());
//! link.event(Some(&db), &Event::Started { version: env!("CARGO_PKG_VERSION") });
//! loop {
//!     tokio::select! {
//!         event = link.poll(Some(&db)) => match event {
//!             LinkEvent::Command(command) => {
//!                 link.start(&db, &command.id)?;
//!                 // … do it, then, in the transaction that keeps its effect:
//!                 link.finish(&db, &command.id, inbox::Outcome::Done(None))?;
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
mod link;
#[cfg(feature = "operator")]
pub mod operator;
mod retained;
mod settings;
pub mod tls;

pub use link::{Identity, Link, LinkCounts, LinkEvent};
pub use settings::{Broker, MqttSettings, Protocol};
