//! Made-up devices that speak the MQTT contract, for trying a dashboard or a broker at scale.
//!
//! - `life`: what a device does, as a function of its seed, the time and commands.
//! - `device`: a device: its life, what it sends, its connection.
//! - `crowd`: many of them in one loop.
//! - `truth`: what is true of them, to compare with what others think.
//!
//! Stands in for the daemon; knows nothing of models, tasks and files of adapters.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

mod crowd;
mod device;
mod life;
mod open_files;
mod random;
mod truth;

use crate::contract::ContractError;
use crate::report::mqtt::connection::ConnectOptions;
use crate::store::{StoreError, write_atomic};
use crowd::{Crowd, TURN};
pub use device::Trust;
use device::{MAX_INFLIGHT, Surroundings};
pub use open_files::allow as allow_connections;
pub use truth::Totals;

/// How often the totals are told and the truth is written.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long devices may take to leave, besides a second for every thousand of them.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Shares of the devices that are odd, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shares {
    /// They lose their connection at random.
    pub flaky: f64,
    /// Their clock is off by hours.
    pub skewed: f64,
    /// Two processes have their name.
    pub clones: f64,
    /// They stop speaking but stay connected.
    pub silent: f64,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Devices.
    pub devices: usize,
    /// Their fleet.
    pub fleet: String,
    /// How their names begin; a number follows.
    pub prefix: String,
    /// From this everything follows but what the network does.
    pub seed: u64,
    /// How long; until a signal if there is nothing.
    pub lasts: Option<Duration>,
    /// Those that are odd.
    pub shares: Shares,
    /// How often a device tells its state when nothing changes, in seconds.
    pub state_every_s: u64,
    /// How many times as fast as real ones devices live.
    pub speed: f64,
    /// Devices that begin to connect in a second, at most.
    pub connects_per_s: usize,
    /// The file for what is true.
    pub report: Option<PathBuf>,
}

/// Why nothing was simulated, or no more.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// A name that cannot be a level of a topic.
    #[error(transparent)]
    Name(#[from] ContractError),
    /// The system allows too few open files.
    #[error(
        "{needed} files must be open at once and the system allows {allowed}; raise the hard limit \
         (ulimit -Hn, or LimitNOFILE= of a service), or simulate fewer devices"
    )]
    OpenFiles {
        /// How many are needed.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] StoreError),
    /// The system refuses something.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Simulates until the time is up or a signal comes; `tell` is given the totals every few seconds, with the
/// time since the start and the reason of a lost connection, if there is one.
///
/// # Errors
/// See [`SimulatorError`].
pub fn simulate(
    settings: Settings,
    options: ConnectOptions,
    trust: Trust,
    tell: impl FnMut(Duration, Totals, Option<&str>),
) -> Result<(), SimulatorError> {
    let clones = (settings.shares.clones * settings.devices as f64).round() as u64;
    open_files::allow(settings.devices as u64 + clones)?;
    let options = ConnectOptions { max_inflight: MAX_INFLIGHT, clean: false, ..options };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SimulatorError::System { what: "cannot start", source })?;
    runtime.block_on(run(settings, Surroundings { options, trust }, tell))
}

async fn run(
    settings: Settings,
    around: Surroundings,
    mut tell: impl FnMut(Duration, Totals, Option<&str>),
) -> Result<(), SimulatorError> {
    let handler = |kind| {
        let what = "signals cannot be handled";
        signal(kind).map_err(|source| SimulatorError::System { what, source })
    };
    let mut signals = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let (begin, report) = (Instant::now(), settings.report.clone());
    let end = settings.lasts.and_then(|lasts| begin.checked_add(lasts));
    let leave_within = LEAVE_WITHIN + Duration::from_millis(settings.devices as u64);
    let mut crowd = Crowd::new(settings, around);
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tell_at = begin;
    while end.is_none_or(|end| Instant::now() < end) {
        tokio::select! {
            _ = turns.tick() => crowd.turn()?,
            () = asked_to_end(&mut signals) => break,
        }
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + TELL_EVERY;
            tell(begin.elapsed(), crowd.totals(), crowd.why_lost());
            write(&crowd, report.as_ref(), false)?;
        }
    }
    crowd.stop();
    let end = Instant::now() + leave_within;
    while crowd.leaving() > 0 && Instant::now() < end {
        tokio::select! {
            _ = turns.tick() => crowd.turn()?,
            // Whoever asks twice does not want to wait.
            () = asked_to_end(&mut signals) => break,
        }
    }
    tell(begin.elapsed(), crowd.totals(), crowd.why_lost());
    write(&crowd, report.as_ref(), true)
}

async fn asked_to_end((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
}

fn write(crowd: &Crowd, path: Option<&PathBuf>, ended: bool) -> Result<(), SimulatorError> {
    let Some(path) = path else { return Ok(()) };
    write_atomic(path, |to| Ok(serde_json::to_writer(to, &crowd.truth(ended))?))?;
    Ok(())
}

#[cfg(test)]
mod tests;
