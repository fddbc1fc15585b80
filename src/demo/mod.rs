//! `latrod demo`: the whole system on one machine, in one process and a worker.
//!
//! ```text
//!  made-up devices ─┐
//!                   ├─► broker ◄─► dashboard ─► page
//!  daemon, worker ──┘
//! ```
//!
//! Everything is what the other commands run, each in a thread with its own runtime; they meet at a broker on
//! this machine (`broker`). What they write lies in one folder, which goes at the end (`folder`), with the
//! settings that `device` makes for quick results.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::ConfigErrors;
use crate::contract::ContractError;
use crate::contract::keys::OperatorKeys;
use crate::daemon::driver::{Driver, Start, StartError};
use crate::daemon::status::{Status, socket};
use crate::dashboard::{self, DashboardError, serve};
use crate::report::mqtt::{MqttSettings, Protocol};
use crate::simulator::{self, Shares, SimulatorError, Trust, simulate};

mod broker;
mod device;
mod folder;

use broker::Broker;
use folder::Folder;

/// The fleet of the device that learns, and its name.
pub const DEVICE: (&str, &str) = ("demo", "this-machine");
/// The fleet of the made-up devices, and how their names begin.
const NEIGHBORS: (&str, &str) = ("made-up", "neighbor");
/// How many times as fast as real devices the neighbors live, so that something happens while one looks.
const SPEED: f64 = 20.0;

/// Open files besides those of the neighbors' connections.
const OTHER_FILES: u64 = 512;
/// How long a part of the demo may take to start.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is shown.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Made-up devices beside the one that learns.
    pub devices: usize,
    /// A model in place of the built-in one.
    pub model: Option<PathBuf>,
    /// Tasks in place of the built-in sums: a file, or a folder of files.
    pub tasks: Option<PathBuf>,
    /// Address and port of the page.
    pub listen: String,
}

/// Where everything is, once it runs.
#[derive(Debug)]
pub struct Running<'a> {
    /// The address to open.
    pub page: &'a str,
    /// The broker.
    pub broker: String,
    /// The folder of everything.
    pub folder: &'a Path,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The operator's private key.
    pub key: PathBuf,
}

/// Why the demo does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Task files that the daemon would not take.
    #[error("{0}: no file that ends in .jsonl, .ndjson, .json or .csv")]
    NoTasks(PathBuf),
    /// Something that is no model.
    #[error("{0}: no GGUF file")]
    NoModel(PathBuf),
    /// The folder for temporary files.
    #[error("{0} is too long for a socket's path; set TMPDIR to a shorter one")]
    TooLong(PathBuf),
    /// The system refuses something.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The broker does not come up.
    #[error("the broker: {0}")]
    Broker(String),
    /// No keys can be made.
    #[error("the operator's key: {0}")]
    Key(String),
    /// Keys that cannot be read back.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The device's configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The daemon does not start.
    #[error(transparent)]
    Daemon(#[from] StartError),
    /// The made-up devices.
    #[error("the made-up devices: {0}")]
    Neighbors(#[from] SimulatorError),
    /// The page.
    #[error(transparent)]
    Page(#[from] DashboardError),
}

impl DemoError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    const fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Runs until SIGTERM or SIGINT; `ready` is told once the page can be opened and the device listens.
///
/// # Errors
/// [`DemoError`].
pub fn run(settings: &Settings, ready: impl FnOnce(Running<'_>)) -> Result<(), DemoError> {
    let stop = Stop::listen()?;
    device::check(settings)?;
    // The broker's ends of the connections are in this process as well.
    simulator::allow_connections(2 * settings.devices as u64 + OTHER_FILES)?;
    let folder = Folder::new()?;
    folder.write_keys()?;
    device::fill(settings, &folder)?;
    let broker = Broker::start()?;
    let config_path = folder.write_config(&device::config(settings, &folder, broker.url()))?;
    let daemon = start_daemon(&config_path)?;
    let neighbors = start_neighbors(settings.devices, &folder, &broker)?;
    let shown = |page: &str| {
        wait_for_link(&folder.socket(), &stop);
        ready(Running {
            page,
            broker: broker.url(),
            folder: folder.path(),
            socket: folder.socket(),
            key: folder.private_key(),
        });
        stop.pass_on();
    };
    let served = serve(page(settings, &folder, &broker), shown);
    if served.is_err() {
        // Nobody has asked the daemon to stop, and its files must not go before it.
        let _ = kill_process(getpid(), Signal::TERM);
    }
    let _ = daemon.join();
    served?;
    match neighbors.map(JoinHandle::join) {
        Some(Ok(ended)) => Ok(ended?),
        _ => Ok(()),
    }
}

/// Whether somebody has asked the demo to stop before all of its parts listen for that.
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on a signal ends the demo in good order.
    fn listen() -> Result<Self, DemoError> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let registered = signal_hook::flag::register(signal, Arc::clone(&asked));
            registered.map_err(DemoError::system("signals cannot be handled"))?;
        }
        Ok(Self(asked))
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Tells all parts, which listen by now.
    fn pass_on(&self) {
        if self.is_asked() {
            let _ = kill_process(getpid(), Signal::TERM);
        }
    }
}

/// Waits until the device takes commands: the broker keeps none for a device that it doesn't know.
fn wait_for_link(socket: &Path, stop: &Stop) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if stop.is_asked() {
            return;
        }
        let status = socket::ask(socket).ok().and_then(|text| serde_json::from_str(&text).ok());
        if status.is_some_and(|status: Status| status.broker.connected) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    log::warn!("the device is not connected yet; commands may get lost");
}

