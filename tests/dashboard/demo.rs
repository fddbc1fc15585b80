//! The whole system in one command, from its first line to Ctrl-C.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, PATIENCE};
use crate::support::program;

/// A running demo. Killed when dropped.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start(arguments: &[&str], temporary: &Path) -> Self {
        let mut child = Command::new(program())
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", temporary)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn way_in(&mut self) -> String {
        let first = self.lines.next().expect("a line").unwrap();
        first.strip_prefix("open ").expect("an address").to_owned()
    }

    fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entries(folder: &Path) -> usize {
    folder.read_dir().unwrap().count()
}

#[test]
fn a_device_learns_and_is_promoted_beside_its_neighbors_and_nothing_stays_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&["--devices", "3"], temporary.path());
    let client = Client::enter(&demo.way_in());

    client.wait("/devices.json", "neighbor-00003");
    client.wait("/devices/demo/this-machine", "promoted adapter");
    client.wait("/devices.json", r#""adapter":"00000001-"#);
    let gain = client.json("/devices.json?q=this-machine")[0]["gain"].clone();
    assert!(gain.as_f64().is_some_and(|gain| gain > 0.2), "{gain}");
    assert_eq!(entries(temporary.path()), 1);
    demo.signal(Signal::INT);

    assert!(demo.child.wait().unwrap().success());
    assert_eq!(entries(temporary.path()), 0);
}

#[test]
fn an_address_that_is_taken_ends_it_and_nothing_stays_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let mut demo = Demo::start(&["--devices", "0", "--listen", &address], temporary.path());

    assert_eq!(demo.child.wait().unwrap().code(), Some(1));
    assert_eq!(entries(temporary.path()), 0);
}

#[test]
fn a_folder_without_task_files_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let model = crate::support::fixture("tiny.gguf");
    let model = model.to_str().unwrap();

    let arguments = ["--model", model, "--tasks", empty];
    let mut demo = Demo::start(&arguments, temporary.path());

    assert_eq!(demo.child.wait().unwrap().code(), Some(64));
    assert_eq!(entries(temporary.path()), 0);
}

#[test]
fn a_signal_ends_it_in_good_order_however_early_it_comes() {
    let temporary = tempfile::tempdir().unwrap();
    for delay_ms in [0, 10, 20, 30, 50, 100, 300] {
        let mut demo = Demo::start(&["--devices", "2"], temporary.path());
        std::thread::sleep(Duration::from_millis(delay_ms));
        // Programs in the background may be started with SIGINT ignored.
        demo.signal(Signal::TERM);

        let end = Instant::now() + PATIENCE;
        while demo.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "after {delay_ms} ms the signal is lost");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(entries(temporary.path()), 0, "after {delay_ms} ms something stays behind");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&["--model", "Cargo.toml"], temporary.path());

    assert_eq!(demo.child.wait().unwrap().code(), Some(64));
    assert_eq!(entries(temporary.path()), 0);
}
