//! A made-up device without its connection: what it sends follows from time, commands and acknowledgements.

use super::inbox::{Inbox, Receipt, Trust};
use super::person::Person;
use super::post::{Due, Parcel, Post};
use crate::contract::event::{Event, Sentence};
use crate::contract::topics::{Kind, Topics};
use crate::contract::wire::{Ack, State};
use crate::simulator::life::{Life, Told};
use crate::simulator::random::Random;

/// How a life is lived.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How many times as fast as others.
    pub speed: f64,
    /// How often the state is told when nothing changes, in milliseconds.
    pub state_every_ms: u64,
    /// Ticks of a past that a device has had, at most.
    pub past_ticks: u64,
}

/// A process that speaks for a device. Times are in milliseconds since 1970 by the device's own clock.
#[derive(Debug, Clone)]
pub struct Process {
    topics: Topics,
    person: Person,
    life: Life,
    post: Post,
    inbox: Inbox,
    /// Randomness of names, so that nothing from outside changes the life.
    names: Random,
    state_every_ms: u64,
    state_told_ms: u64,
    refused: u64,
}

impl Process {
    /// A process that starts at `now_ms`. Who it is follows from `who`; processes of the same device differ in
    /// `twin`.
    #[must_use]
    pub fn new(topics: Topics, who: &Random, twin: u64, manner: Manner, now_ms: u64) -> Self {
        let mut who = who.clone();
        let person = Person::new(&mut who);
        let mut random = Random::of(who.bits(), twin);
        let (mut names, body) = (Random::of(random.bits(), 1), Random::of(random.bits(), 2));
        let kind = (person.model_sha256(), person.memory_mib());
        Self {
            topics,
            life: Life::new(body, manner.speed, kind, manner.past_ticks, now_ms),
            person,
            post: Post::new(&mut names),
            inbox: Inbox::default(),
            names,
            state_every_ms: manner.state_every_ms,
            state_told_ms: now_ms,
            refused: 0,
        }
    }

    /// The process ends without a word, and another one starts.
    pub fn restart(&mut self, now_ms: u64) {
        self.post.restart(&mut self.names);
        self.life.restart(now_ms);
        self.refused = 0;
    }

    /// Lives up to `now_ms`.
    pub fn advance(&mut self, now_ms: u64) {
        let told = self.life.advance(now_ms);
        self.take(told, now_ms);
        if self.life.take_change()
            || now_ms.saturating_sub(self.state_told_ms) >= self.state_every_ms
        {
            self.state_told_ms = now_ms;
            self.post.state_is_due();
        }
    }

    fn take(&mut self, told: Vec<Told>, now_ms: u64) {
        for told in told {
            match told {
                Told::Event(event) => self.post.event(now_ms, &event),
                Told::Progress(progress) => self.post.progress(now_ms, &progress),
                Told::Ack { id, state, reason } => {
                    let ack = Ack { command: id, state, reason };
                    self.inbox.note(&ack);
                    self.post.ack(now_ms, &ack);
                }
            }
        }
    }

    /// Takes in a message from the broker.
    pub fn hear(&mut self, trust: &Trust, topic: &str, payload: &[u8], now_ms: u64) {
        match self.inbox.receive((trust, &self.topics), topic, payload, now_ms / 1000) {
            Receipt::New { ack, action, expires } => {
                self.post.ack(now_ms, &ack);
                self.life.obey(&ack.command, &action, expires);
            }
            Receipt::Again(ack) => self.post.ack(now_ms, &ack),
            Receipt::Declined(ack) => {
                self.post.ack(now_ms, &ack);
                self.refused(&ack, now_ms);
            }
            Receipt::TurnedAway(ack) => {
                self.post.refuse(now_ms, &ack);
                self.refused(&ack, now_ms);
            }
            Receipt::Nothing => {}
        }
        self.advance(now_ms);
    }

    fn refused(&mut self, ack: &Ack, now_ms: u64) {
        self.refused += 1;
        let reason = Sentence::new(ack.reason.as_deref().unwrap_or_default());
        self.post.event(now_ms, &Event::CommandRefused { reason });
    }

    /// Prepares to leave in good order: a last event, a last state, and that it has stopped.
    pub fn stop(&mut self, now_ms: u64) {
        self.advance(now_ms);
        let told = self.life.stop();
        self.take(told, now_ms);
        self.post.state_is_due();
        self.post.stop();
    }

    /// What is to be sent next.
    pub fn next(&mut self, now_ms: u64, signed: bool) -> Option<Parcel> {
        match self.post.take_due() {
            Some(Due::Birth) => {
                let birth = self.person.birth(self.topics.device(), self.post.boot_id(), signed);
                Some(self.post.retained(now_ms, Kind::Birth, birth))
            }
            Some(Due::Status) => Some(self.post.presence(now_ms)),
            Some(Due::State) => {
                let state = self.state();
                Some(self.post.retained(now_ms, Kind::State, state))
            }
            None => self.post.next(),
        }
    }

    /// Its state as it is told now.
    #[must_use]
    pub fn state(&self) -> State {
        let mut state = self.life.state();
        state.counts.insert("outbox".to_owned(), self.post.waiting() as u64);
        let dropped = self.post.dropped();
        let dropped = [
            ("events", dropped.events),
            ("progress", dropped.progress),
            ("commands", self.refused),
        ];
        state.dropped = dropped.map(|(name, count)| (name.to_owned(), count)).into();
        state
    }

    /// Its topics.
    #[must_use]
    pub const fn topics(&self) -> &Topics {
        &self.topics
    }

    /// What it does.
    #[must_use]
    pub const fn life(&self) -> &Life {
        &self.life
    }

    /// How far each command is.
    pub fn commands(&self) -> impl Iterator<Item = &Ack> {
        self.inbox.acks()
    }

    /// What it sends.
    #[must_use]
    pub const fn post(&self) -> &Post {
        &self.post
    }

    /// The same, to tell it of the connection.
    pub const fn post_mut(&mut self) -> &mut Post {
        &mut self.post
    }
}
