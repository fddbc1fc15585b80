//! `latrod dashboard`: follows the devices of a fleet over MQTT and serves a page for those who operate them.
//!
//! ```text
//!  broker ─► listener ─► fleet (what is known now) ─┬─► web ─► pages, live updates, /metrics
//!               ▲            │                      │
//!               │            └─► recorder ─► history (SQLite)
//!               └──────── orders ◄──────────────────┘
//! ```
//!
//! Three threads: the `listener` takes messages in, the `recorder` writes the history, and the web server
//! answers and turns roll-outs (`stages`). They share the `hub`. `fleet` and `rollout` are pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod curves;
pub mod fleet;
pub mod history;
pub mod hub;
mod listener;
pub mod orders;
mod recorder;
pub mod rollout;
pub mod settings;
mod stages;
pub mod web;

pub use settings::Settings;

use hub::Hub;

/// Why the dashboard does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// A setting that cannot work.
    #[error("{key}: {why}")]
    Setting {
        /// Which one.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// The history cannot be used.
    #[error("the history: {0}")]
    History(#[from] history::HistoryError),
    /// The system does not let it.
    #[error("{what}: {source}")]
    System {
        /// What it does not let it.
        what: String,
        /// Its reason.
        source: std::io::Error,
    },
}

impl DashboardError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Checks what only the files that settings name can tell.
///
/// # Errors
/// Keys, users, certificates and passwords that cannot be used.
pub fn check(settings: &Settings) -> Result<(), DashboardError> {
    web::access::Access::new(&settings.page)?;
    orders::Giver::new(&settings.page)?;
    settings.subscriber().map(drop)
}

/// Serves until SIGTERM or SIGINT. `ready` is told the address to open once the page can be opened.
///
/// # Errors
/// Settings that cannot work, an address that is taken, a history that cannot be used.
pub fn serve(settings: Settings, ready: impl FnOnce(&str)) -> Result<(), DashboardError> {
    let folder = &settings.history.state_dir;
    let what = format!("history.state_dir: {} cannot be made", folder.display());
    std::fs::create_dir_all(folder).map_err(DashboardError::system(what))?;
    let history = history::History::open(&settings.history_file(), settings.history.limits())?;
    let reader = history.reader()?;
    let access = web::access::Access::new(&settings.page)?;
    let subscriber = settings.subscriber()?;
    let orders = orders::Giver::new(&settings.page)?;
    let (hub, channels) = Hub::new(settings, reader, access, orders)?;
    let hub = Arc::new(hub);
    let stop = Arc::new(AtomicBool::new(false));
    let recorder = recorder::start(history, (channels.records, channels.notes), Arc::clone(&stop))?;
    listener::start(Arc::clone(&hub), subscriber, channels.orders)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime
        .map_err(DashboardError::system("the web server cannot start"))?
        .block_on(web::serve(Arc::clone(&hub), ready));
    stop.store(true, Ordering::Relaxed);
    // What was heard before the end is on disk when the program ends.
    let _ = recorder.join();
    served
}
