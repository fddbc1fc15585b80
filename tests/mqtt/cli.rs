//! `latrod command` against a broker and a device.

use std::path::Path;
use std::process::Output;

use latrod::report::mqtt::MqttSettings;
use tokio::process::Command;

use crate::broker::Broker;
use crate::device::{Device, settings};
use crate::proxy::Door;

fn latrod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latrod"));
    command.kill_on_drop(true);
    command
}

/// `latrod command` as an operator with a certificate, for `press/d1`.
fn give(broker: &Broker, port: u16, key: &Path, rest: &[&str]) -> Command {
    give_as("operator", broker, port, key, rest)
}

/// The same with another certificate.
fn give_as(who: &str, broker: &Broker, port: u16, key: &Path, rest: &[&str]) -> Command {
    let mut command = latrod();
    command.args(["command", "--fleet", "press", "--device", "d1"]);
    command.arg("--broker").arg(format!("mqtts://127.0.0.1:{port}"));
    command.arg("--ca-file").arg(broker.path("ca.pem"));
    command.arg("--cert-file").arg(broker.path(&format!("{who}.pem")));
    command.arg("--key-file").arg(broker.path(&format!("{who}.key")));
    command.arg("--key").arg(key).args(rest);
    command
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_command_is_given_and_followed_to_its_end() {
    let broker = Broker::start();
    let key = broker.path("key.pem");
    let made = latrod().args(["command", "--new-key"]).arg(&key).output().await.unwrap();
    assert!(made.status.success(), "{:?}", text(&made));
    let known = vec![format!("{}.pub", key.display())];
    let settings = MqttSettings { operator_keys: known, ..settings(&broker, broker.tls_port) };
    let mut device = Device::new(settings);
    device.run_until_connected(true).await;

    let given = [&["pause"][..], &["--mqtt5", "promote", "1"], &["set", "a=b=c"], &["check"]];
    for extra in given {
        let mut command = give(&broker, broker.tls_port, &key, extra);
        let output = device.run(command.output()).await.unwrap();
        let expected = (Some(0), "received\nrunning\ndone\n".to_owned(), String::new());
        assert_eq!(text(&output), expected);
    }
    assert_eq!(device.acted.len(), 4);

    // By MQTT 5 the broker says that the access list forbids it.
    let extra = ["--mqtt5", "--wait", "5", "promote", "1"];
    let mut command = give_as("attendant", &broker, broker.tls_port, &key, &extra);
    let output = device.run(command.output()).await.unwrap();
    let (code, _, stderr) = text(&output);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("the broker refused the command: NotAuthorized"), "{stderr}");

    let stranger = broker.path("stranger.pem");
    latrod().args(["command", "--new-key"]).arg(&stranger).output().await.unwrap();
    let mut command = give(&broker, broker.tls_port, &stranger, &["--json", "rollback"]);
    let output = device.run(command.output()).await.unwrap();
    let (code, stdout, stderr) = text(&output);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stdout.contains(r#""state":"refused""#), "{stdout}");
    assert!(stderr.starts_with("latrod: press/d1 says refused: its signature"), "{stderr}");
    assert_eq!(device.acted.len(), 4);
}

#[tokio::test]
async fn no_answer_and_no_broker_mean_try_later() {
    let broker = Broker::start();
    let door = Door::to(broker.tls_port).await;
    let key = broker.path("key.pem");
    latrod().args(["command", "--new-key"]).arg(&key).output().await.unwrap();

    let absent = give(&broker, door.port, &key, &["--wait", "1", "pause"]).output().await.unwrap();
    let (code, stdout, stderr) = text(&absent);
    assert_eq!((code, stdout.as_str()), (Some(75), ""), "{stderr}");
    assert!(stderr.contains("has not answered within 1 s"), "{stderr}");
    let sent = give(&broker, door.port, &key, &["--wait", "0", "pause"]).output().await.unwrap();
    assert_eq!(sent.status.code(), Some(0), "{:?}", text(&sent));

    door.shut();
    let cut = give(&broker, door.port, &key, &["--wait", "1", "pause"]).output().await.unwrap();
    let (code, _, stderr) = text(&cut);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("the command was not sent"), "{stderr}");
}

#[tokio::test]
async fn unusable_arguments_are_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let new_key = || latrod().args(["command", "--new-key"]).arg(&key).output();
    assert_eq!(new_key().await.unwrap().status.code(), Some(0));
    assert_eq!(new_key().await.unwrap().status.code(), Some(1), "an old key is not overwritten");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let cases: [&[&str]; 8] = [
        &["pause"],
        &["--broker", "mqtt://b", "--fleet", "f", "--device", "d", "pause"],
        &["--broker", "mqtt://b", "--fleet", "a/b", "--device", "d", "--unsigned", "pause"],
        &["--broker", "http://b", "--fleet", "f", "--device", "d", "--unsigned", "pause"],
        &["--broker", "mqtt://b", "--fleet", "f", "--device", "d", "--unsigned", "pause", "x"],
        &["--broker", "mqtt://b", "--fleet", "f", "--device", "d", "--unsigned", "promote"],
        &["--broker", "mqtt://b", "--fleet", "f", "--device", "d", "--unsigned", "set", "x"],
        &["--broker", "mqtt://b", "--fleet", "f", "--device", "d", "--key", "nothing", "pause"],
    ];
    for case in cases {
        let output = latrod().arg("command").args(case).output().await.unwrap();
        assert_eq!(output.status.code(), Some(64), "{case:?} {:?}", text(&output));
    }
}
