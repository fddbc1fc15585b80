//! One connection to a broker, from the first packet to the last, for MQTT 3.1.1 and 5 alike.
//!
//! `rumqttc`'s event loop loses a packet when its future is dropped halfway, so it runs in a task of
//! its own and reports through a bounded channel. Every connection gets a fresh event loop, which
//! resends nothing by itself and keeps no packet ids of the one before: the sender keeps messages
//! until they are acknowledged (see [`crate::report::mqtt::Link`]).
//!
//! Incoming messages are acknowledged explicitly, after they were written down. Knows nothing of
//! topics, nor of when to connect again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packets5;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::report::mqtt::settings::{Broker, Protocol};

mod loops;

use loops::{network_options, options_v4, options_v5, run_v4, run_v5};

/// Requests for the event loop that wait for it beyond the messages in flight: subscriptions,
/// acknowledgements, progress.
const SPARE_REQUESTS: usize = 128;

/// Progress messages that may wait for the event loop.
const MAX_QUEUED_UNRELIABLE: usize = 32;

/// The message that the broker publishes when the connection is lost. QoS 1, retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// How to connect.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Where to.
    pub broker: Broker,
    /// The protocol's version.
    pub protocol: Protocol,
    /// Who we are; the broker keeps a session under this name.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// TLS, for brokers that have it.
    pub tls: Option<Arc<ClientConfig>>,
    /// How often an idle connection is checked; at least five seconds.
    pub keep_alive: Duration,
    /// Whether the broker forgets what it kept for this client.
    pub clean: bool,
    /// The last will.
    pub will: Option<Will>,
    /// Messages with an acknowledgement outstanding, at most.
    pub max_inflight: u16,
}

/// Something that happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The broker has accepted us.
    Up,
    /// The broker's answer to the subscription.
    Subscribed {
        /// Whether it was granted.
        granted: bool,
    },
    /// The broker has acknowledged the message that was published with this token.
    Acknowledged {
        /// The token.
        token: u64,
        /// The broker's reason for not taking it (MQTT 5), and whether a later attempt may help.
        refusal: Option<Refusal>,
    },
    /// A message came in.
    Message(Incoming),
    /// The broker answered something else, such as a ping.
    Alive,
    /// The connection is over.
    Down(Lost),
}

/// An MQTT 5 broker's refusal of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The broker's reason.
    pub reason: String,
    /// Whether it may be taken later.
    pub passing: bool,
}

/// Why a connection ended or did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub reason: String,
    /// Whether a message that the broker keeps for us cannot be read, so that it would end every
    /// connection; connecting with a clean session gets rid of it.
    pub unreadable: bool,
}

/// A message from the broker, to be acknowledged with [`Connection::acknowledge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Where it was published.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it for whoever subscribes.
    pub retained: bool,
    ticket: Box<Ticket>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ticket {
    V4(rumqttc::Publish),
    V5(packets5::Publish),
}

enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// What the event loop's task reports.
enum Report {
    Sent(u16),
    Acknowledged(u16, Option<Refusal>),
    Signal(Signal),
}

/// A connection, or the attempt at one. Dropping it cuts it without DISCONNECT, so that the broker
/// publishes the last will.
pub struct Connection {
    client: Client,
    reports: mpsc::Receiver<Report>,
    task: JoinHandle<()>,
    /// Tokens of messages that were handed over and have no packet id yet, in order.
    submitted: VecDeque<u64>,
    /// Tokens by packet id.
    in_flight: HashMap<u16, u64>,
    /// Progress messages that were handed over and not yet written.
    unreliable: usize,
}

impl Connection {
    /// Begins to connect. Needs a tokio runtime.
    #[must_use]
    pub fn open(options: &ConnectOptions) -> Self {
        let capacity = usize::from(options.max_inflight) + SPARE_REQUESTS;
        let (reports_in, reports) = mpsc::channel(64);
        let (client, task) = match options.protocol {
            Protocol::V311 => {
                let (client, mut events) = rumqttc::AsyncClient::new(options_v4(options), capacity);
                events.set_network_options(network_options());
                (Client::V4(client), tokio::spawn(run_v4(events, reports_in)))
            }
            Protocol::V5 => {
                let (client, events) = v5::AsyncClient::new(options_v5(options), capacity);
                (Client::V5(client), tokio::spawn(run_v5(events, reports_in)))
            }
        };
        let (submitted, in_flight) = (VecDeque::new(), HashMap::new());
        Self { client, reports, task, submitted, in_flight, unreliable: 0 }
    }

