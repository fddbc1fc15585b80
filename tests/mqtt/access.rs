//! Who may speak: certificates and the sample access list.

use latrod::contract::wire::Action;
use latrod::report::mqtt::MqttSettings;

use crate::broker::Broker;
use crate::device::{Device, command, command_for, settings};
use crate::observer::Observer;

#[tokio::test]
async fn one_device_can_neither_speak_for_another_nor_hear_its_commands() {
    let broker = Broker::start();
    let operator = Observer::operator(&broker).await;
    let mut device = Device::new(settings(&broker, broker.tls_port));
    device.run_until_connected(true).await;
    let rogue = Observer::with_certificate(&broker, "d2").await;

    rogue.publish("press/d1/status", br#"{"status":"forged"}"#.to_vec()).await;
    rogue.publish("press/d1/event", br#"{"event":"forged"}"#.to_vec()).await;
    rogue.publish("press/d1/cmd/c1", command("c1", Action::Pause).to_json()).await;
    rogue.publish("press/d2/event", br#"{"event":"own"}"#.to_vec()).await;
    operator.publish("press/d1/cmd/c2", command("c2", Action::Pause).to_json()).await;
    operator.publish("press/d2/cmd/c3", command_for("d2", "c3", Action::Pause).to_json()).await;

    device.run(operator.wait_for("own event", |s| s.field("event") == "own")).await;
    device.run(operator.wait_for("ack", |s| s.is("press/d1/ack/c2"))).await;
    device.run(rogue.wait_for("own command", |s| s.is("press/d2/cmd/c3"))).await;
    assert!(!operator.texts().iter().any(|t| t.contains("forged")));
    assert_eq!(device.acted, ["c2"]);
    assert!(rogue.seen().iter().all(|s| s.topic.starts_with("press/d2/")), "{:?}", rogue.texts());
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
    use latrod::report::mqtt::{Identity, Link};
    let broker = Broker::start();
    let good = settings(&broker, broker.tls_port);
    let identity = || Identity::new("press", "d1").unwrap();
    let refusal = |settings| Link::new(settings, identity()).err().unwrap().to_string();
    let missing = refusal(MqttSettings { ca_file: Some("no/such.pem".into()), ..good.clone() });
    assert!(missing.starts_with("cannot use certificate no/such.pem"), "{missing}");
    let mixed = MqttSettings { key_file: Some(broker.path("d2.key")), ..good.clone() };
    let mixed = refusal(mixed);
    assert!(mixed.contains("must belong together"), "{mixed}");
    let no_key = refusal(MqttSettings { operator_keys: vec!["nothing".to_owned()], ..good });
    assert!(no_key.starts_with("cannot use operator key nothing"), "{no_key}");
}
