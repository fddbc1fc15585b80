//! Commands: signed, done once, acknowledged, also while the device is away or its ledger fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use latrod::contract::wire::{Action, Command};
use latrod::report::mqtt::{MqttSettings, Protocol};

use crate::broker::Broker;
use crate::device::{Device, command, ledger, settings};
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
        let payload = command(&id, Action::Pause).to_json();
        let topic = format!("press/d1/cmd/{id}");

        observer.publish(&topic, payload.clone()).await;
        let done = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done"
        };
        device.run(observer.wait_for("done", done)).await;
        assert_eq!(states(&observer, &id), ["received", "running", "done"]);
        assert_eq!(device.acted, [id.as_str()]);

        observer.publish(&topic, payload).await;
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
    let unsigned = Command { signature: None, ..command("u1", Action::Rollback) };
    let for_another = crate::device::command_for("d2", "u2", Action::Rollback);
    let renamed = Command { id: "u3".to_owned(), ..command("x", Action::Rollback) };
    for command in [&unsigned, &for_another, &renamed] {
        observer.publish(&format!("press/d1/cmd/{}", command.id), command.to_json()).await;
    }
    observer.publish("press/d1/cmd/u4", b"{".to_vec()).await;

    for id in ["u1", "u2", "u3", "u4"] {
        let refused = |s: &crate::observer::Seen| {
            s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "refused"
        };
        device.run(observer.wait_for("refusal", refused)).await;
    }
    assert_eq!(device.acted, Vec::<String>::new());
    assert_eq!(device.link.counts(None).commands_refused, 4);
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
        observer
            .publish(&format!("press/d1/cmd/{id}"), command(&id, Action::TrainNow).to_json())
            .await;
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
        observer
            .publish(&format!("press/d1/cmd/{id}"), command(&id, Action::Pause).to_json())
            .await;
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
    observer.publish("press/d1/cmd/t1", command("t1", Action::Pause).to_json()).await;
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
    observer.publish("press/d1/cmd/l1", command("l1", Action::Pause).to_json()).await;
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
