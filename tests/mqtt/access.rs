//! Who may speak: certificates and the sample access list.

use latrod::contract::wire::Action;
use latrod::report::mqtt::MqttSettings;

use crate::broker::Broker;
use crate::device::{Device, command, command_for, settings, signed};
use crate::observer::{Observer, Seen};

#[tokio::test]
async fn one_device_can_neither_speak_for_another_nor_hear_its_commands() {
    let broker = Broker::start();
    let operator = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_connected(true).await;
    let rogue = Observer::with_certificate(&broker, "d2").await;

    rogue.publish("press/d1/status", br#"{"status":"forged"}"#.to_vec()).await;
    rogue.publish("press/d1/event", br#"{"event":"forged"}"#.to_vec()).await;
    rogue.give(&command("c1", Action::Pause)).await;
    rogue.publish("press/d2/event", br#"{"event":"own"}"#.to_vec()).await;
    operator.give(&command("c2", Action::Pause)).await;
    operator.give(&command_for("d2", "c3", Action::Pause)).await;

    device.run(operator.wait_for("own event", |s| s.field("event") == "own")).await;
    device.run(operator.wait_for("ack", |s| s.is("press/d1/ack/c2"))).await;
    device.run(rogue.wait_for("own command", |s| s.is("press/d2/cmd/pause/c3"))).await;
    assert!(!operator.texts().iter().any(|t| t.contains("forged")));
    assert_eq!(device.acted, ["c2"]);
    assert!(rogue.seen().iter().all(|s| s.topic.starts_with("press/d2/")), "{:?}", rogue.texts());
}

/// The attendant of the sample access list: may pause and resume, whatever key signs.
#[tokio::test]
async fn an_operator_may_be_allowed_to_pause_and_not_to_promote() {
    let broker = Broker::start();
    let operator = Observer::operator(&broker).await;
    let attendant = Observer::with_certificate(&broker, "attendant").await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_heard(&operator).await;
    let promote = |id| command(id, Action::Promote { version: "1".to_owned() });

    attendant.give(&promote("p1")).await;
    attendant.give(&command("r1", Action::Rollback)).await;
    attendant.publish("press/d1/cmd/pause/p2", signed(&promote("p2"))).await;
    attendant.give(&command("ok1", Action::Pause)).await;
    attendant.give(&command("ok2", Action::Resume)).await;

    for id in ["ok1", "ok2"] {
        let done = |s: &Seen| s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done";
        device.run(operator.wait_for("done", done)).await;
    }
    // The broker let the mislabeled one pass, the device has not.
    let refused = |s: &Seen| s.is("press/d1/ack/p2") && s.field("state") == "refused";
    let refused = device.run(operator.wait_for("refusal", refused)).await;
    let reason = "it was signed as promote, its topic says another type";
    assert_eq!(refused.field("reason"), reason);
    assert_eq!(device.acted, ["ok1", "ok2"]);
    let reached: Vec<_> =
        operator.seen().into_iter().filter(|s| s.topic.contains("/cmd/")).collect();
    let topics: Vec<_> = reached.iter().map(|s| s.topic.as_str()).collect();
    let passed = ["pause/p2", "pause/ok1", "resume/ok2"].map(|t| format!("press/d1/cmd/{t}"));
    assert_eq!(topics, passed);

    operator.give(&promote("p3")).await;
    let done = |s: &Seen| s.is("press/d1/ack/p3") && s.field("state") == "done";
    device.run(operator.wait_for("promotion", done)).await;
}

async fn cannot_connect(settings: MqttSettings) -> String {
    let mut device = Device::new(settings);
    device.run_until("refused", |d| !d.said.is_empty()).await;
    device.run_for_ms(500).await;
    assert!(!device.link.counts(None).connected);
    device.said[0].clone()
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let broker = Broker::start();
    let good = settings(&broker, broker.tls_port);

    let wrong_authority =
        MqttSettings { ca_file: Some(broker.path("strange-ca.pem")), ..good.clone() };
    let said = cannot_connect(wrong_authority).await;
    assert!(said.contains("UnknownIssuer"), "{said}");

    let no_certificate = MqttSettings { cert_file: None, key_file: None, ..good.clone() };
    cannot_connect(no_certificate).await;

    let strange_certificate = MqttSettings {
        cert_file: Some(broker.path("strange-d1.pem")),
        key_file: Some(broker.path("strange-d1.key")),
        ..good
    };
    cannot_connect(strange_certificate).await;
}

#[tokio::test]
async fn unusable_files_are_named_at_once() {
    use latrod::report::mqtt::{DeviceIdentity, Link};
    let broker = Broker::start();
    let good = settings(&broker, broker.tls_port);
    let identity = || DeviceIdentity::new("press", "d1").unwrap();
    let refusal = |settings| Link::new(settings, identity()).err().unwrap().to_string();
    let missing = refusal(MqttSettings { ca_file: Some("no/such.pem".into()), ..good.clone() });
    assert!(missing.starts_with("cannot use certificate no/such.pem"), "{missing}");
    let mixed = MqttSettings { key_file: Some(broker.path("d2.key")), ..good.clone() };
    let mixed = refusal(mixed);
    assert!(mixed.contains("must belong together"), "{mixed}");
    let no_key = refusal(MqttSettings { operator_keys: vec!["nothing".to_owned()], ..good });
    assert!(no_key.starts_with("cannot use operator key nothing"), "{no_key}");
}
