//! Where events come from and messages go: signals, the status socket, the hook, the service manager.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::StartError;
use crate::config::Config;
use crate::daemon::adapters::hook::HookOutcome;
use crate::daemon::status::socket::StatusSocket;
use crate::daemon::supervisor::Supervisor;
use crate::system::notify::ServiceManager;
use crate::worker::child::WorkerEvent;

/// The driver's channels, but for the worker's and the broker's.
pub(super) struct Channels {
    /// The hook, while it runs.
    pub hook: Option<JoinHandle<HookOutcome>>,
    pub socket: Option<StatusSocket>,
    pub signals: Signals,
    pub manager: ServiceManager,
}

/// The signals that mean something.
pub(super) struct Signals {
    pub terminate: UnixSignal,
    pub interrupt: UnixSignal,
    pub reload: UnixSignal,
}

impl Channels {
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let path = &config.status.socket;
        let socket = if path.as_os_str().is_empty() {
            None
        } else {
            let bound = StatusSocket::bind(path);
            Some(bound.map_err(system("listen for `latrod status`"))?)
        };
        let listen = |kind| signal(kind).map_err(system("listen for signals"));
        let signals = Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        };
        let manager = ServiceManager::from_environment();
        Ok(Self { hook: None, socket, signals, manager })
    }
}

/// Waits for the worker to say something; for ever, without one.
pub(super) async fn worker(supervisor: &mut Supervisor) -> WorkerEvent {
    match supervisor.process() {
        Some(worker) => worker.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for the hook to end; how it went, unless it broke down.
pub(super) async fn ended(hook: Option<&mut JoinHandle<HookOutcome>>) -> Option<HookOutcome> {
    match hook {
        Some(hook) => hook.await.ok(),
        None => std::future::pending().await,
    }
}

/// Waits for somebody who asks for the status.
pub(super) async fn asked(socket: Option<&StatusSocket>) -> UnixStream {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                log::warn!("cannot answer `latrod status`: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
