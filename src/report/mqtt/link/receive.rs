//! The receiving half of [`Link`]: commands from the broker into the inbox.
//!
//! A command is acknowledged to the broker once it is written down, so that a power cut in between
//! brings it again. While the ledger fails or the device doesn't know the time, commands are
//! held unacknowledged and tried again.

use std::time::Duration;

use rusqlite::Connection as Ledger;
use tokio::time::Instant;

use super::{Incoming, LEDGER_PAUSE, Link, LinkEvent, Phase};
use crate::contract::event::Sentence;
use crate::contract::topics::{CommandTopic, Kind, is_version_1};
use crate::contract::wire::{Ack, AckState, VERSION};
use crate::report::inbox::Receipt;
use crate::report::mqtt::home_assistant::is_birth;

/// Commands that are held at most; brokers deliver some 20 without acknowledgement.
const MAX_HELD: usize = 64;

/// Refusals of what no operator has signed are reported this often at most.
const TURNED_AWAY_EVERY: Duration = Duration::from_secs(10);

/// A command that cannot be judged or written down yet.
#[derive(Debug)]
pub(super) struct Held {
    topic: CommandTopic,
    message: Incoming,
    again_at: Instant,
}

impl Link {
    /// Takes in a message from the broker.
    pub(super) fn receive(&mut self, message: Incoming, db: Option<&Ledger>) {
        if self.stopping {
            return;
        }
        let Some(topic) = self.identity.topics.command(&message.topic) else {
            if is_birth(&self.settings.home_assistant, &message.topic, &message.payload) {
                self.announce();
            }
            if is_version_1(&message.topic) {
                self.report_refusal(Sentence::new(format_args!(
                    "it came on a topic of version 1 of the contract, this latrod speaks version \
                     {VERSION}"
                )));
            }
            // Not what is subscribed to: the broker need not deliver it again.
            self.acknowledge_message(&message);
            return;
        };
        let held = Held { topic, message, again_at: Instant::now() };
        match db.filter(|db| db.is_autocommit() && !self.ledger_rests()) {
            Some(db) => {
                // An answer that the broker has must not count as one that is still to be sent:
                // a repeated command would get none.
                self.remove_acknowledged(db);
                self.judge(held, db);
            }
            None => self.hold(held),
        }
    }

    /// Tries held commands again whose time has come.
    pub(super) fn retry_held(&mut self, db: &Ledger) {
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { return };
            if held.again_at <= Instant::now() {
                self.judge(held, db);
            } else {
                self.held.push_back(held);
            }
        }
    }

    fn judge(&mut self, held: Held, db: &Ledger) {
        let now_ms = (self.clock)();
        let payload = &held.message.payload;
        match self.inbox.receive(db, &self.outbox, &held.topic, payload, now_ms) {
            Ok(Receipt::ClockNotSet) => return self.hold(held),
            Err(e) => {
                self.ledger_failed(e);
                return self.hold(held);
            }
            Ok(Receipt::New(command)) => self.ready.push_back(LinkEvent::Command(command)),
            Ok(Receipt::Repeated { .. }) => {}
            Ok(Receipt::Declined { reason, .. }) => {
                self.counts.commands_refused += 1;
                self.ready.push_back(LinkEvent::Refused { reason });
            }
            Ok(Receipt::TurnedAway { reason }) => self.turn_away(&held.topic.id, reason),
        }
        self.acknowledge_message(&held.message);
    }

    /// Refuses what is not from an operator, without spending disk on it.
    fn turn_away(&mut self, id: &str, reason: Sentence) {
        let sentence = Some(reason.as_str().to_owned());
        let ack = Ack { command: id.to_owned(), state: AckState::Refused, reason: sentence };
        self.tell_from_memory(self.identity.topics.of(&Kind::Ack(id.to_owned())), ack);
        self.report_refusal(reason);
    }

    /// Counts a refusal, and reports it to the daemon unless it was just told of another.
    fn report_refusal(&mut self, reason: Sentence) {
        self.counts.commands_refused += 1;
        if self.last_turned_away.is_none_or(|last| last.elapsed() >= TURNED_AWAY_EVERY) {
            self.last_turned_away = Some(Instant::now());
            self.ready.push_back(LinkEvent::Refused { reason });
        }
    }

    /// Keeps a command for later. Beyond the limit it is left to the broker, which delivers it at
    /// the next connection.
    fn hold(&mut self, held: Held) {
        if self.held.len() < MAX_HELD {
            self.held.push_back(Held { again_at: Instant::now() + LEDGER_PAUSE, ..held });
        }
    }

    fn acknowledge_message(&mut self, message: &Incoming) {
        if let Phase::Open { connection, .. } = &self.phase
            && !connection.acknowledge(message)
        {
            // It comes again at the next connection, where the inbox knows it.
            log::debug!("an acknowledgement did not fit the queue");
        }
    }
}
