//! The contract on another broker: RabbitMQ 3.10 with its MQTT plugin (Debian: rabbitmq-server).
//!
//! What it cannot do: it delivers no retained messages to subscriptions with wildcards, so that a
//! fleet page sees a device at its next message only; it keeps retained messages in memory; it
//! speaks MQTT 3.1.1 only; and it takes a dot in a topic for a slash, so that names of devices
//! should have none.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use latrod::contract::wire::Action;
use latrod::report::mqtt::MqttSettings;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tempfile::TempDir;

use crate::broker::free_port;
use crate::device::{Device, command, settings_of_operators};
use crate::observer::{Observer, Seen, unique};

const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

struct Rabbit {
    dir: TempDir,
    child: Option<Child>,
    port: u16,
    names_port: u16,
    node_port: u16,
    queues_port: u16,
}

impl Rabbit {
    async fn start() -> Self {
        assert!(
            std::path::Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: sudo apt-get install rabbitmq-server"
        );
        let dir = tempfile::tempdir().unwrap();
        let [port, names_port, node_port, queues_port] = std::array::from_fn(|_| free_port());
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{queues_port}\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n\
             mqtt.allow_anonymous = false\n"
        );
        fs::write(dir.path().join("rabbitmq.conf"), config).unwrap();
        fs::write(dir.path().join("plugins"), "[rabbitmq_mqtt].").unwrap();
        let mut rabbit = Self { dir, child: None, port, names_port, node_port, queues_port };
        rabbit.restart().await;
        rabbit
    }

    async fn restart(&mut self) {
        let dir = self.dir.path();
        let child = Command::new(PROGRAM)
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", format!("latrod{}@localhost", self.queues_port))
            .env("RABBITMQ_MNESIA_BASE", dir)
            .env("RABBITMQ_LOG_BASE", dir)
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_DIST_PORT", self.node_port.to_string())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.join("out")).unwrap())
            .stderr(fs::File::create(dir.join("err")).unwrap())
            .spawn();
        self.child = Some(child.unwrap());
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("RabbitMQ does not listen:\n{}", fs::read_to_string(dir.join("out")).unwrap());
    }

    /// Ends the Erlang node without a warning; the script that started it ends with it.
    fn kill(&mut self) {
        let pid_file = format!("latrod{}@localhost.pid", self.queues_port);
        let pid = fs::read_to_string(self.dir.path().join(pid_file)).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let _ = self.child.take().unwrap().wait();
    }

    fn options(&self, name: &str) -> MqttOptions {
        let mut options = MqttOptions::new(unique(name), "127.0.0.1", self.port);
        options.set_credentials("guest", "guest");
        options
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        let port = self.names_port.to_string();
        let _ = Command::new("epmd").args(["-port", &port, "-kill"]).stdout(Stdio::null()).status();
    }
}

/// What the broker keeps for `topic`.
async fn retained(rabbit: &Rabbit, topic: &str) -> String {
    let (client, mut events) = AsyncClient::new(rabbit.options("exact"), 10);
    client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
    let read = async {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                return String::from_utf8_lossy(&publish.payload).into_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap()
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and a minute"]
async fn rabbitmq_carries_the_contract() {
    let mut rabbit = Rabbit::start().await;
    let password = rabbit.dir.path().join("password");
    fs::write(&password, "guest").unwrap();
    let settings = MqttSettings {
        broker: format!("mqtt://127.0.0.1:{}", rabbit.port),
        username: "guest".to_owned(),
        password_file: Some(password),
        ..settings_of_operators()
    };
    let mut observer = Observer::start(rabbit.options("observer")).await;

    // Birth, status, state; retained for those who name the topic.
    let mut device = Device::new(settings.clone());
    device.run_until_connected(true).await;
    let online = |s: &Seen| s.is("press/d1/status") && s.field("status") == "online";
    device.run(observer.wait_for("online", online)).await;
    let birth = device.run(retained(&rabbit, "latro/v2/press/d1/birth")).await;
    assert!(birth.contains(r#""version":"1.2.3""#), "{birth}");

    // A command, and another one for a device that is away.
    let give = async |id: &str| observer.give(&command(id, Action::Pause)).await;
    let done =
        |s: &Seen, id: &str| s.is(&format!("press/d1/ack/{id}")) && s.field("state") == "done";
    give("now").await;
    device.run(observer.wait_for("done", |s| done(s, "now"))).await;
    let db = device.db;
    drop(device.link);
    let will = |s: &Seen| s.field("reason") == "connection lost";
    observer.wait_for("will", will).await;
    give("later").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut device = Device::with_ledger(settings, db);
    device.run(observer.wait_for("done", |s| done(s, "later"))).await;
    assert_eq!(device.acted, ["later"]);

    die_while_events_flow(&mut rabbit, &mut device, &mut observer).await;
    device.link.stop(Some(&device.db), Duration::from_secs(5)).await;
    observer.wait_for("stop", |s| s.field("reason") == "stopped").await;
}

/// The broker dies while events flow. Those that it has acknowledged and not yet delivered go with
/// it, so the stream rests before; what is told meanwhile must come.
async fn die_while_events_flow(rabbit: &mut Rabbit, device: &mut Device, observer: &mut Observer) {
    for n in 0..20 {
        device.tell(n);
    }
    device.run_until_drained().await;
    device.run_for_ms(500).await;
    rabbit.kill();
    device.run(observer.wait_until_cut()).await;
    for n in 20..40 {
        device.tell(n);
    }
    device.run(rabbit.restart()).await;
    device.run(observer.wait_until_subscribed()).await;
    device.tell(40);
    device.run_until_drained().await;
    let waiting = device.link.counts(Some(&device.db)).waiting;
    let last = |s: &Seen| s.field("sentence") == "recovered: event 40";
    device.run(observer.wait_for("last event", last)).await;
    let told = observer.seen().iter().filter(|s| s.is("press/d1/event")).count();
    println!("{told} events came, {waiting} wait");
}
