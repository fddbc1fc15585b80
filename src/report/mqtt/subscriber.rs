//! The fleet's side of the contract: stays subscribed to the topics of many devices, and sends commands.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::{delay, random};
use super::connection::{ConnectOptions, Connection, Incoming, Lost, Signal};
use crate::contract::envelope::Envelope;
use crate::contract::topics::{CommandTopic, Kind, Topics};
use crate::contract::wire::{Command, wall_clock_ms};

/// Limits of the random delay between attempts to connect. A page is for people, who wait.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Messages that wait for the connection, at most.
const MAX_WAITING: usize = 250_000;
/// Connections that may break while the broker has a message in hand, before it counts as the cause.
const MAX_TRIES: u32 = 3;
/// How long a connection must hold before the next attempt comes soon again.
const HELD: Duration = Duration::from_secs(30);

/// Something that happened on the way to the broker.
#[derive(Debug)]
pub enum Received {
    /// A message came in.
    Message(Incoming),
    /// The broker has the message with this name, or will not get it, and why.
    Passed {
        /// The message's name: a command's id, or what was given to [`Subscriber::clear`].
        id: String,
        /// Why it will not get it.
        refusal: Option<String>,
    },
    /// All subscriptions are granted.
    Up,
    /// The broker does not let us read what we asked for.
    Forbidden,
    /// The connection broke or did not come about. It is tried again.
    Down {
        /// Why.
        reason: String,
    },
}

/// A message on its way.
struct Waiting {
    token: u64,
    id: String,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    /// Until when it may be sent, in seconds since 1970.
    expires: u64,
    /// Connections that broke while the broker had it in hand.
    tries: u32,
}

/// Keeps subscribed to topics, whatever becomes of the connection.
pub struct Subscriber {
    options: ConnectOptions,
    filters: Vec<String>,
    connection: Option<Connection>,
    /// Subscriptions whose answer is outstanding.
    unanswered: usize,
    attempt: u32,
    try_at: Instant,
    /// When all subscriptions of this connection were answered.
    up_at: Option<Instant>,
    /// Whether one of them was refused.
    is_forbidden: bool,
    /// Messages that the broker does not have yet.
    waiting: VecDeque<Waiting>,
    /// The first of them, which were handed to the connection.
    handed: usize,
    token: u64,
    /// What is to be told before anything else happens.
    ready: VecDeque<Received>,
}

impl Subscriber {
    /// A subscriber to `filters`. Connects when it is asked for what comes next.
    #[must_use]
    pub fn new(options: ConnectOptions, filters: Vec<String>) -> Self {
        Self {
            options,
            filters,
            connection: None,
            unanswered: 0,
            attempt: 0,
            try_at: Instant::now(),
            up_at: None,
            is_forbidden: false,
            waiting: VecDeque::new(),
            handed: 0,
            token: 0,
            ready: VecDeque::new(),
        }
    }

    /// Sends a command as soon as there is a connection. False if too many messages wait already.
    pub fn send(&mut self, topics: &Topics, command: &Command, envelope: &Envelope) -> bool {
        let action = command.action.name().to_owned();
        let topic = topics.of(&Kind::Command(CommandTopic { action, id: command.id.clone() }));
        self.enqueue(&command.id, topic, envelope.to_json(), false, command.expires)
    }

    /// Clears what the broker keeps of a device that is gone. The last of several messages named `id` says
    /// whether it has; without a connection that is said after a minute. False if too many messages wait.
    pub fn clear(&mut self, id: &str, topics: &Topics) -> bool {
        let expires = wall_clock_ms() / 1000 + 60;
        [Kind::Status, Kind::Birth, Kind::State]
            .iter()
            .all(|kind| self.enqueue(id, topics.of(kind), Vec::new(), true, expires))
    }

