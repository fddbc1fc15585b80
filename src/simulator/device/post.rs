//! What a made-up device sends, and in which order: ids, numbers of connections, and what waits for the broker.

use std::collections::VecDeque;

use serde::Serialize;

use crate::contract::event::Event;
use crate::contract::topics::Kind;
use crate::contract::wire::{Ack, EventMessage, Head, Message, Presence, Status, VERSION};
use crate::simulator::random::Random;

/// Events and acknowledgements that wait for the broker, at most. Real devices keep more, on disk.
const MOST_LETTERS: usize = 100;
/// Progress and refusals that wait, at most, each.
const MOST_IN_MEMORY: usize = 64;
/// The token of messages whose acknowledgement changes nothing.
const NO_LETTER: u64 = 0;

/// A message on its way to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// What its acknowledgement will say; nothing for QoS 0.
    pub token: Option<u64>,
    /// What it is.
    pub kind: Kind,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A message that is made anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Who the device is.
    Birth,
    /// Whether it is there.
    Status,
    /// What it does.
    State,
}

/// A message that is sent until the broker has it.
#[derive(Debug, Clone)]
struct Letter {
    number: u64,
    kind: Kind,
    payload: Vec<u8>,
}

/// What was sent, for who counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Events that gave way to later ones.
    pub events: u64,
    /// Progress messages that gave way to later ones.
    pub progress: u64,
}

/// The sending half of a device.
#[derive(Debug, Clone)]
pub struct Post {
    /// Names the process.
    boot_id: String,
    /// Names the outbox.
    stream: String,
    connection: u64,
    /// Counts messages that are made in memory.
    seq: u64,
    /// Counts letters.
    number: u64,
    due: [bool; 3],
    /// What the next status says.
    stopped: bool,
    letters: VecDeque<Letter>,
    /// Letters that were handed over on this connection; they come first.
    handed: usize,
    refusals: VecDeque<Parcel>,
    progress: VecDeque<Vec<u8>>,
    dropped: Dropped,
}

impl Post {
    /// That of a process that has just started.
    pub fn new(random: &mut Random) -> Self {
        Self {
            boot_id: format!("{:016x}", random.bits()),
            stream: format!("{:08x}", random.bits() >> 32),
            connection: 0,
            seq: 0,
            number: 0,
            due: [false; 3],
            stopped: false,
            letters: VecDeque::new(),
            handed: 0,
            refusals: VecDeque::new(),
            progress: VecDeque::new(),
            dropped: Dropped::default(),
        }
    }

    /// The process starts again: what is on disk stays.
    pub fn restart(&mut self, random: &mut Random) {
        self.boot_id = format!("{:016x}", random.bits());
        self.seq = 0;
        self.dropped.progress = 0;
        self.refusals.clear();
        self.progress.clear();
    }

    /// Names the process.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Number of the connection, or of the last one.
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// Messages that wait for the broker.
    pub fn waiting(&self) -> usize {
        self.letters.len()
    }

    /// What gave way.
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// An attempt to connect begins at `now_ms`; returns the last will.
    pub fn connect(&mut self, now_ms: u64) -> Vec<u8> {
        self.connection = self.connection.saturating_add(1).max(now_ms / 1000);
        self.handed = 0;
        let id = format!("{}-will-{}", self.boot_id, self.connection);
        let head = Head { v: VERSION, id, connection: self.connection, seq: 0, time_ms: now_ms };
        encode(head, self.status(Presence::Offline, "connection lost"))
    }

    /// The broker has accepted the device.
    pub const fn came_up(&mut self) {
        self.due = [true; 3];
    }

    /// The state has changed, or was told long ago.
    pub const fn state_is_due(&mut self) {
        self.due[2] = true;
    }

    /// The device is about to disconnect in good order.
    pub const fn stop(&mut self) {
        self.stopped = true;
        self.due[1] = true;
    }

    /// Whether nothing waits to be handed over.
    pub fn is_empty(&self) -> bool {
        let letters = self.letters.len() == self.handed;
        letters && self.due == [false; 3] && self.refusals.is_empty() && self.progress.is_empty()
    }

    /// Something has happened.
    pub fn event(&mut self, now_ms: u64, event: &Event) {
        self.letter(now_ms, Kind::Event, EventMessage::from(event));
    }

