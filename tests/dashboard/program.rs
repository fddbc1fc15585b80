//! The dashboard as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::broker::Broker;
use crate::client::Client;
use crate::support::program;

/// What a killed dashboard has left.
pub struct Killed(TempDir);

impl Killed {
    /// Starts it again.
    pub fn start(self) -> Dashboard {
        Dashboard::run(self.0)
    }
}

/// A running dashboard. Killed when dropped.
pub struct Dashboard {
    child: Child,
    dir: TempDir,
    /// The address that it printed.
    pub way_in: String,
}

impl Dashboard {
    /// One that reads all fleets of a broker as an operator, and signs with this key.
    pub fn start(broker: &Broker, operator_key: Option<PathBuf>, users: &[String]) -> Self {
        Self::start_with(broker, operator_key, users, |_| ())
    }

    /// As [`Self::start`], with other settings of the page.
    pub fn start_with(
        broker: &Broker,
        operator_key: Option<PathBuf>,
        users: &[String],
        change: impl FnOnce(&mut toml::Table),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| broker.path(name).to_str().unwrap().to_owned();
        let mut page = toml::toml! { listen = "127.0.0.1:0" };
        if let Some(key) = operator_key {
            page.insert("operator_key".into(), key.to_str().unwrap().into());
        }
        page.insert("users".into(), users.to_vec().into());
        change(&mut page);
        let mut config = toml::Table::new();
        config.insert("page".into(), page.into());
        let mut history = toml::Table::new();
        history.insert("state_dir".into(), dir.path().to_str().unwrap().into());
        config.insert("history".into(), history.into());
        let mut mqtt = toml::Table::new();
        for (key, value) in [
            ("broker", format!("mqtts://localhost:{}", broker.tls_port)),
            ("ca_file", file("ca.pem")),
            ("cert_file", file("operator.pem")),
            ("key_file", file("operator.key")),
        ] {
            mqtt.insert(key.into(), value.into());
        }
        config.insert("mqtt".into(), mqtt.into());
        fs::write(dir.path().join("dashboard.toml"), toml::to_string(&config).unwrap()).unwrap();
        Self::run(dir)
    }

    fn run(dir: TempDir) -> Self {
        let path = dir.path().join("log");
        let log = fs::File::options().create(true).append(true).open(path).unwrap();
        let mut child = Command::new(program())
            .args(["dashboard", "--config"])
            .arg(dir.path().join("dashboard.toml"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let way_in = line.trim().strip_prefix("open ").map(str::to_owned);
        let log = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        let way_in = way_in.unwrap_or_else(|| panic!("it does not start:\n{}", log()));
        Self { child, dir, way_in }
    }

    /// Kills it; what it had kept is left.
    pub fn kill(mut self) -> Killed {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Killed(std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()))
    }

    /// Ends it and starts it again with what it had kept.
    pub fn restart(mut self) -> Self {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::run(dir)
    }

    /// Somebody who has come in by the printed address.
    pub fn operator(&self) -> Client {
        Client::enter(&self.way_in)
    }

    /// Its address without the way in.
    pub fn base(&self) -> &str {
        self.way_in.split("/login").next().unwrap().trim_end_matches('/')
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
