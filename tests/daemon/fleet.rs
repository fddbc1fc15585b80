//! What others get to know of a device: its operators from its state what was learned, what is wrong and
//! what stands in the way, and nobody anything of a task: not in a message, not in the log, not in a file.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use latrod::store::versions::current_of;
use serde_json::{Value, json};

use super::broker::{Broker, LOCAL_PASSWORD, LOCAL_USER};
use super::kills::listening;
use super::observer::Observer;
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

/// The first state that is as `wanted`.
fn state(observer: &Observer, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = observer.wait_for(what, |seen| seen.is("press/d1/state") && wanted(&seen.json));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(found).json
}

fn connection(state: &Value) -> u64 {
    state["connection"].as_u64().unwrap_or(0)
}

#[test]
fn the_state_says_what_was_learned_what_is_wrong_and_what_stands_in_the_way() {
    let broker = Broker::start();
    let mut device = Device::new();
    device.connect(&broker, broker.tls_port);
    device.set("mqtt.state_every_s", 5);
    let observer = listening(&broker);
    let mut daemon = device.start();
    let fresh = state(&observer, "blocker", |s| s["blockers"][0]["blocker"] == "tasks");
    assert!(fresh["last_cycle"].is_null() && fresh["last_trained_ms"].is_null(), "{fresh:#}");
    assert_eq!(fresh["versions"], Value::Array(Vec::new()));

    device.drop_tasks("sums", &good_tasks());
    daemon.wait("end of the cycle", |s| s["cycles"] == 1);
    let learned = state(&observer, "end of the cycle", |s| s["last_cycle"]["number"] == 1);

    let current = current_of(&device.state("adapters")).unwrap().expect("an active adapter");
    let (cycle, version) = (&learned["last_cycle"], &learned["versions"][0]);
    assert_eq!((&cycle["result"], &version["rolled_back"]), (&"promoted".into(), &false.into()));
    assert_eq!(version["version"], current.id.to_string());
    assert_eq!(version["parent"], Value::Null);
    for number in ["questions", "accuracy_before", "accuracy_after", "log_p_gain_low"] {
        assert!(cycle["numbers"][number].is_number(), "{number}: {learned:#}");
        assert_eq!(cycle["numbers"][number], version["numbers"][number]);
    }
    let trained = learned["last_trained_ms"].as_u64().unwrap();
    assert!((1..=cycle["ended_ms"].as_u64().unwrap()).contains(&trained), "{learned:#}");

    for action in [&["set", "learn.steps=7"][..], &["pause"]] {
        let mut arguments = device.command(&broker);
        arguments.extend(action.iter().map(|word| (*word).to_owned()));
        Device::latrod(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let paused = state(&observer, "pause", |s| s["blockers"][0]["blocker"] == "paused");
    assert_eq!(paused["overrides"]["learn.steps"], "7", "{paused:#}");
    let held = |s: &Value| s["blockers"][0]["for_s"].as_u64() >= Some(1);
    state(&observer, "length of the pause", held);

    // The model is gone, and comes back: alarms are state.
    std::fs::rename(device.path("model.gguf"), device.path("gone.gguf")).unwrap();
    let alarm = state(&observer, "alarm", |s| s["alarms"][0]["alarm"] == "model");
    assert_eq!(alarm["alarms"][0]["severity"], "error", "{alarm:#}");
    let raised = alarm["seq"].as_u64();
    std::fs::rename(device.path("gone.gguf"), device.path("model.gguf")).unwrap();
    let over = |s: &Value| s["alarms"] == Value::Array(Vec::new()) && s["seq"].as_u64() > raised;
    state(&observer, "end of the alarm", over);
    assert_eq!(daemon.stop(), 0);

    // What was trained is remembered over a restart.
    let daemon = device.start();
    let again = state(&observer, "restart", |s| connection(s) > connection(&learned));
    assert_eq!(again["last_trained_ms"], learned["last_trained_ms"], "{again:#}");
    assert_eq!(again["last_cycle"], learned["last_cycle"]);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn where_operators_have_the_last_word_a_better_adapter_waits_for_theirs() {
    let broker = Broker::start();
    let mut device = Device::new();
    device.connect(&broker, broker.tls_port);
    device.set("promotion.approval", "operator");
    let observer = listening(&broker);
    let daemon = device.start();

    device.drop_tasks("sums", &good_tasks());
    let waiting = state(&observer, "end of the cycle", |s| s["last_cycle"]["number"] == 1);
    assert_eq!(waiting["last_cycle"]["result"], "awaiting_approval", "{waiting:#}");
    let version = waiting["versions"][0]["version"].as_str().unwrap();
    assert_eq!((&waiting["awaiting"], &waiting["adapter"]), (&version.into(), &Value::Null));
    assert_eq!(waiting["alarms"][0]["alarm"], "awaits_approval", "{waiting:#}");
    assert!(current_of(&device.state("adapters")).unwrap().is_none(), "it is active already");

    // It waits over a restart.
    assert_eq!(daemon.stop(), 0);
    let daemon = device.start();
    let mut arguments = device.command(&broker);
    arguments.extend(["promote".to_owned(), version.to_owned()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Device::latrod(&arguments);

    let active = state(&observer, "approval", |s| s["adapter"]["version"] == version);
    assert_eq!((&active["awaiting"], &active["alarms"]), (&Value::Null, &json!([])));
    assert_eq!(active["last_cycle"]["result"], "promoted", "{active:#}");
    let current = current_of(&device.state("adapters")).unwrap().expect("an active adapter");
    assert_eq!(current.id.to_string(), version);
    assert_eq!(daemon.stop(), 0);
}
