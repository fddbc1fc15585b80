//! Nothing of a task leaves the device: not in a message, not in the log, not in a file that others
//! can read.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::broker::{Broker, LOCAL_PASSWORD, LOCAL_USER};
use super::support::{Device, events, good_tasks};

/// Words that stand in the tasks and nowhere else.
const CANARIES: [&str; 3] = ["QUESTIONCANARY", "ANSWERCANARY", "BROKENCANARY"];

/// A wire to the broker on which every byte is kept.
fn tapped(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&bytes);
    thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let Ok(there) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let (back_from, back_to) = (there.try_clone().unwrap(), here.try_clone().unwrap());
            let kept = Arc::clone(&kept);
            thread::spawn(move || pass(here, there, Some(&kept)));
            thread::spawn(move || pass(back_from, back_to, None));
        }
    });
    (own, bytes)
}

fn pass(mut from: TcpStream, mut to: TcpStream, kept: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if let Some(kept) = kept {
            kept.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
        if to.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn contains(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// Every file below `dir`.
fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn no_task_leaves_the_device() {
    // Without TLS, so that what is said can be read; everybody may write.
    let broker = Broker::start_with(|config| {
        config
            .replace("acl_file", "# acl_file")
            .replace("allow_anonymous false", "allow_anonymous true")
    });
    let (port, bytes) = tapped(broker.plain_port);
    let mut device = Device::new();
    device.set("mqtt.broker", format!("mqtt://127.0.0.1:{port}"));
    fs::write(device.path("password"), LOCAL_PASSWORD).unwrap();
    device.set("mqtt.username", LOCAL_USER);
    device.set("mqtt.password_file", device.path("password").to_str().unwrap());
    device.set("learn.steps", 4);
    let mut tasks: Vec<Value> = good_tasks();
    for (i, task) in tasks.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0) {
        let question = format!("{} QUESTIONCANARY", task["question"].as_str().unwrap());
        let answer = if i % 2 == 0 { task["answer"].clone() } else { "ANSWERCANARY".into() };
        *task = json!({"question": question, "answer": answer});
    }
    tasks.push(json!({"question": "BROKENCANARY"}));
    let mut daemon = device.start();
    device.drop_tasks("tasks", &tasks);
    fs::write(device.path("spool/broken.jsonl"), "{\"question\": \"BROKENCANARY\n").unwrap();

    daemon.wait("end of the cycle", |s| s["cycles"] == 1);
    daemon.wait("empty outbox", |s| s["broker"]["waiting"] == 0);
    let status = daemon.status().unwrap().to_string();
    assert_eq!(daemon.stop(), 0);

    let said = bytes.lock().unwrap().clone();
    let log = device.log();
    assert!(contains(&said, "latro/v2/test/dev1/event") && contains(&said, "\"reward\""));
    assert!(contains(&said, "tasks_taken") && events(&log, "quarantined_lines") > 0, "{log}");
    for canary in CANARIES {
        assert!(!contains(&said, canary), "{canary} went over the wire");
        assert!(!log.contains(canary), "{canary} is in the log");
        assert!(!status.contains(canary), "{canary} is in the status");
    }
    let mut all = Vec::new();
    files(&device.path("state"), &mut all);
    let holds = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        CANARIES.iter().any(|canary| contains(&bytes, canary))
    };
    let telling: Vec<_> = all.iter().filter(|path| holds(path)).collect();
    assert!(!telling.is_empty(), "the tasks are kept somewhere");
    for path in telling {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} can be read by others: {mode:o}", path.display());
    }
}