    /// Hands a QoS 1 message over; its acknowledgement carries `token`. False if the queue is full.
    #[must_use]
    pub fn publish(
        &mut self,
        token: u64,
        topic: &str,
        retain: bool,
        payload: Vec<u8>,
        expiry_s: Option<u32>,
    ) -> bool {
        let done = match &self.client {
            Client::V4(client) => {
                client.try_publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload).is_ok()
            }
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let properties = packets5::PublishProperties {
                    message_expiry_interval: expiry_s,
                    ..Default::default()
                };
                client.try_publish_with_properties(topic, qos, retain, payload, properties).is_ok()
            }
        };
        if done {
            self.submitted.push_back(token);
        }
        done
    }

    /// Hands a QoS 0 message over. False if too many wait already.
    #[must_use]
    pub fn publish_unreliable(&mut self, topic: &str, payload: Vec<u8>) -> bool {
        if self.unreliable >= MAX_QUEUED_UNRELIABLE {
            return false;
        }
        let done = match &self.client {
            Client::V4(client) => {
                client.try_publish(topic, rumqttc::QoS::AtMostOnce, false, payload).is_ok()
            }
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtMostOnce;
                client.try_publish(topic, qos, false, payload).is_ok()
            }
        };
        self.unreliable += usize::from(done);
        done
    }

    /// Asks for messages that match `filter`, at QoS 1. False if the queue is full.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> bool {
        match &self.client {
            Client::V4(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).is_ok(),
            Client::V5(client) => {
                client.try_subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).is_ok()
            }
        }
    }

    /// Asks for messages that match `filter`, at QoS 0: nothing is acknowledged, so no burst can
    /// stop the flow. False if the queue is full.
    #[must_use]
    pub fn subscribe_unreliable(&self, filter: &str) -> bool {
        match &self.client {
            Client::V4(client) => client.try_subscribe(filter, rumqttc::QoS::AtMostOnce).is_ok(),
            Client::V5(client) => {
                client.try_subscribe(filter, v5::mqttbytes::QoS::AtMostOnce).is_ok()
            }
        }
    }

    /// Tells the broker that a message need not be delivered again. False if the queue is full;
    /// then the broker delivers it again at the next connection.
    #[must_use]
    pub fn acknowledge(&self, message: &Incoming) -> bool {
        match (&self.client, &*message.ticket) {
            (Client::V4(client), Ticket::V4(publish)) => client.try_ack(publish).is_ok(),
            (Client::V5(client), Ticket::V5(publish)) => client.try_ack(publish).is_ok(),
            _ => false,
        }
    }

    /// Ends the connection in good order, so that the last will is not published.
    pub fn disconnect(&self) {
        let queued = match &self.client {
            Client::V4(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        };
        if !queued {
            self.task.abort();
        }
    }

    /// Messages handed over whose acknowledgement is outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.submitted.len() + self.in_flight.len()
    }

    /// The next signal. Dropping the future loses nothing. After [`Signal::Down`] it returns only that.
    pub async fn next(&mut self) -> Signal {
        loop {
            match self.reports.recv().await {
                Some(report) => {
                    if let Some(signal) = self.pair(report) {
                        return signal;
                    }
                }
                None => return Signal::Down(over()),
            }
        }
    }

    /// The next signal if there is one already.
    pub fn try_next(&mut self) -> Option<Signal> {
        loop {
            match self.reports.try_recv() {
                Ok(report) => {
                    if let Some(signal) = self.pair(report) {
                        return Some(signal);
                    }
                }
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => return Some(Signal::Down(over())),
            }
        }
    }

    /// The event loop takes messages in the order in which they were handed over, and says of each
    /// which packet id it got, or 0 for QoS 0.
    fn pair(&mut self, report: Report) -> Option<Signal> {
        match report {
            Report::Signal(signal) => Some(signal),
            Report::Sent(0) => {
                self.unreliable = self.unreliable.saturating_sub(1);
                None
            }
            Report::Sent(packet) => {
                let token = self.submitted.pop_front()?;
                self.in_flight.insert(packet, token);
                None
            }
            Report::Acknowledged(packet, refusal) => {
                let token = self.in_flight.remove(&packet)?;
                Some(Signal::Acknowledged { token, refusal })
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn over() -> Lost {
    Lost { reason: "the connection is over".to_owned(), unreadable: false }
}
