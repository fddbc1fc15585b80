//! Notifies the service manager: ready, status, watchdog (`sd_notify(3)`).
//!
//! Without a service manager (`NOTIFY_SOCKET` not set) all of it does nothing. Whether the daemon is
//! well enough to feed the watchdog is decided elsewhere.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Environment variables that are meant for the daemon alone. A child that inherited them could
/// speak in its name, feed its watchdog or take its sockets.
pub const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// The longest status line, in bytes: what fits a line of `systemctl status`.
pub const MAX_STATUS: usize = 200;

/// The connection to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    watchdog: Option<Duration>,
    status: String,
    has_failed: bool,
}

impl ServiceManager {
    /// The service manager that the environment names, if any.
    #[must_use]
    pub fn from_environment() -> Self {
        let watchdog = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        Self { watchdog, status: String::new(), has_failed: false }
    }

    /// How often [`Self::ping`] is due: half the unit's `WatchdogSec`, as `sd_watchdog_enabled(3)`
    /// recommends. `None` if nobody waits for it.
    #[must_use]
    pub fn ping_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The daemon works; also the end of a reload.
    pub fn ready(&mut self) {
        self.send(&[NotifyState::Ready]);
    }

    /// One line about what the daemon does, cut to [`MAX_STATUS`] bytes; sent only when it has
    /// changed.
    pub fn status(&mut self, text: &str) {
        let line = one_line(text);
        if line != self.status {
            self.send(&[NotifyState::Status(&line)]);
            self.status = line;
        }
    }

    /// The settings are being read again; [`Self::ready`] ends it. The time belongs to it since
    /// systemd 253 with `Type=notify-reload`; older ones pass over it.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// The daemon is alive and gets on with its work.
    pub fn ping(&mut self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// A service manager that doesn't listen is not a reason to stop; it is logged once.
    fn send(&mut self, states: &[NotifyState<'_>]) {
        let result: io::Result<()> = sd_notify::notify(states);
        if let Err(e) = result
            && !std::mem::replace(&mut self.has_failed, true)
        {
            log::warn!("the service manager cannot be notified: {e}");
        }
    }
}

/// A line break would begin another message to the service manager.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() + c.len_utf8() > MAX_STATUS {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// What the daemon says from its start to its end. Run with `NOTIFY_SOCKET` by the test below; without it all
    /// of it does nothing.
    #[test]
    #[ignore = "is run by the test below, in a process with an environment of its own"]
    fn a_life() {
        let mut manager = ServiceManager::from_environment();
        if let Ok(expected) = std::env::var("EXPECTED_PING_EVERY_MS") {
            let every = manager.ping_every().map_or(0, |d| d.as_millis());
            assert_eq!(every.to_string(), expected);
        }
        manager.ready();
        manager.status("training: step 3 of 200\nWATCHDOG=trigger");
        manager.status("training: step 3 of 200\nWATCHDOG=trigger");
        manager.status(&"é".repeat(MAX_STATUS));
        manager.ping();
        manager.reloading();
        manager.ready();
        manager.stopping();
    }

    fn live(envs: &[(&str, &str)]) -> std::process::ExitStatus {
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.args([&format!("{module}::a_life"), "--exact", "--ignored", "--quiet"]);
        command.envs(envs.iter().copied()).stdout(std::process::Stdio::null());
        command.status().unwrap()
    }

    #[test]
    fn a_service_manager_hears_it_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

        let status = live(&[
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("WATCHDOG_USEC", "30000000"),
            ("EXPECTED_PING_EVERY_MS", "15000"),
        ]);

        assert!(status.success());
        let next = || {
            let mut bytes = [0; 1024];
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\n");
        assert_eq!(next(), "STATUS=training: step 3 of 200 WATCHDOG=trigger\n");
        assert_eq!(next(), format!("STATUS={}\n", "é".repeat(MAX_STATUS / 2)));
        assert_eq!(next(), "WATCHDOG=1\n");
        let reloading = next();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "READY=1\n");
        assert_eq!(next(), "STOPPING=1\n");
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let gone = [("NOTIFY_SOCKET", "/nonexistent/notify")];

        assert!(live(&[("EXPECTED_PING_EVERY_MS", "0")]).success());
        assert!(live(&[("WATCHDOG_USEC", "0"), ("EXPECTED_PING_EVERY_MS", "0")]).success());
        assert!(live(&gone).success(), "one that doesn't listen is passed over");
    }
}
