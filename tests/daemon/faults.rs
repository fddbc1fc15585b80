//! Whatever breaks around the daemon is named, reported and survived: it resumes by itself once the
//! cause is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::{Device, PATIENCE, events, fixture, good_tasks};

/// A small disk in memory, unmounted in the end.
struct Disk(TempDir);

impl Disk {
    /// `None`, with a word on standard error, where it cannot be mounted.
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let done = mount(&["-t", "tmpfs", "-o", "size=16m", "tmpfs"], disk.0.path());
        if !done {
            eprintln!("left out: a disk cannot be mounted here");
        }
        done.then_some(disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

fn mount(args: &[&str], place: &Path) -> bool {
    Command::new("mount").args(args).arg(place).output().is_ok_and(|out| out.status.success())
}

/// A device that trains for long, with its state on `disk`.
fn training_on(disk: &Disk) -> Device {
    let mut device = Device::new();
    device.set("state_dir", disk.path("state").to_str().unwrap());
    device.set("learn.steps", 1000);
    device.set("idle.min_free_disk_mib", 0);
    device
}

#[test]
fn a_full_disk_degrades_the_daemon_until_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let device = training_on(&disk);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let before = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));

    // Writing as much as fits fills it to the last byte.
    let _ = fs::write(disk.path("filler"), vec![1; 17 << 20]);
    let degraded = daemon.wait_state("degraded");
    fs::remove_file(disk.path("filler")).unwrap();

    assert!(
        degraded["faults"]["disk"].as_str().unwrap().contains("free some space"),
        "{degraded:#}"
    );
    let step = before["cycle"]["step"].as_u64();
    daemon.wait("later step", |s| {
        s["faults"].as_object().unwrap().is_empty() && s["cycle"]["step"].as_u64() > step
    });
    assert!(device.log().contains("event=recovered"), "{}", device.log());
}

#[test]
fn a_disk_that_becomes_read_only_degrades_the_daemon_until_it_is_writable() {
    let Some(disk) = Disk::mount() else { return };
    let device = training_on(&disk);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    daemon.kill();

    // A kernel does this to a disk with errors; files open for writing would keep the test from it.
    let end = Instant::now() + PATIENCE;
    while !mount(&["-o", "remount,ro"], disk.0.path()) {
        assert!(Instant::now() < end, "the worker goes with the daemon, and its files with it");
        sleep(Duration::from_millis(20));
    }
    let mut daemon = device.start();
    let degraded = daemon.wait_state("degraded");
    assert!(mount(&["-o", "remount,rw"], disk.0.path()));

    assert!(degraded["faults"]["disk"].is_string(), "{degraded:#}");
    daemon.wait("training", |s| s["state"] == "training" && s["tasks"]["train"] != 0);
}

#[test]
fn a_corrupt_ledger_is_set_aside_and_the_tasks_are_read_again() {
    let mut device = Device::new();
    device.set("cycle.min_new_tasks", 100_000);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let counted = daemon.wait("tasks", |s| s["tasks"]["train"].as_u64() > Some(400));
    daemon.kill();
    let ledger = device.state("ledger.db");
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(device.state(name));
    }
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[..4096].fill(0xa5);
    fs::write(&ledger, &bytes).unwrap();

    let mut daemon = device.start();

    let again = daemon.wait("tasks", |s| s["tasks"]["train"].as_u64() > Some(400));
    assert_eq!(again["tasks"], counted["tasks"]);
    assert!(device.log().contains("event=ledger_rebuilt"), "{}", device.log());
    let kept = fs::read_dir(device.state("")).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("ledger.db.corrupt-")
    });
    assert!(kept.count() >= 1, "the damaged ledger is kept");
}

#[test]
fn a_missing_model_is_waited_for() {
    let device = Device::new();
    let model = device.path("model.gguf");
    fs::remove_file(&model).unwrap();
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());

    let degraded = daemon.wait_state("degraded");
    fs::copy(fixture("tiny.gguf"), &model).unwrap();

    assert!(degraded["reason"].as_str().unwrap().contains("model.gguf"), "{degraded:#}");
    daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    let log = device.log();
    assert!(log.contains("event=model_missing") && log.contains("event=model_back"), "{log}");
}

#[test]
fn a_file_that_is_no_model_is_named_and_a_good_one_in_its_place_is_used() {
    let device = Device::new();
    let model = device.path("model.gguf");
    fs::write(&model, "not a model").unwrap();
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());

    let degraded = daemon.wait_state("degraded");
    sleep(Duration::from_secs(4));
    assert_eq!(
        events(&device.log(), "model_missing"),
        1,
        "tried again and again: {}",
        device.log()
    );
    fs::copy(fixture("tiny.gguf"), device.path("new.gguf")).unwrap();
    fs::rename(device.path("new.gguf"), &model).unwrap();

    assert!(degraded["faults"]["model"].is_string(), "{degraded:#}");
    daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
}

#[test]
fn a_model_that_is_replaced_under_it_is_loaded_anew() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let before = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));

    // Another model: the same numbers under another name.
    let mut bytes = fs::read(fixture("tiny.gguf")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(device.path("new.gguf"), bytes).unwrap();
    fs::rename(device.path("new.gguf"), device.path("model.gguf")).unwrap();

    let hash = before["model"]["sha256"].clone();
    daemon.wait("other model", |s| {
        s["model"]["sha256"] != hash && s["cycle"]["step"].as_u64() > Some(0)
    });
    assert!(device.log().contains("event=model_changed"), "{}", device.log());
}

#[test]
fn a_state_folder_that_cannot_be_read_is_waited_for() {
    let device = Device::new();
    let odd = device.state("training/check/check.json");
    fs::create_dir_all(&odd).unwrap();
    let mut daemon = device.start();
    daemon.wait_state("degraded");
    sleep(Duration::from_secs(3));

    fs::remove_dir(&odd).unwrap();

    daemon.wait_state("waiting_for_tasks");
}

#[test]
fn two_daemons_do_not_share_a_state_folder() {
    let device = Device::new();
    let mut daemon = device.start();
    daemon.wait_state("waiting_for_tasks");

    let second = Command::new(super::support::program())
        .args(["run", "--config"])
        .arg(device.write_config())
        .output()
        .unwrap();

    assert_eq!(second.status.code(), Some(75));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("in use by another latrod"), "{said}");
    assert!(daemon.status().is_some(), "the first one still answers");
}