    /// A command has come further.
    pub fn ack(&mut self, now_ms: u64, ack: &Ack) {
        self.letter(now_ms, Kind::Ack(ack.command.clone()), ack);
    }

    /// A command was turned away; that may be lost.
    pub fn refuse(&mut self, now_ms: u64, ack: &Ack) {
        let payload = encode(self.head(now_ms), ack);
        let kind = Kind::Ack(ack.command.clone());
        if self.refusals.len() == MOST_IN_MEMORY {
            self.refusals.pop_front();
        }
        self.refusals.push_back(Parcel { token: Some(NO_LETTER), kind, retain: false, payload });
    }

    /// A training step has ended.
    pub fn progress(&mut self, now_ms: u64, progress: impl Serialize) {
        let payload = encode(self.head(now_ms), progress);
        if self.progress.len() == MOST_IN_MEMORY {
            self.progress.pop_front();
            self.dropped.progress += 1;
        }
        self.progress.push_back(payload);
    }

    fn letter(&mut self, now_ms: u64, kind: Kind, body: impl Serialize) {
        if self.letters.len() >= MOST_LETTERS {
            // The oldest event that the broker is not about to acknowledge.
            let waits = self.letters.iter().skip(self.handed);
            let at = waits.enumerate().find(|(_, letter)| letter.kind == Kind::Event);
            if let Some(at) = at.map(|(at, _)| at + self.handed) {
                self.letters.remove(at);
                self.dropped.events += 1;
            } else if kind == Kind::Event {
                self.dropped.events += 1;
                return;
            }
        }
        self.number += 1;
        let number = self.number;
        let id = format!("{}-{number}", self.stream);
        let connection = self.connection;
        let head = Head { v: VERSION, id, connection, seq: number, time_ms: now_ms };
        self.letters.push_back(Letter { number, kind, payload: encode(head, body) });
    }

    fn head(&mut self, now_ms: u64) -> Head {
        self.seq += 1;
        let id = format!("{}-{}", self.boot_id, self.seq);
        Head { v: VERSION, id, connection: self.connection, seq: self.seq, time_ms: now_ms }
    }

    fn status(&self, status: Presence, reason: &str) -> Status {
        Status { status, boot_id: self.boot_id.clone(), reason: reason.to_owned() }
    }

    /// What of the device itself is to be said next, before anything else; the last status comes last.
    pub fn take_due(&mut self) -> Option<Due> {
        let order = [(0, Due::Birth), (1, Due::Status), (2, Due::State)];
        let others_wait = self.due[2] || self.letters.len() > self.handed;
        let may = |at: usize| self.due[at] && !(at == 1 && self.stopped && others_wait);
        let (at, due) = order.into_iter().find(|(at, _)| may(*at))?;
        self.due[at] = false;
        Some(due)
    }

    /// A message of the device about itself.
    pub fn retained(&mut self, now_ms: u64, kind: Kind, body: impl Serialize) -> Parcel {
        let payload = encode(self.head(now_ms), body);
        Parcel { token: Some(NO_LETTER), kind, retain: true, payload }
    }

    /// Whether it is there.
    pub fn presence(&mut self, now_ms: u64) -> Parcel {
        let status = match self.stopped {
            true => self.status(Presence::Offline, "stopped"),
            false => self.status(Presence::Online, "connected"),
        };
        self.retained(now_ms, Kind::Status, status)
    }

    /// What comes next of everything else.
    pub fn next(&mut self) -> Option<Parcel> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        if let Some(Letter { number, kind, payload }) = self.letters.get(self.handed) {
            let (token, kind, payload) = (Some(*number), kind.clone(), payload.clone());
            self.handed += 1;
            return Some(Parcel { token, kind, retain: false, payload });
        }
        let payload = self.progress.pop_front()?;
        Some(Parcel { token: None, kind: Kind::Progress, retain: false, payload })
    }

    /// The broker has the message with this token.
    pub fn acknowledged(&mut self, token: u64) {
        let handed = self.letters.iter().take(self.handed);
        let at = handed.enumerate().find(|(_, letter)| letter.number == token);
        if let Some((at, _)) = at {
            self.letters.remove(at);
            self.handed -= 1;
        }
    }
}

/// A message as it travels. The contract's types always become JSON.
fn encode(head: Head, body: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Message { head, body }).unwrap_or_default()
}
