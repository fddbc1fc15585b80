//! Brokers and networks that come and go: nothing that must arrive is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use latrod::contract::wire::StepProgress;
use latrod::report::mqtt::{MqttSettings, Protocol};

use crate::broker::Broker;
use crate::device::{Device, ledger, settings, settings_with_password};
use crate::observer::{Observer, Seen};
use crate::proxy::Door;

fn kills() -> usize {
    std::env::var("LATROD_BROKER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// Events by number, each with the ids that it came under.
fn events(seen: &[Seen]) -> BTreeMap<usize, BTreeSet<String>> {
    let mut found: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for message in seen.iter().filter(|s| s.is("press/d1/event")) {
        let number = message.field("sentence").rsplit(' ').next().unwrap().parse().unwrap();
        found.entry(number).or_default().insert(message.field("id").to_owned());
    }
    found
}

/// What a device has told so far, so that it can be counted.
#[derive(Default)]
struct Told {
    events: usize,
    progress: u64,
}

impl Told {
    fn one_of_each(&mut self, device: &mut Device) {
        device.tell(self.events);
        self.events += 1;
        device.link.progress(&StepProgress::new(self.progress, 0, []));
        self.progress += 1;
    }
}

/// The broker is killed again and again while events flow. The observer subscribes before the door
/// to the new broker opens. What a broker takes its acknowledgement for and then dies with is the
/// broker's loss: the witness in the door tells it from the device's.
async fn kill_the_broker_again_and_again(protocol: Protocol, persistence: bool) {
    let mut broker = Broker::start_with(|config| match persistence {
        true => config,
        false => config.replace("persistence true", "persistence false"),
    });
    let door = Door::to(broker.plain_port).await;
    let mut observer = Observer::reader(&broker).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let settings = MqttSettings { protocol, ..settings_with_password(&broker, door.port) };
    let mut device = Device::with_ledger(settings, ledger(&path));
    let mut told = Told::default();
    let mut told_before_last_kill = 0;

    for round in 0..kills() {
        device.run_until_connected(true).await;
        // A stream of events, broken off at another point each time.
        for _ in 0..20 + round % 7 {
            told.one_of_each(&mut device);
            device.run_for_ms(1).await;
        }
        if round % 2 == 0 {
            device.run_for_ms(20).await;
        }
        if round % 3 == 2 {
            broker.stop();
        } else {
            broker.kill();
        }
        door.shut();
        device.run(observer.wait_until_cut()).await;
        told_before_last_kill = told.events;
        for _ in 0..10 {
            told.one_of_each(&mut device);
        }
        device.run_for_ms(10).await;
        broker.restart();
        device.run(observer.wait_until_subscribed()).await;
        door.open();
    }
    device.tell(told.events);
    told.events += 1;
    device.run_until_drained().await;
    let sentence = format!("recovered: event {}", told.events - 1);
    device.run(observer.wait_for("last event", |s| s.field("sentence") == sentence)).await;

    check_what_came(&observer.seen(), &door, &told, told_before_last_kill);
    let counts = device.link.counts(Some(&device.db));
    assert_eq!((counts.waiting, counts.dropped_events, counts.dropped_progress), (0, 0, 0));
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < 1 << 20, "the ledger has {size} bytes");
}

/// Every event was acknowledged under one id, and what is missing went down with a killed broker.
fn check_what_came(seen: &[Seen], door: &Door, told: &Told, told_before_last_kill: usize) {
    let found = events(seen);
    assert!(found.values().all(|ids| ids.len() == 1), "a repeated message keeps its id");
    let seen_ids: BTreeSet<_> = found.values().flatten().cloned().collect();
    assert_eq!(seen_ids.len(), found.len(), "another message has another id");
    let acknowledged = door.acknowledged();
    // In a new outbox the messages have the numbers from 1.
    let stream = seen_ids.first().unwrap().split_once('-').unwrap().0.to_owned();
    let ids = (1..=told.events).map(|n| format!("{stream}-{n}"));
    let lost: Vec<_> = ids.filter(|id| !acknowledged.contains(id)).collect();
    assert!(lost.is_empty(), "left the outbox without an acknowledgement: {lost:?}");
    let missing: Vec<_> = (0..told.events).filter(|n| !found.contains_key(n)).collect();
    // Killed brokers take some with them, as many as they had no time to pass on; the last one lives.
    assert!(missing.iter().all(|n| *n < told_before_last_kill), "a living broker lost {missing:?}");
    let repeated = seen.iter().filter(|s| s.is("press/d1/event")).count() - found.len();
    let progress = seen.iter().filter(|s| s.is("press/d1/progress"));
    let steps: BTreeSet<_> = progress.filter_map(|s| s.json["step"].as_u64()).collect();
    println!(
        "{} kills, {} events, {repeated} repeated, {} acknowledged and then lost by the broker, \
         {} of {} progress messages came",
        kills(),
        told.events,
        missing.len(),
        steps.len(),
        told.progress
    );
}

#[tokio::test]
async fn no_event_is_lost_by_a_broker_with_a_memory() {
    kill_the_broker_again_and_again(Protocol::V311, true).await;
}

#[tokio::test]
async fn no_event_is_lost_by_a_broker_without_a_memory() {
    kill_the_broker_again_and_again(Protocol::V311, false).await;
}

#[tokio::test]
async fn no_event_is_lost_with_mqtt_5() {
    kill_the_broker_again_and_again(Protocol::V5, false).await;
}

#[tokio::test]
async fn no_event_is_lost_by_a_network_that_is_cut() {
    let broker = Broker::start();
    let door = Door::to(broker.tls_port).await;
    let observer = Observer::reader(&broker).await;
    let mut device = Device::new(settings(&broker, door.port));
    let mut told = 0;
    for round in 0..5 {
        device.run_until_connected(true).await;
        for _ in 0..200 {
            device.tell(told);
            told += 1;
        }
        device.run_for_ms(round).await;
        door.cut().await;
    }
    device.run_until_drained().await;
    assert_eq!(events(&observer.seen()).len(), told);
}

#[tokio::test]
async fn a_long_outage_fills_neither_disk_nor_memory() {
    let broker = Broker::start();
    let door = Door::to(broker.tls_port).await;
    door.shut();
    let mut device = Device::new(MqttSettings {
        max_outbox_messages: 100,
        max_waiting_progress: 10,
        ..settings(&broker, door.port)
    });
    for n in 0..250 {
        device.tell(n);
        device.link.progress(&StepProgress::new(n as u64, 0, []));
        device.link.set_state(latrod::contract::wire::State::default());
    }
    device.run_for_ms(100).await;
    let counts = device.link.counts(Some(&device.db));
    assert_eq!((counts.waiting, counts.dropped_events, counts.dropped_progress), (100, 150, 240));

    door.open();
    let observer = Observer::reader(&broker).await;
    device.run_until_drained().await;
    let last = |s: &Seen| s.is("press/d1/progress") && s.json["step"] == 249;
    device.run(observer.wait_for("last progress", last)).await;
    assert_eq!(
        events(&observer.seen()).into_keys().collect::<Vec<_>>(),
        (150..250).collect::<Vec<_>>()
    );
    assert_eq!(observer.seen().iter().filter(|s| s.is("press/d1/progress")).count(), 10);
}

/// A peer that takes the connection and never answers: the attempt ends, and so does a connection
/// that falls silent.
#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut device = Device::new(MqttSettings {
        broker: format!("mqtt://127.0.0.1:{port}"),
        ..MqttSettings::default()
    });
    device.run(tokio::time::sleep(Duration::from_secs(120))).await;
    let given_up = device.said.iter().filter(|s| s.starts_with("no connection")).count();
    assert!((2..20).contains(&given_up), "{:?}", device.said);
}
