//! Commands: signed, done once, acknowledged, also while the device is away or its ledger fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use latrod::contract::envelope::Envelope;
use latrod::contract::wire::Action;
use latrod::report::mqtt::{MqttSettings, Protocol};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

use crate::broker::{Broker, LOCAL_PASSWORD, LOCAL_USER};
use crate::device::{Device, command, command_for, ledger, settings, signed};
use crate::observer::Observer;
use crate::proxy::Door;

fn states(observer: &Observer, id: &str) -> Vec<String> {
    let topic = format!("press/d1/ack/{id}");
    let seen = observer.seen();
    seen.iter().filter(|s| s.is(&topic)).map(|s| s.field("state").to_owned()).collect()
}

#[tokio::test]
async fn a_command_is_done_and_acknowledged_step_by_step() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    for (n, protocol) in [Protocol::V311, Protocol::V5].into_iter().enumerate() {
        let mut device =
            Device::new(MqttSettings { protocol, ..settings(&broker, broker.tls_port) });
        device.run_until_heard(&observer).await;
        let id = format!("once-{n}");
        let command = command(&id, Action::Pause);

        observer.give(&command).await;
        let done = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done"
        };
        device.run(observer.wait_for("done", done)).await;
        assert_eq!(states(&observer, &id), ["received", "running", "done"]);
        assert_eq!(device.acted, [id.as_str()]);

        observer.give(&command).await;
        device.run_until("answered", |_| states(&observer, &id).len() > 3).await;
        assert_eq!(device.acted.len(), 1, "a repeated id acts once");
        assert_eq!(states(&observer, &id), ["received", "running", "done", "done"]);
        device.link.stop(Some(&device.db), Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn what_no_operator_has_signed_is_refused() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_heard(&observer).await;
    let pause = command("u0", Action::Pause);
    let unsigned = Envelope::unsigned(&command("u1", Action::Rollback).to_json()).to_json();
    let for_another = signed(&command_for("d2", "u2", Action::Rollback));
    let renamed = signed(&command("x", Action::Rollback));
    let old =
        br#"{"v":1,"id":"u6","command":"rollback","issued":1,"expires":2,"signature":"c2ln"}"#;
    let cases = [
        ("rollback/u1", unsigned, "it is not signed"),
        ("rollback/u2", for_another, "it is for another device"),
        ("rollback/u3", renamed, "its id is not the one in its topic"),
        ("rollback/u4", b"{".to_vec(), "it is not a signed envelope (DSSE): it is not JSON"),
        ("rollback/u0", signed(&pause), "it was signed as pause, its topic says another type"),
        ("rollback/u6", old.to_vec(), "it is in the form of version 1 of the contract"),
    ];
    for (topic, payload, _) in &cases {
        observer.publish(&format!("press/d1/cmd/{topic}"), payload.clone()).await;
    }

    for (topic, _, expected) in &cases {
        let id = topic.split_once('/').unwrap().1;
        let refused = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "refused"
        };
        let refused = device.run(observer.wait_for("refusal", refused)).await;
        assert!(refused.field("reason").starts_with(expected), "{}", refused.text);
    }
    assert_eq!(device.acted, Vec::<String>::new());
    assert_eq!(device.link.counts(None).commands_refused, cases.len() as u64);

    // A command that somebody moved to another topic has not used up its id.
    observer.give(&pause).await;
    let done = |s: &crate::observer::Seen| s.is("press/d1/ack/u0") && s.field("state") == "done";
    device.run(observer.wait_for("done", done)).await;
}

