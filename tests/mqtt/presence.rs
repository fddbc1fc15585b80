//! Who is there: births, states, wills, orderly stops.

use std::time::Duration;

use latrod::contract::wire::State;
use latrod::report::mqtt::Protocol;

use crate::broker::{Broker, LOCAL_PASSWORD, LOCAL_USER};
use crate::device::{Device, settings};
use crate::observer::Observer;
use crate::proxy::Door;

fn protocols() -> [Protocol; 2] {
    [Protocol::V311, Protocol::V5]
}

#[tokio::test]
async fn a_device_says_who_it_is_and_what_it_does() {
    let broker = Broker::start();
    let early = Observer::reader(&broker).await;
    for protocol in protocols() {
        let mut device = Device::new(latrod::report::mqtt::MqttSettings {
            protocol,
            ..settings(&broker, broker.tls_port)
        });
        device.run_until_heard(&early).await;

        // The observer comes later: what it sees first is what the broker has kept.
        let observer = Observer::reader(&broker).await;
        let birth = observer.wait_for("birth", |s| s.is("press/d1/birth") && s.retained).await;
        let status = observer.wait_for("status", |s| s.is("press/d1/status") && s.retained).await;
        let state = observer.wait_for("state", |s| s.is("press/d1/state") && s.retained).await;
        assert_eq!(birth.field("version"), "1.2.3");
        assert_eq!(birth.json["v"], 2);
        assert_eq!(status.field("status"), "online");
        assert_eq!(status.field("boot_id"), birth.field("boot_id"));
        assert_eq!(status.connection(), birth.connection());
        assert_eq!(state.field("state"), "waiting for tasks");

        device.link.set_state(State { state: "training".to_owned(), ..State::default() });
        let news = |s: &crate::observer::Seen| s.is("press/d1/state") && !s.retained;
        let state = device.run(observer.wait_for("new state", news)).await;
        assert_eq!(state.field("state"), "training");
        device.link.stop(Some(&device.db), Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_lost_device_is_offline_by_its_will_and_a_new_connection_is_newer() {
    let broker = Broker::start();
    let door = Door::to(broker.tls_port).await;
    let observer = Observer::reader(&broker).await;
    for protocol in protocols() {
        let mut device = Device::new(latrod::report::mqtt::MqttSettings {
            protocol,
            ..settings(&broker, door.port)
        });
        device.run_until_connected(true).await;
        let boot = device.link.identity().boot_id.clone();
        let connection = device.link.counts(None).connection;
        let mine =
            |s: &crate::observer::Seen| s.is("press/d1/status") && s.field("boot_id") == boot;
        let online = observer.wait_for("online", |s| mine(s) && s.field("status") == "online");
        assert_eq!(device.run(online).await.connection(), connection);

        door.cut().await;
        let will = observer.wait_for("will", |s| mine(s) && s.field("status") == "offline");
        let will = device.run(will).await;
        assert_eq!(will.field("reason"), "connection lost");
        assert_eq!(will.connection(), connection);

        let again = |s: &crate::observer::Seen| mine(s) && s.connection() > connection;
        let again = device.run(observer.wait_for("return", again)).await;
        assert_eq!(again.field("status"), "online");
        device.link.stop(Some(&device.db), Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn an_orderly_stop_sends_what_waits_and_says_so_last() {
    let broker = Broker::start();
    let observer = Observer::reader(&broker).await;
    for protocol in protocols() {
        let mut device = Device::new(latrod::report::mqtt::MqttSettings {
            protocol,
            ..settings(&broker, broker.tls_port)
        });
        device.run_until_connected(true).await;
        let boot = device.link.identity().boot_id.clone();
        for n in 0..100 {
            device.tell(n);
        }

        device.link.stop(Some(&device.db), Duration::from_secs(10)).await;

        assert_eq!(device.link.counts(Some(&device.db)).waiting, 0);
        let stopped = |s: &crate::observer::Seen| {
            s.field("status") == "offline" && s.field("boot_id") == boot
        };
        observer.wait_for("stop", stopped).await;
        let seen = observer.seen();
        let at = seen.iter().position(stopped).unwrap();
        assert_eq!(seen[at].field("reason"), "stopped");
        let events = |s: &&crate::observer::Seen| s.is("press/d1/event");
        assert!(seen[..at].iter().filter(events).count() >= 100);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let later = observer.seen()[at + 1..].iter().filter(|s| s.is("press/d1/status")).count();
        assert_eq!(later, 0, "no will follows an orderly stop");
    }
}

#[tokio::test]
async fn a_user_name_and_a_password_file_open_the_plain_listener() {
    let broker = Broker::start();
    let file = broker.path("password");
    std::fs::write(&file, format!("{LOCAL_PASSWORD}\n")).unwrap();
    let plain = latrod::report::mqtt::MqttSettings {
        broker: format!("mqtt://127.0.0.1:{}", broker.plain_port),
        username: LOCAL_USER.to_owned(),
        password_file: Some(file.clone()),
        reconnect_max_s: 1,
        ..Default::default()
    };
    let mut device = Device::new(plain);
    device.run_until_connected(true).await;

    std::fs::write(&file, "wrong").unwrap();
    let door = Door::to(broker.plain_port).await;
    let mut device = Device::new(latrod::report::mqtt::MqttSettings {
        broker: format!("mqtt://127.0.0.1:{}", door.port),
        username: LOCAL_USER.to_owned(),
        password_file: Some(file),
        reconnect_max_s: 1,
        ..Default::default()
    });
    device.run_until("refused", |d| !d.said.is_empty()).await;
    assert!(!device.link.counts(None).connected);
    assert!(device.said[0].contains("NotAuthorized"), "{:?}", device.said);
}

#[tokio::test]
async fn without_a_broker_nothing_happens_and_nothing_piles_up() {
    let mut device = Device::new(Default::default());
    device.tell(1);
    device.run_for_ms(50).await;
    assert_eq!(device.said, Vec::<String>::new());
    assert_eq!(device.link.counts(Some(&device.db)).waiting, 0);
}

/// Connected and with nothing to do, the link costs next to nothing. Run it alone: the time is that
/// of the whole process.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "measures the processor time of half a minute"]
async fn an_idle_connection_costs_next_to_nothing() {
    // utime and stime, fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let broker = Broker::start();
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_connected(true).await;
    device.run_for_ms(500).await;

    let before = ticks();
    device.run_for_ms(30_000).await;
    let spent = ticks() - before;

    println!("{spent} hundredths of a second in 30 s");
    assert!(device.link.counts(None).connected, "{:?}", device.said);
    assert!(spent <= 3, "{spent}");
}
