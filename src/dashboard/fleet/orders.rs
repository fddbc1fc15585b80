//! What became of the commands that a device was given.

use std::collections::VecDeque;

use crate::contract::wire::{Ack, AckState};

/// Commands of a device that are remembered.
const MAX_ORDERS: usize = 40;

/// A command and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The command's id.
    pub id: String,
    /// What was asked for, in words; empty for a command that somebody else gave.
    pub what: String,
    /// Who asked; empty for somebody else.
    pub who: String,
    /// When it was given, or first heard of, in milliseconds since 1970.
    pub given_ms: u64,
    /// After this it acts no more, in milliseconds since 1970; 0 if that is not known.
    pub expires_ms: u64,
    /// What the device said last, and when it was heard.
    pub said: Option<(AckState, u64)>,
    /// Why it failed, or what came of it.
    pub reason: String,
    /// Whether the broker has it.
    pub sent: bool,
    /// Why it never left, if it did not.
    pub unsent: Option<String>,
}

impl Order {
    /// How far it is, in a word.
    #[must_use]
    pub fn progress(&self, now_ms: u64) -> &'static str {
        match (&self.said, &self.unsent) {
            (Some((state, _)), _) => state.name(),
            (None, Some(_)) => "not sent",
            (None, None) if self.expires_ms > 0 && now_ms > self.expires_ms => "no answer",
            (None, None) if self.sent => "sent",
            (None, None) => "waiting for the broker",
        }
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.unsent.is_some()
            || self.said.is_some_and(|(state, _)| state.is_final())
            || (self.expires_ms > 0 && now_ms > self.expires_ms)
    }
}

/// The newest commands of a device, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    orders: VecDeque<Order>,
}

impl Orders {
    /// Notes a command that is being given.
    pub fn give(&mut self, order: Order) {
        if self.orders.len() == MAX_ORDERS {
            // What others gave, or say that they gave, makes room first.
            let others = self.orders.iter().position(|order| order.who.is_empty());
            self.orders.remove(others.unwrap_or(0));
        }
        self.orders.push_back(order);
    }

    /// Notes that the broker has a command.
    pub fn sent(&mut self, id: &str) {
        if let Some(order) = self.find(id) {
            order.sent = true;
        }
    }

    /// Notes that a command never left.
    pub fn unsent(&mut self, id: &str, why: &str) {
        if let Some(order) = self.find(id) {
            order.unsent = Some(why.to_owned());
        }
    }

    /// Notes what the device says of a command. A final word stands, and words never go back.
    pub fn hear(&mut self, ack: &Ack, at_ms: u64) {
        if self.find(&ack.command).is_none() {
            let (what, who) = (String::new(), String::new());
            self.give(Order {
                id: ack.command.clone(),
                what,
                who,
                given_ms: at_ms,
                expires_ms: 0,
                said: None,
                reason: String::new(),
                sent: true,
                unsent: None,
            });
        }
        let Some(order) = self.find(&ack.command) else { return };
        if order.said.is_some_and(|(said, _)| rank(said) >= rank(ack.state)) {
            return;
        }
        (order.said, order.unsent) = (Some((ack.state, at_ms)), None);
        order.reason = ack.reason.clone().unwrap_or_default();
    }

    fn find(&mut self, id: &str) -> Option<&mut Order> {
        self.orders.iter_mut().rev().find(|order| order.id == id)
    }

    /// A command.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Order> {
        self.orders.iter().rev().find(|order| order.id == id)
    }

    /// The commands, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().rev()
    }
}

/// The order in which a device says things of a command (`docs/mqtt.md`, `ack`).
const fn rank(state: AckState) -> u8 {
    match state {
        AckState::Received => 0,
        AckState::Running => 1,
        AckState::Done | AckState::Failed | AckState::Expired | AckState::Refused => 2,
    }
}