/// A broker still knows what a device subscribed to before it was updated.
#[tokio::test]
async fn a_command_on_a_topic_of_version_1_is_refused_by_a_sentence() {
    let without_acl = |c: String| {
        c.lines()
            .filter(|l| !l.starts_with("acl_file"))
            .fold(String::new(), |config, line| config + line + "\n")
    };
    let broker = Broker::start_with(without_acl);
    let observer = Observer::operator(&broker).await;
    let mut options = MqttOptions::new("latrod-press-d1", "127.0.0.1", broker.plain_port);
    options.set_credentials(LOCAL_USER, LOCAL_PASSWORD).set_clean_session(false);
    let (before, mut events) = AsyncClient::new(options, 10);
    before.subscribe("latro/v1/press/d1/cmd/+", QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    before.disconnect().await.unwrap();
    while events.poll().await.is_ok() {}

    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_heard(&observer).await;
    let topic = "latro/v1/press/d1/cmd/c1";
    observer.client.publish(topic, QoS::AtLeastOnce, false, "{}").await.unwrap();

    let sentence = "refused a command: it came on a topic of version 1 of the contract, this latrod \
                    speaks version 2";
    device.run_until("refused", |d| d.said.iter().any(|s| s == sentence)).await;
    assert_eq!(device.link.counts(None).commands_refused, 1);
}

#[tokio::test]
async fn a_command_finds_a_device_that_was_away() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    for (n, protocol) in [Protocol::V311, Protocol::V5].into_iter().enumerate() {
        let settings = MqttSettings { protocol, ..settings(&broker, broker.tls_port) };
        let mut device = Device::new(settings.clone());
        device.run_until_heard(&observer).await;
        let db = device.db;
        drop(device.link);

        let id = format!("away-{n}");
        observer.give(&command(&id, Action::TrainNow)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;

        let mut device = Device::with_ledger(settings, db);
        let done = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done"
        };
        device.run(observer.wait_for("done", done)).await;
        assert_eq!(device.acted, [id]);
        device.link.stop(Some(&device.db), Duration::from_secs(5)).await;
    }
}

/// The device dies at any point of a command's life; the next start knows what was left.
#[tokio::test]
async fn a_command_survives_the_death_of_the_device_and_acts_once() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let settings = settings(&broker, broker.tls_port);
    let mut acted = 0;
    let mut device = Device::with_ledger(settings.clone(), ledger(&path));
    device.run_until_heard(&observer).await;

    for round in 0..8_u64 {
        let id = format!("r{round}");
        observer.give(&command(&id, Action::Pause)).await;
        // Without acting on anything, for a little longer each time; then it dies.
        let life = tokio::time::sleep(Duration::from_millis(round));
        tokio::pin!(life);
        loop {
            tokio::select! {
                _ = device.link.poll(Some(&device.db)) => {}
                () = &mut life => break,
            }
        }
        drop(device);
        device = Device::with_ledger(settings.clone(), ledger(&path));
        // What the last start has left is done first.
        for left in device.link.unfinished(&device.db).unwrap() {
            device.act(&left.id);
        }
        let done = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done"
        };
        device.run(observer.wait_for("done", done)).await;
        acted += device.acted.iter().filter(|a| **a == id).count();
        assert_eq!(acted as u64, round + 1);
    }
}

#[tokio::test]
async fn a_device_without_the_time_waits_with_its_judgement() {
    static NOW_MS: AtomicU64 = AtomicU64::new(60_000);
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.link = device.link.with_clock(|| NOW_MS.load(Ordering::Relaxed));
    device.run_until_heard(&observer).await;
    observer.give(&command("t1", Action::Pause)).await;
    device.run_for_ms(300).await;
    assert_eq!(states(&observer, "t1"), Vec::<String>::new());

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    NOW_MS.store(u64::try_from(now).unwrap(), Ordering::Relaxed);
    let done = |s: &crate::observer::Seen| s.is("press/d1/ack/t1") && s.field("state") == "done";
    device.run(observer.wait_for("done", done)).await;
}

#[tokio::test]
async fn a_failing_ledger_silences_neither_state_nor_events_and_loses_no_command() {
    let broker = Broker::start();
    let door = Door::to(broker.tls_port).await;
    let observer = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, door.port));
    device.run_until_heard(&observer).await;
    device.run_until_drained().await;
    device.db.pragma_update(None, "query_only", true).unwrap();

    device.tell(7);
    device.link.set_state(latrod::contract::wire::State {
        state: "degraded".to_owned(),
        ..Default::default()
    });
    observer.give(&command("l1", Action::Pause)).await;
    device.run(observer.wait_for("state", |s| s.field("state") == "degraded")).await;
    device.run(observer.wait_for("event", |s| s.field("sentence") == "recovered: event 7")).await;
    let failed = |d: &Device| d.said.iter().any(|s| s.contains("the ledger failed"));
    device.run_until("told", failed).await;
    assert_eq!(states(&observer, "l1"), Vec::<String>::new());

    device.db.pragma_update(None, "query_only", false).unwrap();
    let done = |s: &crate::observer::Seen| s.is("press/d1/ack/l1") && s.field("state") == "done";
    device.run(observer.wait_for("done", done)).await;
    assert_eq!(device.acted, ["l1"]);
}
