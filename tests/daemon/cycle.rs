//! Whole cycles: what is better is promoted, what is worse never is.

use std::fs;

use latrod::store::versions::{VersionSettings, Versions};
use serde_json::Value;

use super::support::{Daemon, Device, events, good_tasks, poisoned};

/// Waits until cycle `number` has ended.
#[track_caller]
fn wait_for_end(daemon: &mut Daemon, number: u64) -> Value {
    daemon.wait("end of a cycle", |status| {
        status["cycle"].is_null() && status["cycles"].as_u64() == Some(number)
    })
}

#[test]
fn a_device_learns_from_its_tasks_and_promotes_what_is_better() {
    let mut device = Device::new();
    let hooked = device.path("hooked");
    let script = format!("echo $LATROD_EVENT $LATROD_VERSION >> {}", hooked.display());
    device.set("hook.command", vec!["sh", "-c", &script]);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());

    let status = wait_for_end(&mut daemon, 1);

    let version = device.current().expect("an active adapter");
    assert_eq!(status["adapter"], version.as_str());
    assert!(status["last_cycle"].as_str().unwrap().contains("promoted"), "{status:#}");
    daemon.wait("event in the log", |_| events(&device.log(), "promoted") == 1);
    daemon.wait("hook", |_| hooked.exists());
    assert_eq!(fs::read_to_string(&hooked).unwrap(), format!("promoted {version}\n"));
    // Anybody can use what was learned: PEFT, llama.cpp, and latrod itself.
    let current = device.state("adapters/current");
    for file in ["adapter_config.json", "adapter_model.safetensors", "adapter.gguf", "latrod.json"]
    {
        assert!(current.join(file).exists(), "{file}");
    }
    let manifest: Value =
        serde_json::from_slice(&fs::read(current.join("latrod.json")).unwrap()).unwrap();
    let accuracy = &manifest["metrics"]["decision"]["evidence"]["accuracy"];
    let (before, after) = (&accuracy["baseline"], &accuracy["candidate"]);
    assert!(after.as_f64() > before.as_f64().map(|a| a + 0.1), "{accuracy}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_was_taken_back_is_not_promoted_again_even_if_the_ledger_is_lost() {
    let device = Device::new();
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    wait_for_end(&mut daemon, 1);
    assert_eq!(daemon.stop(), 0);
    let first = device.current().expect("an active adapter");
    let settings = VersionSettings::default();
    let mut versions = Versions::open(&device.state("adapters"), settings).unwrap();
    versions.roll_back(first.parse().unwrap(), "by the test", 0).unwrap();
    drop(versions);
    fs::remove_file(device.state("ledger.db")).unwrap();

    let mut daemon = device.start();

    // The tasks are the same; the run must not be, or it would find the same adapter.
    let status = daemon.wait("another cycle", |s| s["cycles"].as_u64() > Some(1));
    assert_ne!(status["adapter"], first.as_str(), "{status:#}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn poisoned_tasks_are_never_promoted_and_good_ones_are_afterwards() {
    let device = Device::new();
    let good = good_tasks();
    let (first, second) = good.split_at(240);
    // The wrong answers are learned from; what is held out is as wrong, and still not predictable.
    let mut daemon = device.start();
    device.drop_tasks("poison", &poisoned(first));

    wait_for_end(&mut daemon, 1);

    assert_eq!(device.current(), None, "{}", device.log());
    device.drop_tasks("good", second);
    daemon.wait("promotion", |status| status["adapter"].is_string());
    assert_eq!(daemon.stop(), 0);
}

/// How such a run ends, by sentinels or by the gate, hangs on the last digit of its sums.
#[test]
fn a_learning_rate_that_is_far_too_high_is_never_promoted() {
    let mut device = Device::new();
    device.set("learn.learning_rate", 10.0);
    device.set("learn.warmup_steps", 0);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks()[..300]);

    wait_for_end(&mut daemon, 1);

    assert_eq!(device.current(), None);
    let log = device.log();
    assert!(events(&log, "sentinel") + events(&log, "rejected") >= 1, "{log}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_learning_rate_that_diverges_sets_tasks_aside_and_the_right_one_is_promoted_afterwards() {
    let mut device = Device::new();
    // Beyond what f32 holds, after one step.
    device.set("learn.learning_rate", 1e25);
    device.set("learn.warmup_steps", 0);
    device.set("cycle.retry_after_s", 1);
    let good = good_tasks();
    let (first, second) = good.split_at(300);
    let mut daemon = device.start();
    device.drop_tasks("sums", first);

    let status = wait_for_end(&mut daemon, 1);

    assert_eq!(device.current(), None);
    let log = device.log();
    assert_eq!(events(&log, "sentinel"), 2, "sentinels step back: {log}");
    assert!(status["tasks"]["set_aside"].as_u64() > Some(0), "and then set the tasks aside: {log}");
    device.set("learn.learning_rate", 1e-3);
    device.write_config();
    daemon.signal("HUP");
    device.drop_tasks("more", second);
    daemon.wait("promotion", |status| status["adapter"].is_string());
    assert_eq!(daemon.stop(), 0);
}
