//! Commands that another program has signed: Python's standard library and OpenSSL, with none of our
//! code.

use std::process::{Command, Output};

use latrod::report::mqtt::MqttSettings;

use crate::broker::Broker;
use crate::device::{Device, settings};
use crate::observer::{Observer, Seen};

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is missing ({e}): scripts/setup.sh"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    output
}

/// What the script says for these arguments: topic below `latro/v2/` and envelope.
fn sign(key: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/sign_command.py");
    let fixed = [script, "--key", key, "--fleet", "press", "--device", "d1"];
    let output = run("python3", &[&fixed, arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let (topic, envelope) = text.trim().split_once('\n').unwrap();
    (topic.strip_prefix("latro/v2/").unwrap().to_owned(), envelope.as_bytes().to_vec())
}

#[tokio::test]
async fn a_device_takes_commands_that_another_program_has_signed() {
    let broker = Broker::start();
    let observer = Observer::operator(&broker).await;
    let at = |name: &str| broker.path(name).to_string_lossy().into_owned();
    let (key, public, stranger) = (at("theirs.pem"), at("theirs.pub"), at("stranger.pem"));
    for key in [&key, &stranger] {
        run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", key]);
    }
    run("openssl", &["pkey", "-in", &key, "-pubout", "-out", &public]);
    let settings =
        MqttSettings { operator_keys: vec![public], ..settings(&broker, broker.tls_port) };
    let mut device = Device::new(settings);
    device.run_until_heard(&observer).await;

    let given: [&[&str]; 4] = [
        &["--id", "c1", "pause"],
        &["--id", "c2", "promote", "version=00000003-0a1b2c3d"],
        &["--id", "c3", "set", "key=learn.steps", "value=\u{e4} = \"b\""],
        &["--id", "c4", "check"],
    ];
    for arguments in given {
        let (topic, envelope) = sign(&key, arguments);
        observer.publish(&topic, envelope).await;
        let done = |s: &Seen| {
            s.is(&format!("press/d1/ack/{}", arguments[1])) && s.field("state") == "done"
        };
        device.run(observer.wait_for("done", done)).await;
    }
    assert_eq!(device.acted, ["c1", "c2", "c3", "c4"]);

    // The same script with another key, and an envelope whose payload was changed afterwards.
    let (topic, envelope) = sign(&stranger, &["--id", "c5", "pause"]);
    observer.publish(&topic, envelope).await;
    let (topic, envelope) = sign(&key, &["--id", "c6", "pause"]);
    let mut changed: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
    let payload = changed["payload"].as_str().unwrap().replacen('e', "f", 1);
    changed["payload"] = payload.into();
    observer.publish(&topic, changed.to_string().into_bytes()).await;
    for (id, expected) in [("c5", "not by an operator"), ("c6", "does not fit its payload")] {
        let refused = |s: &Seen| s.is(&format!("press/d1/ack/{id}"));
        let refused = device.run(observer.wait_for("refusal", refused)).await;
        assert_eq!(refused.field("state"), "refused");
        assert!(refused.field("reason").contains(expected), "{}", refused.text);
    }
    assert_eq!(device.acted.len(), 4);
}
