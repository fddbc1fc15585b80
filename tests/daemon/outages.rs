//! A broker that dies again and again while the device trains: what is reported meanwhile arrives.

use std::collections::HashSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::Broker;
use super::kills::{listening, on_a_thread};
use super::observer::Observer;
use super::proxy::Door;
use super::support::{Device, PATIENCE, good_tasks, repeats};

/// How many events of the journal went through the outbox: `started` is told before the ledger with
/// the outbox is open.
fn written(log: &str) -> usize {
    let events = log.lines().filter(|line| line.contains(" latrod::daemon] "));
    events.filter(|line| !line.contains(" event=started ")).count()
}

/// Waits until all events that the journal has by now have arrived, from number `first` on. In a new
/// outbox they have the numbers from 1, after their stream's name.
fn all_arrive(first: usize, device: &Device, observer: &Observer) -> HashSet<usize> {
    let (last, end) = (written(&device.log()), Instant::now() + PATIENCE);
    loop {
        let seen = observer.seen();
        let number = |id: &str| id.rsplit_once('-').unwrap().1.parse().unwrap();
        let arrived: HashSet<usize> = seen
            .iter()
            .filter(|s| s.is("press/d1/event") && s.field("event") != "started")
            .map(|s| number(s.field("id")))
            .collect();
        let missing: Vec<usize> = (first..=last).filter(|n| !arrived.contains(n)).collect();
        if missing.is_empty() {
            return arrived;
        }
        let log = device.log();
        assert!(Instant::now() < end, "{missing:?} of {last} events are lost:\n{log}");
        sleep(Duration::from_millis(50));
    }
}

/// A device that trains and has something to tell, behind a door that can be shut, and its broker.
struct Outages {
    broker: Broker,
    observer: Observer,
    door: Door,
    device: Device,
    /// What the waiting for the observer runs on.
    waiting: tokio::runtime::Runtime,
}

impl Outages {
    fn new(persistence: bool) -> Self {
        let broker = Broker::start_with(|config| {
            if persistence {
                config
            } else {
                config.replace("persistence true", "persistence false")
            }
        });
        let observer = listening(&broker);
        let door = on_a_thread(Door::to(broker.tls_port));
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut device = Device::new();
        device.connect(&broker, door.port);
        device.set("learn.steps", 1_000_000);
        device.set("mqtt.max_waiting_progress", 8);
        Self { broker, observer, door, device, waiting }
    }

    /// Kills the broker and starts it again, with something to tell before, during and after that.
    /// Returns how many events had been told when it was killed.
    fn kill_the_broker(&mut self, n: usize) -> usize {
        let task = |device: &Device, name: &str| {
            let task = json!({"question": format!("{name} {n}?"), "answer": "one"});
            device.drop_tasks(&format!("{name}-{n}"), &[task]);
        };
        task(&self.device, "before");
        sleep(Duration::from_millis(500 + 97 * (n as u64 % 7)));
        self.broker.kill();
        self.door.shut();
        let before_kill = written(&self.device.log());
        self.waiting.block_on(self.observer.wait_until_cut());
        task(&self.device, "during");
        sleep(Duration::from_millis(600));
        self.broker.restart();
        self.waiting.block_on(self.observer.wait_until_subscribed());
        self.door.open();
        all_arrive(before_kill + 1, &self.device, &self.observer);
        task(&self.device, "after");
        before_kill
    }
}

/// A killed broker takes with it what it has acknowledged and not yet passed on: that each message was
/// acknowledged before it was forgotten is seen on the wire in `tests/mqtt`. Here everything must
/// arrive that is told from the broker's end on.
fn outages(persistence: bool, kills: usize) {
    let mut outages = Outages::new(persistence);
    let mut daemon = outages.device.start();
    outages.device.drop_tasks("sums", &good_tasks());
    let status = daemon.wait("step", |s| s["cycle"]["step"].as_u64() > Some(0));
    let first = status["cycle"]["step"].as_u64();

    let before_kill = (0..kills).map(|n| outages.kill_the_broker(n)).last().unwrap_or(0);

    daemon.wait("empty outbox", |s| {
        s["broker"]["connected"] == true
            && s["broker"]["waiting"] == 0
            && s["tasks"]["train"].as_u64().unwrap() + s["tasks"]["held_out"].as_u64().unwrap()
                == (good_tasks().len() + 3 * kills) as u64
    });
    let status = daemon.wait("progress of training", |s| s["cycle"]["step"].as_u64() > first);
    let Outages { device, observer, .. } = &outages;
    let size = fs::metadata(device.state("ledger.db")).unwrap().len();
    let arrived = all_arrive(before_kill + 1, device, observer);
    let total = written(&device.log());
    assert!(total > before_kill + 1, "something was told after the last kill");
    assert!(size < 4 << 20, "the ledger has {size} bytes");
    let sent = observer.seen().iter().filter(|s| s.is("press/d1/progress")).count();
    println!(
        "{kills} kills, persistence {persistence}: {total} events, {} lost by dying brokers, {} messages seen, \
         {sent} steps told, {} dropped; ledger {size} bytes",
        total - arrived.len(),
        observer.seen().len(),
        status["broker"]["dropped_progress"],
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
