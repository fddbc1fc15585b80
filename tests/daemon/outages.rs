//! A broker that dies again and again while the device trains: the events in the journal arrive.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::Broker;
use super::kills::listening;
use super::support::{Device, good_tasks, repeats};

/// Events by name: how many the journal has.
fn written(log: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in log.lines().filter(|line| line.contains(" latrod::daemon] ")) {
        let name = line.split(" event=").nth(1).and_then(|rest| rest.split(' ').next());
        *counts.entry(name.expect("every event has its name").to_owned()).or_default() += 1;
    }
    counts
}

fn outages(persistence: bool, kills: usize) {
    let mut broker = Broker::start_with(|config| {
        if persistence { config } else { config.replace("persistence true", "persistence false") }
    });
    let observer = listening(&broker);
    let mut device = Device::new();
    device.connect(&broker, broker.tls_port);
    device.set("learn.steps", 1_000_000);
    device.set("mqtt.max_waiting_progress", 8);
    let mut daemon = device.start();
    device.drop_tasks("sums", &good_tasks());
    let status = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    let first = status["cycle"]["step"].as_u64();

    for n in 0..kills {
        // Something to tell before, during and after each outage.
        let task = |name: &str| {
            let task = json!({"question": format!("{name} {n}?"), "answer": "one"});
            device.drop_tasks(&format!("{name}-{n}"), &[task]);
        };
        task("before");
        sleep(Duration::from_millis(500 + 97 * (n as u64 % 7)));
        broker.kill();
        task("during");
        sleep(Duration::from_millis(600));
        broker.restart();
        task("after");
    }
    daemon.wait("empty outbox", |s| {
        s["broker"]["connected"] == true
            && s["broker"]["waiting"] == 0
            && s["tasks"]["train"].as_u64().unwrap() + s["tasks"]["held_out"].as_u64().unwrap()
                == (good_tasks().len() + 3 * kills) as u64
    });
    let status = daemon.wait("progress of training", |s| s["cycle"]["step"].as_u64() > first);
    let size = fs::metadata(device.state("ledger.db")).unwrap().len();

    let log = device.log();
    let written = written(&log);
    let end = Instant::now() + Duration::from_secs(30);
    let arrived = loop {
        let mut arrived: HashMap<String, HashSet<String>> = HashMap::new();
        for seen in observer.seen().iter().filter(|s| s.is("press/d1/event")) {
            arrived.entry(seen.field("event").into()).or_default().insert(seen.field("id").into());
        }
        let complete =
            written.iter().all(|(name, n)| arrived.get(name).map(HashSet::len) == Some(*n));
        if complete || Instant::now() > end {
            break arrived;
        }
        sleep(Duration::from_millis(50));
    };
    // A broker that is killed takes with it what it has acknowledged and not yet passed on. That each
    // message was acknowledged before it was forgotten is seen on the wire in `tests/mqtt`.
    let total: usize = written.values().sum();
    let missing = total - arrived.values().map(HashSet::len).sum::<usize>();
    assert!(missing <= 1 + kills / 10, "{missing} of {written:?}");
    assert!(size < 4 << 20, "the ledger has {size} bytes");
    let (sent, dropped) = (
        observer.seen().iter().filter(|s| s.is("press/d1/progress")).count(),
        status["broker"]["dropped_progress"].as_u64().unwrap(),
    );
    println!(
        "{kills} kills, persistence {persistence}: {total} events, {missing} lost by dying brokers, {} messages seen, \
         {sent} steps told, {dropped} dropped; ledger {size} bytes",
        observer.seen().len(),
    );
    assert_eq!(status["broker"]["dropped_events"], 0);
}

#[test]
fn events_arrive_however_often_the_broker_dies() {
    let kills = repeats("LATROD_BROKER_KILLS", 3);
    for persistence in [true, false] {
        outages(persistence, kills);
    }
}
