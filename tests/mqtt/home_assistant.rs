//! What Home Assistant is told, as a client of another make hears it.

use latrod::report::mqtt::MqttSettings;
use serde_json::Value;
use tokio::process::Command;

use crate::broker::Broker;
use crate::device::{Device, settings_with_password};

const TOPIC: &str = "homeassistant/device/latrod_press_d1/config";

fn client(broker: &Broker, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &broker.plain_port.to_string()]).args(arguments);
    command
}

/// The first message on the topic.
async fn heard(broker: &Broker) -> Value {
    let arguments = ["-t", TOPIC, "-q", "1", "-C", "1", "-W", "60"];
    let out = client(broker, "mosquitto_sub", &arguments).output().await.unwrap();
    serde_json::from_slice(&out.stdout).expect("a message in time")
}

async fn say(broker: &Broker, arguments: &[&str]) {
    assert!(client(broker, "mosquitto_pub", arguments).status().await.unwrap().success());
}

#[tokio::test]
async fn a_device_announces_itself_and_does_so_again_when_home_assistant_starts() {
    let broker = Broker::start_with(|config| {
        config
            .replace("acl_file", "# acl_file")
            .replace("allow_anonymous false", "allow_anonymous true")
    });
    let mut device = Device::new(MqttSettings {
        home_assistant: "homeassistant".to_owned(),
        ..settings_with_password(&broker, broker.plain_port)
    });

    let first = device.run(heard(&broker)).await;
    assert_eq!(first["state_topic"], "latro/v2/press/d1/state");
    assert_eq!(first["device"]["sw_version"], "1.2.3");
    assert_eq!(first["components"]["problem"]["device_class"], "problem");

    // It has lost what the broker had kept.
    device.run(say(&broker, &["-t", TOPIC, "-r", "-n", "-q", "1"])).await;
    device.run(say(&broker, &["-t", "homeassistant/status", "-m", "online", "-q", "1"])).await;
    assert_eq!(device.run(heard(&broker)).await, first);
}
