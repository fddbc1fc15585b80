//! What the service manager is told, and what happens to a worker that hangs.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{Device, PATIENCE, events, good_tasks};

#[test]
fn the_service_manager_hears_of_readiness_state_life_and_end() {
    let device = Device::new();
    let path = device.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut daemon =
        device.start_in(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")]);
    let heard = |wanted: &str, within: Duration| {
        let (end, mut buffer) = (Instant::now() + within, [0; 4096]);
        while Instant::now() < end {
            let Ok(n) = socket.recv(&mut buffer) else { continue };
            if String::from_utf8_lossy(&buffer[..n]).contains(wanted) {
                return true;
            }
        }
        false
    };

    assert!(heard("READY=1", PATIENCE));
    assert!(heard("WATCHDOG=1", PATIENCE));
    daemon.wait_state("waiting_for_tasks");
    device.drop_tasks("sums", &good_tasks());
    assert!(heard("STATUS=training", PATIENCE));
    daemon.signal("HUP");
    assert!(heard("RELOADING=1", PATIENCE) && heard("READY=1", PATIENCE));
    // A daemon that hangs feeds no watchdog.
    daemon.signal("STOP");
    while heard("", Duration::from_millis(300)) {}
    assert!(!heard("WATCHDOG=1", Duration::from_secs(3)));
    daemon.signal("CONT");
    daemon.signal("TERM");
    assert!(heard("STOPPING=1", PATIENCE));
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let mut device = Device::new();
    device.set("learn.steps", 1000);
    device.set("compute.stall_s", 10);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let before = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    let worker = before["worker"]["pid"].as_u64().unwrap();

    // Stopped behind the daemon's back, it makes no progress, as in a kernel that never returns.
    Command::new("kill").args(["-STOP", &worker.to_string()]).status().unwrap();

    let step = before["cycle"]["step"].as_u64();
    daemon.wait("another worker", |s| {
        s["worker"]["pid"].as_u64().is_some_and(|pid| pid != worker)
            && s["cycle"]["step"].as_u64() > step
    });
    assert_eq!(events(&device.log(), "worker_stalled"), 1);
}
