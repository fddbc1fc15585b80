//! Made-up devices, which say what a test wants.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS, Transport};
use serde_json::{Value, json};

use crate::broker::{Broker, PATIENCE};

/// Somebody who publishes under any name, by a broker whose access list is off.
pub struct Neighbors {
    client: Client,
    /// Topics of commands that came.
    commands: Arc<Mutex<Vec<String>>>,
}

/// A broker that lets everybody say everything.
pub fn open_broker() -> Broker {
    Broker::start_with(|config| {
        config
            .replace("acl_file", "# acl_file")
            .replace("allow_anonymous false", "allow_anonymous true")
    })
}

impl Neighbors {
    pub fn new(broker: &Broker) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |file: &str| std::fs::read(broker.path(file)).unwrap();
        let mut options = MqttOptions::new("neighbors", "localhost", broker.tls_port);
        let ours = Some((read("operator.pem"), read("operator.key")));
        options.set_transport(Transport::tls(read("ca.pem"), ours, None));
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 100);
        client.subscribe("latro/v2/+/+/cmd/+/+", QoS::AtLeastOnce).unwrap();
        let commands: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&commands);
        std::thread::spawn(move || {
            for event in connection.iter().map_while(Result::ok) {
                if let Event::Incoming(Packet::Publish(command)) = event {
                    heard.lock().unwrap().push(command.topic);
                }
            }
        });
        Self { client, commands }
    }

    /// The id of the command that was given below `device`, a device or a kind of its commands; waits for it.
    pub fn command_of(&self, device: &str) -> String {
        let (begin, end) = (format!("latro/v2/{device}/"), Instant::now() + PATIENCE);
        loop {
            let commands = self.commands.lock().unwrap().clone();
            if let Some(topic) = commands.iter().find(|topic| topic.starts_with(&begin)) {
                return topic.rsplit('/').next().unwrap().to_owned();
            }
            assert!(Instant::now() < end, "no command for {device}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes `body` with a head, retained as devices do.
    pub fn say(&self, device: &str, topic: &str, seq: u64, body: &Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut whole = json!({"v": 2, "id": format!("b007-{seq}"), "connection": 7, "seq": seq,
            "time_ms": u64::try_from(now).unwrap()});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let retain = ["status", "birth", "state"].contains(&topic);
        self.raw(&format!("{device}/{topic}"), retain, whole.to_string().into_bytes());
    }

    /// Publishes anything.
    pub fn raw(&self, topic: &str, retain: bool, payload: Vec<u8>) {
        self.client
            .publish(format!("latro/v2/{topic}"), QoS::AtLeastOnce, retain, payload)
            .unwrap();
    }

    /// A device that is there and paused.
    pub fn appear(&self, device: &str, seq: u64) {
        let online = json!({"status": "online", "boot_id": "b007", "reason": "connected"});
        self.say(device, "status", seq, &online);
        self.say(
            device,
            "state",
            seq + 1,
            &json!({"state": "paused", "reason": "an operator wants it"}),
        );
    }
}