/// The daemon, in a thread of its own, once it has what it needs.
fn start_daemon(config_path: &Path) -> Result<JoinHandle<()>, DemoError> {
    let config = crate::config::Config::load(config_path)?;
    let start = Start { config_path: config_path.to_owned(), config, root: "/".into() };
    let (told, started) = sync_channel(1);
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(source) => {
                let what = "the daemon's loop";
                let _ = told.send(Err(StartError::System { what, source }));
                return;
            }
        };
        runtime.block_on(async {
            let driver = Driver::new(start);
            let (driver, answer) = match driver {
                Ok(driver) => (Some(driver), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = told.send(answer);
            if let Some(driver) = driver {
                driver.run().await;
            }
        });
    };
    let thread = spawn("daemon", body)?;
    answer(&started)?;
    Ok(thread)
}

fn answer(started: &Receiver<Result<(), StartError>>) -> Result<(), DemoError> {
    // A thread that ends without an answer has panicked, and has said why.
    let ended = || Err(StartError::Settings("the daemon ended at its start".into()));
    Ok(started.recv().unwrap_or_else(|_| ended())?)
}

type Neighbors = JoinHandle<Result<(), SimulatorError>>;

/// The made-up devices, in a thread of their own.
fn start_neighbors(
    devices: usize,
    folder: &Folder,
    broker: &Broker,
) -> Result<Option<Neighbors>, DemoError> {
    if devices == 0 {
        return Ok(None);
    }
    let keys = OperatorKeys::load(&[folder.public_key()])?;
    let (fleet, prefix) = NEIGHBORS;
    let crowd = simulator::Settings {
        devices,
        fleet: fleet.into(),
        prefix: prefix.into(),
        seed: 1,
        lasts: None,
        shares: Shares::default(),
        state_every_s: 60,
        speed: SPEED,
        connects_per_s: 100,
        report: None,
    };
    let link = MqttSettings { broker: broker.url(), ..MqttSettings::default() };
    let options = link
        .connect_options(String::new(), None)
        .map_err(|error| DemoError::Broker(error.to_string()))?;
    let trust = Trust { keys, unsigned: false };
    let (told, started) = sync_channel(1);
    let body = move || {
        // The first totals are told once signals are listened for.
        let tell = |_, _, _: Option<&str>| {
            let _ = told.try_send(());
        };
        let ended = simulate(crowd, options, trust, tell);
        if let Err(error) = &ended {
            log::error!("the made-up devices: {error}");
        }
        ended
    };
    let thread = spawn("neighbors", body)?;
    let _ = started.recv_timeout(PATIENCE);
    Ok(Some(thread))
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, DemoError> {
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    thread.map_err(DemoError::system("a thread cannot be started"))
}

/// The settings of the page.
fn page(settings: &Settings, folder: &Folder, broker: &Broker) -> dashboard::Settings {
    let mut page = dashboard::Settings::default();
    page.page.listen.clone_from(&settings.listen);
    page.page.operator_key = Some(folder.private_key());
    page.page.device_metrics = true;
    page.history.state_dir = folder.path().join("dashboard");
    page.mqtt.broker = broker.url();
    page.mqtt.protocol = Protocol::V311;
    page
}
