//! A device: a link with a ledger, driven as the daemon drives it, that does every command at once.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use latrod::contract::envelope::Envelope;
use latrod::contract::event::{Event, Sentence};
use latrod::contract::wire::{Action, Birth, Command, State};
use latrod::report::inbox::CommandOutcome;
use latrod::report::mqtt::{DeviceIdentity, Link, LinkEvent, MqttSettings};
use rusqlite::Connection;

use crate::broker::{Broker, LOCAL_PASSWORD, PATIENCE};
use crate::observer::{Observer, Seen};

pub struct Device {
    pub link: Link,
    pub db: Connection,
    /// What the link said, in words.
    pub said: Vec<String>,
    /// Ids of the commands that were acted on.
    pub acted: Vec<String>,
}

/// Settings of the device `press/d1` with its certificate, which connects through `port`.
pub fn settings(broker: &Broker, port: u16) -> MqttSettings {
    MqttSettings {
        broker: format!("mqtts://127.0.0.1:{port}"),
        ca_file: Some(broker.path("ca.pem")),
        cert_file: Some(broker.path("d1.pem")),
        key_file: Some(broker.path("d1.key")),
        ..settings_of_operators()
    }
}

/// Settings of the same device with a password, without TLS.
pub fn settings_with_password(broker: &Broker, port: u16) -> MqttSettings {
    let file = broker.path("password");
    std::fs::write(&file, format!("{LOCAL_PASSWORD}\n")).unwrap();
    MqttSettings {
        broker: format!("mqtt://127.0.0.1:{port}"),
        username: "press/d1".to_owned(),
        password_file: Some(file),
        ..settings_of_operators()
    }
}

/// Settings that know the operator's key and try to connect often.
pub fn settings_of_operators() -> MqttSettings {
    let public = operator_key().verifying_key().to_bytes();
    MqttSettings {
        keep_alive_s: 5,
        reconnect_max_s: 1,
        operator_keys: vec![base64(&public)],
        ..MqttSettings::default()
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub fn operator_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// A ledger with the tables that the link needs.
pub fn ledger(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    for schema in latrod::report::SCHEMAS {
        db.execute_batch(schema).unwrap();
    }
    db
}

impl Device {
    pub fn new(settings: MqttSettings) -> Self {
        Self::with_ledger(settings, ledger(Path::new(":memory:")))
    }

    pub fn with_ledger(settings: MqttSettings, db: Connection) -> Self {
        let identity = DeviceIdentity::new("press", "d1").unwrap();
        let mut link = Link::new(settings, identity).unwrap();
        link.set_birth(Birth { version: "1.2.3".to_owned(), ..Birth::default() });
        link.set_state(State { state: "waiting for tasks".to_owned(), ..State::default() });
        Self { link, db, said: Vec::new(), acted: Vec::new() }
    }

    /// Drives the link until `until` is ready.
    pub async fn run<T>(&mut self, until: impl Future<Output = T>) -> T {
        let mut until = pin!(until);
        loop {
            let event = tokio::select! {
                event = self.link.poll(Some(&self.db)) => event,
                value = &mut until => return value,
            };
            self.said.push(event.to_string());
            if let LinkEvent::Command(command) = event {
                self.act(&command.id);
            }
        }
    }

    /// Does a command: writes its id into the ledger and ends it in the same transaction.
    pub fn act(&mut self, id: &str) {
        self.link.start(&self.db, id).unwrap();
        self.link.finish(&self.db, id, CommandOutcome::Done(None)).unwrap();
        self.acted.push(id.to_owned());
    }

    /// Drives the link until `reached` holds.
    pub async fn run_until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(tokio::time::Instant::now() < end, "not {what}: {:?}", self.said);
            self.run_for_ms(5).await;
        }
    }

    /// Drives the link until it is, or is no longer, connected.
    pub async fn run_until_connected(&mut self, connected: bool) {
        self.run_until("connected or away", |d| d.link.counts(None).connected == connected).await;
    }

    /// Drives the link until the broker has its subscription and has passed on its state, which it
    /// sends last when it connects.
    pub async fn run_until_heard(&mut self, observer: &Observer) {
        self.run_until_connected(true).await;
        let connection = self.link.counts(None).connection;
        let state = |s: &Seen| s.is("press/d1/state") && s.connection() == connection;
        self.run(observer.wait_for("state of this connection", state)).await;
    }

    /// Drives the link until the outbox is empty.
    pub async fn run_until_drained(&mut self) {
        self.run_until("drained", |d| d.link.counts(Some(&d.db)).waiting == 0).await;
    }

    pub async fn run_for_ms(&mut self, ms: u64) {
        self.run(tokio::time::sleep(Duration::from_millis(ms))).await;
    }

    /// Tells event number `n`.
    pub fn tell(&mut self, n: usize) {
        self.link.event(Some(&self.db), &event(n));
    }
}

pub fn event(n: usize) -> Event {
    Event::Recovered { sentence: Sentence::new(format!("event {n}")) }
}

/// A command for `press/d1` that was issued now.
pub fn command(id: &str, action: Action) -> Command {
    command_for("d1", id, action)
}

pub fn command_for(device: &str, id: &str, action: Action) -> Command {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (fleet, device, id) = ("press".to_owned(), device.to_owned(), id.to_owned());
    Command { fleet, device, id, action, issued: now, expires: now + 60 }
}

/// The command in an envelope that the operator has signed.
pub fn signed(command: &Command) -> Vec<u8> {
    Envelope::signed(&operator_key(), &command.to_json()).to_json()
}

impl Observer {
    /// Gives a command, signed by the operator, on the topic where it belongs.
    pub async fn give(&self, command: &Command) {
        let Command { fleet, device, id, action, .. } = command;
        let topic = format!("{fleet}/{device}/cmd/{}/{id}", action.name());
        self.publish(&topic, signed(command)).await;
    }
}