    fn enqueue(
        &mut self,
        id: &str,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
        expires: u64,
    ) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.token += 1;
        let (token, id) = (self.token, id.to_owned());
        self.waiting.push_back(Waiting { token, id, topic, payload, retain, expires, tries: 0 });
        self.hand_over();
        true
    }

    /// What happens next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return received;
            }
            let Some(connection) = &mut self.connection else {
                let soon = Instant::now() + Duration::from_secs(1);
                sleep_until(self.try_at.min(soon)).await;
                self.give_up_expired();
                if Instant::now() >= self.try_at {
                    self.connection = Some(Connection::open(&self.options));
                }
                continue;
            };
            let signal = connection.next().await;
            self.take(signal);
            self.hand_over();
        }
    }

    fn take(&mut self, signal: Signal) {
        let Some(connection) = &self.connection else { return };
        match signal {
            Signal::Up => {
                (self.unanswered, self.is_forbidden) = (self.filters.len(), false);
                // At QoS 0: with acknowledgements, a burst of thousands of messages stopped the flow for good.
                if !self.filters.iter().all(|filter| connection.subscribe_unreliable(filter)) {
                    self.down("the connection is stuck".to_owned());
                }
            }
            Signal::Subscribed { granted } => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.is_forbidden |= !granted;
                if self.unanswered == 0 {
                    self.up_at = Some(Instant::now());
                    let forbidden = self.is_forbidden;
                    self.ready.push_back(if forbidden {
                        Received::Forbidden
                    } else {
                        Received::Up
                    });
                }
            }
            Signal::Message(message) => self.ready.push_back(Received::Message(message)),
            Signal::Acknowledged { token, refusal } => {
                let at = self.waiting.iter().position(|waiting| waiting.token == token);
                if let Some(message) = at.and_then(|at| self.waiting.remove(at)) {
                    self.handed = self.handed.saturating_sub(1);
                    let refusal = refusal.map(|refusal| refusal.reason);
                    self.ready.push_back(Received::Passed { id: message.id, refusal });
                }
            }
            Signal::Alive => {}
            Signal::Down(Lost { reason, unreadable: false }) => self.down(reason),
            Signal::Down(Lost { reason, unreadable: true }) => self.down(format!(
                "{reason}: a message there is too large or damaged; limit their size at the broker \
                 (mosquitto: message_size_limit 262144), or clear it there"
            )),
        }
    }

    fn down(&mut self, reason: String) {
        self.connection = None;
        // A broker that hangs up on a message would do so for ever.
        for message in self.waiting.iter_mut().take(self.handed) {
            message.tries += 1;
        }
        self.give_up(|message| message.tries >= MAX_TRIES, "the broker hung up on it");
        self.handed = 0;
        if self.up_at.take().is_some_and(|up_at| up_at.elapsed() > HELD) {
            self.attempt = 0;
        }
        self.try_at = Instant::now() + delay(self.attempt, RECONNECT.0, RECONNECT.1, random());
        self.attempt = self.attempt.saturating_add(1);
        self.ready.push_back(Received::Down { reason });
    }

    /// Gives up messages whose time is over and which the broker does not have in hand.
    fn give_up_expired(&mut self) {
        let now = wall_clock_ms() / 1000;
        self.give_up(
            |message| message.expires <= now,
            "there was no connection to the broker in time",
        );
    }

    fn give_up(&mut self, is_over: impl Fn(&Waiting) -> bool, why: &str) {
        let ready = &mut self.ready;
        self.waiting.retain(|message| {
            let over = is_over(message);
            if over {
                let (id, refusal) = (message.id.clone(), Some(why.to_owned()));
                ready.push_back(Received::Passed { id, refusal });
            }
            !over
        });
    }

    /// Hands over as many messages as the broker may have at once.
    fn hand_over(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|_| self.up_at.is_some()) else {
            return;
        };
        let now = wall_clock_ms() / 1000;
        while self.handed < usize::from(self.options.max_inflight) {
            let Some(message) = self.waiting.get(self.handed) else { return };
            let life = u32::try_from(message.expires.saturating_sub(now)).unwrap_or(u32::MAX);
            let (payload, expiry) = (message.payload.clone(), (!message.retain).then_some(life));
            if !connection.publish(message.token, &message.topic, message.retain, payload, expiry) {
                return;
            }
            self.handed += 1;
        }
    }
}
