//! A clock that jumps: to 1970, and ten years ahead. The program runs with libfaketime, which puts
//! another wall clock under it (`apt-get install faketime`).

use std::fs;
use std::path::PathBuf;

use super::support::{Device, events, good_tasks};

/// Where Debian puts the library.
fn library() -> PathBuf {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|arch| PathBuf::from(format!("/usr/lib/{arch}/faketime/libfaketime.so.1")))
        .into_iter()
        .find(|path| path.exists());
    found.expect("libfaketime is missing: sudo apt-get install faketime, or scripts/setup.sh")
}

#[test]
fn the_clock_may_jump_without_doing_harm() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    let time = device.path("time");
    let set = |offset: &str| {
        fs::write(device.path("time.new"), format!("{offset}\n")).unwrap();
        fs::rename(device.path("time.new"), &time).unwrap();
    };
    set("+0");
    let mut daemon = device.start_in(&[
        ("LD_PRELOAD", library().to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", time.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    device.drop_tasks("sums", &good_tasks());
    let step = |s: &serde_json::Value| s["cycle"]["step"].as_u64().unwrap_or(0);
    let first = step(&daemon.wait("step", |s| step(s) > 0));

    let jumps = || events(&device.log(), "clock_jumped");
    set("+10y");
    let second = step(&daemon.wait("later step", |s| step(s) > first + 1 && jumps() == 1));
    set("-56y");
    daemon.wait("still later step", |s| step(s) > second + 1 && jumps() == 2);

    assert_eq!(daemon.stop(), 0);
}
