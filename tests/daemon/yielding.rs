//! The worker gives way at once to whatever needs the device, and nothing that was done is lost.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::support::{Device, good_tasks};

/// What the kernel says of a process: its state and the processor time that it has used, in ticks.
fn process(pid: u64) -> Option<(String, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<u64>().unwrap();
    Some((fields[0].to_owned(), ticks(11) + ticks(12)))
}

#[test]
fn a_worker_is_frozen_while_the_device_is_needed_and_resumes_afterwards() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    let inhibit = device.path("in-use");
    device.set("idle.inhibit_paths", vec![inhibit.to_str().unwrap()]);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let status = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    let worker = status["worker"]["pid"].as_u64().unwrap();

    fs::write(&inhibit, "").unwrap();
    let yielding = daemon.wait_state("yielding");

    assert_eq!(yielding["worker"]["frozen"], true);
    let ticks = stopped(worker);
    sleep(Duration::from_secs(1));
    assert_eq!(process(worker).unwrap(), ("T".into(), ticks), "no processor time");
    fs::remove_file(&inhibit).unwrap();
    let again = daemon.wait_state("training");
    assert_eq!(again["worker"]["pid"].as_u64(), Some(worker), "nothing was thrown away");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(process(worker), None, "the worker goes with the daemon");
}

/// Waits until a process has stopped; returns the processor time that it has had. At the lowest
/// priority it may take a busy machine some time to let it notice the signal.
fn stopped(process_id: u64) -> u64 {
    for _ in 0..1000 {
        let (state, ticks) = process(process_id).unwrap();
        if state == "T" {
            return ticks;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("it has not stopped: {:?}", process(process_id));
}

#[test]
fn a_long_pause_unloads_the_model_and_the_run_goes_on_afterwards() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    device.set("compute.unload_after_s", 1);
    let inhibit = device.path("in-use");
    device.set("idle.inhibit_paths", vec![inhibit.to_str().unwrap()]);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let before = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    fs::write(&inhibit, "").unwrap();

    daemon.wait("unloading", |s| s["state"] == "waiting_for_idle" && s["worker"].is_null());

    fs::remove_file(&inhibit).unwrap();
    let step = before["cycle"]["step"].as_u64();
    daemon.wait("later step", |s| s["cycle"]["step"].as_u64() > step);
}

#[test]
fn a_daemon_that_is_killed_takes_its_worker_along() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let status = daemon.wait("worker", |s| s["worker"]["job"] == "train");
    let worker = status["worker"]["pid"].as_u64().unwrap();

    daemon.kill();

    for _ in 0..1000 {
        if process(worker).is_none_or(|(state, _)| state == "Z") {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("the worker is still there: {:?}", process(worker));
}

#[test]
fn a_worker_that_dies_is_replaced_and_loses_nothing() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let status = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(1));
    let (worker, step) = (status["worker"]["pid"].as_u64(), status["cycle"]["step"].as_u64());

    std::process::Command::new("kill")
        .args(["-KILL", &worker.unwrap().to_string()])
        .status()
        .unwrap();

    let again = daemon.wait("another worker", |s| {
        s["worker"]["pid"].as_u64() != worker && s["cycle"]["step"].as_u64() > step
    });
    assert_eq!(again["cycle"]["number"], 1);
    assert!(device.log().contains("event=worker_died"), "{}", device.log());
}
