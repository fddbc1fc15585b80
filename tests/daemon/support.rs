//! A device in a temporary folder: its configuration, its tasks, its daemon.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `LATROD_BIN` | the program to test, for example a release build | the one built with the tests |
//! | `LATROD_DAEMON_KILLS` | how often the daemon is killed in a cycle | 12 |

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::broker::Broker;

/// Longer than anything here takes on a busy machine; whatever takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The program under test.
pub fn program() -> OsString {
    std::env::var_os("LATROD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_latrod").into())
}

/// How many times a test repeats itself: what the variable says, or `default`.
pub fn repeats(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |n| n.parse().expect("a number"))
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A device with a tiny model, idle at once and for ever.
pub struct Device {
    pub dir: TempDir,
    settings: toml::Table,
}

/// A device that is always idle and learns in seconds.
fn quick_settings() -> toml::Table {
    toml::toml! {
        [device]
        fleet = "test"
        name = "dev1"
        [tasks]
        settle_s = 0
        held_out_share = 0.25
        [cycle]
        min_new_tasks = 100
        min_held_out = 50
        max_held_out_questions = 100
        repeat_after_s = 0
        check_after_held_out = 0
        [learn]
        steps = 12
        num_generations = 8
        prompts_per_step = 4
        max_new_tokens = 48
        prompt_suffix = " Let's think step by step."
        rank = 8
        alpha = 16.0
        learning_rate = 1e-3
        [compute]
        threads = 2
        [idle]
        idle_after_s = 0
        busy_after_s = 0
        max_cpu_percent = 0.0
        max_cpu_training_percent = 0.0
        max_cpu_pressure_percent = 0.0
        max_io_pressure_percent = 0.0
        max_memory_pressure_percent = 0.0
        max_gpu_percent = 0.0
        max_celsius = 0.0
        require_mains = false
        min_battery_percent = 0.0
        users = "ignore"
        systemd_inhibitors = false
        min_free_disk_mib = 1
        min_free_disk_percent = 0.0
        min_free_memory_mib = 1
        [promotion]
        // The tiny model knows nothing but sums.
        max_kl_nats_per_token = 0.0
    }
}

