//! Messages that nobody should send.

use crate::broker::Broker;
use crate::device::{Device, command, settings};
use crate::observer::{Observer, Seen};
use latrod::contract::wire::Action;
use latrod::report::mqtt::{MqttSettings, Protocol};

/// A broker keeps a message that the device cannot read, and delivers it again at every connection.
/// The device gets rid of it and takes commands again.
#[tokio::test]
async fn a_giant_command_does_not_lock_the_device_out() {
    let broker = Broker::start_with(|c| c.replace("message_size_limit 262144", ""));
    let observer = Observer::operator(&broker).await;
    for (n, protocol) in [Protocol::V311, Protocol::V5].into_iter().enumerate() {
        let mut device =
            Device::new(MqttSettings { protocol, ..settings(&broker, broker.tls_port) });
        device.run_until_heard(&observer).await;
        observer.publish(&format!("press/d1/cmd/pause/g{n}"), vec![b' '; 2 << 20]).await;
        device.run_for_ms(500).await;

        let id = format!("after-{n}");
        device.run_until_connected(true).await;
        device.run_for_ms(1500).await;
        observer.give(&command(&id, Action::Pause)).await;
        let done = |s: &Seen| s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done";
        device.run(observer.wait_for("done", done)).await;
        // It is not thrown out again and again.
        device.run_until_connected(true).await;
        let said = device.said.len();
        device.run_for_ms(1500).await;
        assert_eq!(device.said[said..], [] as [String; 0]);
        assert!(device.link.counts(None).connected, "{:?}", device.said);
        device.link.stop(Some(&device.db), std::time::Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_large_command_and_an_odd_topic_are_refused_quietly() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_heard(&observer).await;
    observer.publish("press/d1/cmd/pause/big", vec![b'['; 200 << 10]).await;
    observer.publish("press/d1/cmd/pause/\u{e4}", b"{}".to_vec()).await;
    for n in 0..500 {
        observer.publish(&format!("press/d1/cmd/pause/flood-{n}"), b"{}".to_vec()).await;
    }
    observer.give(&command("good", Action::Resume)).await;

    let done = |s: &Seen| s.is("press/d1/ack/good") && s.field("state") == "done";
    device.run(observer.wait_for("done", done)).await;
    let refused = |s: &Seen| s.is("press/d1/ack/big") && s.field("state") == "refused";
    assert!(observer.seen().iter().any(refused));
    let reported = device.said.iter().filter(|s| s.starts_with("refused")).count();
    assert!(reported <= 2, "{:?}", device.said);
    assert!(device.said.iter().all(|s| !s.starts_with("no connection")), "{:?}", device.said);
}
