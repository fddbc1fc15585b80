//! The sending half of [`Link`]: what goes out, in which order, and what the broker's
//! acknowledgements change.

use rusqlite::Connection as Ledger;
use serde::Serialize;

use super::{Link, LinkEvent, Phase, Which};
use crate::contract::wire::{Head, Message};
use crate::report::mqtt::connection::Refusal;
use crate::report::mqtt::home_assistant::Discovery;
use crate::report::mqtt::retained::Due;
use crate::report::outbox::{self, encode, head};

/// Messages kept in memory because the ledger failed, or not worth the disk, at most.
const MAX_VOLATILE: usize = 64;

/// What an acknowledgement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A row of the outbox.
    Row(i64),
    /// A retained message.
    Retained(Which),
    /// A message in memory, by its number.
    Volatile(u64),
}

/// A QoS 1 message that is not on disk.
#[derive(Debug)]
pub(super) struct Volatile {
    number: u64,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    /// Whether it was sent on this connection.
    pub(super) sent: bool,
}

impl Link {
    /// The head of a message that is made in memory.
    pub(super) fn head(&mut self) -> Head {
        self.seq += 1;
        head(&self.identity.boot_id, self.seq, self.outbox.connection(), (self.clock)())
    }

    /// Keeps a message in memory until it is acknowledged; the oldest gives way.
    pub(super) fn tell_from_memory(&mut self, topic: String, body: impl Serialize) {
        let head = self.head();
        let number = head.seq;
        match encode(&topic, &Message { head, body }) {
            Ok(payload) => {
                self.keep(Volatile { number, topic, payload, retain: false, sent: false });
            }
            Err(e) => self.log(Err(e)),
        }
    }

    fn keep(&mut self, message: Volatile) {
        self.volatile.push_back(message);
        if self.volatile.len() > MAX_VOLATILE {
            self.volatile.pop_front();
        }
    }

    /// Tells Home Assistant what this device is, if it is to know.
    pub(super) fn announce(&mut self) {
        let Some(Discovery { topic, payload }) = self.discovery.clone() else { return };
        self.volatile.retain(|message| message.topic != topic);
        self.seq += 1;
        self.keep(Volatile { number: self.seq, topic, payload, retain: true, sent: false });
    }

    /// Hands over as much as the window allows: retained messages first, then those in memory, then
    /// the outbox in its order, then progress.
    pub(super) fn send(&mut self, db: Option<&Ledger>) {
        if !self.is_up() {
            return;
        }
        self.send_retained();
        self.send_volatile();
        if let Some(db) = db {
            let room = self.room();
            if room > 0 {
                match outbox::peek(db, self.sent_up_to, room) {
                    Ok(waiting) => self.send_rows(waiting),
                    Err(e) => self.ledger_failed(e),
                }
            }
        }
        while let Phase::Open { connection, .. } = &mut self.phase
            && let Some(payload) = self.progress.front()
        {
            let topic = self.identity.topics.of(&crate::contract::topics::Kind::Progress);
            if !connection.publish_unreliable(&topic, payload.clone()) {
                break;
            }
            self.progress.pop_front();
        }
    }

    fn send_retained(&mut self) {
        while self.room() > 0 {
            let head = self.head();
            match self.retained.next(&self.identity.topics, head) {
                None => return,
                Some(Err(e)) => self.log(Err(e)),
                Some(Ok(Due { which, topic, payload })) => {
                    if !self.publish(Token::Retained(which), &topic, true, payload) {
                        return self.retained.not_sent(which);
                    }
                }
            }
        }
    }

    fn send_volatile(&mut self) {
        for index in 0..self.volatile.len() {
            let message = &self.volatile[index];
            if message.sent || self.room() == 0 {
                continue;
            }
            let (topic, payload) = (message.topic.clone(), message.payload.clone());
            let token = Token::Volatile(message.number);
            let retain = message.retain;
            self.volatile[index].sent = self.publish(token, &topic, retain, payload);
        }
    }

    fn send_rows(&mut self, waiting: Vec<outbox::Waiting>) {
        for outbox::Waiting { seq, topic, payload } in waiting {
            if !self.publish(Token::Row(seq), &topic, false, payload) {
                return;
            }
            self.sent_up_to = seq;
        }
    }

    fn publish(&mut self, token: Token, topic: &str, retain: bool, payload: Vec<u8>) -> bool {
        let Phase::Open { connection, .. } = &mut self.phase else { return false };
        let number = self.next_token;
        let done = connection.publish(number, topic, retain, payload, None);
        if done {
            self.next_token += 1;
            self.tokens.insert(number, token);
        }
        done
    }

    /// Messages that may still be handed over before an acknowledgement comes.
    fn room(&self) -> usize {
        match &self.phase {
            Phase::Open { connection, .. } => {
                usize::from(self.settings.max_inflight).saturating_sub(connection.outstanding())
            }
            Phase::Waiting { .. } => 0,
        }
    }

    /// The broker has taken or refused a message.
    pub(super) fn acknowledge(&mut self, token: u64, refusal: Option<Refusal>) {
        let Some(token) = self.tokens.remove(&token) else { return };
        let passing = refusal.as_ref().is_some_and(|r| r.passing);
        if let Some(Refusal { reason, passing: false }) = refusal {
            self.counts.messages_refused += 1;
            self.ready.push_back(LinkEvent::MessageRefused { reason });
        }
        match token {
            Token::Retained(which) => self.retained.acknowledged(which),
            // What may be taken later stays, and is sent again at the next connection.
            Token::Row(_) | Token::Volatile(_) if passing => {}
            Token::Row(seq) => self.acknowledged.push(seq),
            Token::Volatile(number) => self.volatile.retain(|m| m.number != number),
        }
    }

    /// Removes from the outbox what the broker has.
    pub(super) fn remove_acknowledged(&mut self, db: &Ledger) {
        if self.acknowledged.is_empty() {
            return;
        }
        match outbox::delete(db, self.acknowledged.iter().copied()) {
            Ok(()) => self.acknowledged.clear(),
            Err(e) => self.ledger_failed(e),
        }
    }

    /// Drops the oldest progress messages beyond the limit, and counts them.
    pub(super) fn bound_progress(&mut self) {
        let limit = self.settings.max_waiting_progress as usize;
        // Connected, one more may wait for the moment in which it is sent.
        let limit = if self.is_up() { limit.max(1) } else { limit };
        while self.progress.len() > limit {
            self.progress.pop_front();
            self.counts.dropped_progress += 1;
        }
    }

    /// Whether nothing waits for an acknowledgement, except retained messages.
    pub(super) fn is_drained(&self, db: Option<&Ledger>) -> bool {
        // A ledger that fails has nothing that could be sent now.
        let on_disk = db.and_then(|db| outbox::counts(db).ok()).map_or(0, |counts| counts.messages);
        self.volatile.is_empty() && on_disk <= self.acknowledged.len() as u64
    }
}