impl Device {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("latrod-").tempdir().expect("a folder");
        fs::create_dir(dir.path().join("spool")).expect("a folder");
        fs::copy(fixture("tiny.gguf"), dir.path().join("model.gguf")).expect("the model");
        let settings = quick_settings();
        let mut device = Self { dir, settings };
        for (key, name) in [
            ("model", "model.gguf"),
            ("state_dir", "state"),
            ("tasks.folder", "spool"),
            ("status.socket", "status.sock"),
        ] {
            let path = device.path(name);
            device.set(key, path.to_str().expect("plain text"));
        }
        device
    }

    /// Connects the device to a broker, as `press/d1`.
    pub fn connect(&mut self, broker: &Broker, port: u16) {
        let file = |name: &str| broker.path(name).to_str().expect("plain text").to_owned();
        for (key, value) in [
            ("device.fleet", "press".to_owned()),
            ("device.name", "d1".to_owned()),
            ("mqtt.broker", format!("mqtts://localhost:{port}")),
            ("mqtt.ca_file", file("ca.pem")),
            ("mqtt.cert_file", file("d1.pem")),
            ("mqtt.key_file", file("d1.key")),
        ] {
            self.set(key, value);
        }
        self.set("mqtt.reconnect_max_s", 1);
        if !self.path("operator.pem.pub").exists() {
            Self::latrod(&["command", "--new-key", self.path("operator.pem").to_str().unwrap()]);
        }
        let key = self.path("operator.pem.pub").to_str().expect("plain text").to_owned();
        self.set("mqtt.operator_keys", vec![key]);
    }

    /// Runs another command of the program to its end, and returns what it prints.
    #[track_caller]
    pub fn latrod(args: &[&str]) -> String {
        let out = Command::new(program()).args(args).env_remove("RUST_LOG").output();
        let out = out.expect("the program starts");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }

    /// The arguments of `latrod command` for this device by way of `broker`.
    pub fn command(&self, broker: &Broker) -> Vec<String> {
        let file = |name: &str| broker.path(name).to_str().expect("plain text").to_owned();
        let key = self.path("operator.pem").to_str().expect("plain text").to_owned();
        let broker_url = format!("mqtts://localhost:{}", broker.tls_port);
        ["command", "--broker", &broker_url, "--fleet", "press", "--device", "d1", "--key", &key]
            .into_iter()
            .chain(["--ca-file", &file("ca.pem"), "--cert-file", &file("operator.pem")])
            .chain(["--key-file", &file("operator.key")])
            .map(str::to_owned)
            .collect()
    }

    /// Gives the setting with this dotted name another value; takes effect at the next start or
    /// reload.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        let mut table = &mut self.settings;
        let mut names: Vec<&str> = key.split('.').collect();
        let last = names.pop().expect("a name");
        for name in names {
            let entry = table.entry(name).or_insert_with(|| toml::Table::new().into());
            table = entry.as_table_mut().expect("a section");
        }
        table.insert(last.into(), value.into());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// Writes the configuration.
    pub fn write_config(&self) -> PathBuf {
        let path = self.path("latrod.toml");
        fs::write(&path, toml::to_string(&self.settings).expect("settings")).expect("written");
        path
    }

    /// Drops tasks into the spool, whole.
    pub fn drop_tasks(&self, name: &str, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (part, whole) = (format!("spool/{name}.part"), format!("spool/{name}.jsonl"));
        fs::write(self.path(&part), text).expect("written");
        fs::rename(self.path(&part), self.path(&whole)).expect("renamed");
    }

    /// Starts the daemon; its log goes to `daemon.log`.
    pub fn start(&self) -> Daemon {
        self.start_in(&[])
    }

    /// As [`Self::start`], with more in its environment.
    pub fn start_in(&self, environment: &[(&str, &str)]) -> Daemon {
        let config = self.write_config();
        let log =
            File::options().create(true).append(true).open(self.path("daemon.log")).expect("a log");
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(config)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        Daemon { child, socket: self.path("status.sock"), log: self.path("daemon.log") }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// The active version's name.
    pub fn current(&self) -> Option<String> {
        let target = fs::read_link(self.state("adapters/current")).ok()?;
        Some(target.to_str().expect("plain text").to_owned())
    }
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `latrod status --json` says; nothing if the daemon does not answer.
    pub fn status(&self) -> Option<Value> {
        let text = latrod::daemon::status::socket::ask(&self.socket).ok()?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    /// Waits until the status is as wanted, and returns it.
    #[track_caller]
    pub fn wait(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut last = Value::Null;
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.status() {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            assert!(
                self.child.try_wait().expect("a child").is_none(),
                "{}",
                self.story(what, &last)
            );
            sleep(Duration::from_millis(50));
        }
        panic!("{}", self.story(what, &last));
    }

    /// Waits for a state.
    #[track_caller]
    pub fn wait_state(&mut self, state: &str) -> Value {
        self.wait(state, |status| status["state"] == state)
    }

    fn story(&self, what: &str, last: &Value) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("no {what}; last status {last:#}\nlog:\n{}", tail.join("\n"))
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Asks it to end, and waits until it has. Returns its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        self.signal("TERM");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().expect("ended by itself");
            }
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "{}",
                self.story("end", &Value::Null)
            );
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a fixture.
pub fn lines(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixture(name)).expect("a fixture");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Sums that the tiny model can learn.
pub fn good_tasks() -> Vec<Value> {
    lines("tiny-train.jsonl")
}

/// The same questions with the answers of others.
pub fn poisoned(tasks: &[Value]) -> Vec<Value> {
    let wrong = tasks.iter().cycle().skip(7);
    tasks
        .iter()
        .zip(wrong)
        .map(|(task, other)| json!({"question": task["question"], "answer": other["answer"]}))
        .collect()
}

/// The events in the journal, by name.
pub fn events(log: &str, name: &str) -> usize {
    let field = format!(" event={name}");
    log.lines()
        .filter(|line| line.split_whitespace().any(|word| format!(" {word}") == field))
        .count()
}
