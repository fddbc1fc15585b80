//! One device, as far as its messages tell.

use std::collections::{BTreeMap, VecDeque};

use super::alarms::Seen;
use super::noticed::Noticed;
use super::orders::Orders;
use super::presence::{self, Ended, Status};
use super::told::{Place, Told};
use super::voice::{Standing, Voice, boot_of};
use super::{Arrival, Heard, bounds};
use crate::contract::topics::Kind;
use crate::contract::wire::{
    Ack, Birth, EventMessage, Head, Message, Presence, State, StepProgress,
};

/// Events that are remembered with a device; the history has the others.
const MAX_EVENTS: usize = 40;
/// How far a device's clock may be off, in milliseconds: past it, its times mislead, and it refuses commands
/// that were issued ahead of it.
const MAX_SKEW_MS: u64 = 120_000;

/// Something that happened on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// Names the message, so that it counts once.
    pub id: String,
    /// When it was sent, in milliseconds since 1970 by the device's clock.
    pub sent_ms: u64,
    /// When it arrived, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: EventMessage,
}

/// How a device spent some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The state's name; `away` for time in which nothing was heard.
    pub state: String,
    /// What kept it from training, by name; empty if nothing did.
    pub reason: String,
    /// How long, in milliseconds.
    pub ms: u64,
}

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    /// When it was first heard of, by this dashboard.
    pub first_ms: u64,
    /// Messages under its name that could not be read.
    pub unreadable: Noticed,
    /// What it was asked to do.
    pub orders: Orders,
    /// Alarms that somebody has seen, by name.
    pub seen: BTreeMap<String, Seen>,
    voice: Voice,
    ended: Ended,
    arrived_ms: u64,
    /// Up to when it is known how the time was spent.
    accounted_ms: Option<u64>,
    birth: Told<Birth>,
    state: Told<State>,
    progress: Told<StepProgress>,
    events: VecDeque<Happening>,
    /// The device's clock minus the dashboard's, in milliseconds, and since when it is too far off.
    skew_ms: Option<i64>,
    skewed_since_ms: Option<u64>,
    /// Since when each alarm of its newest state is known.
    alarms_since: BTreeMap<String, u64>,
}

impl Device {
    /// One that was heard of now.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            first_ms: now_ms,
            unreadable: Noticed::default(),
            orders: Orders::default(),
            seen: BTreeMap::new(),
            voice: Voice::default(),
            ended: Ended::default(),
            arrived_ms: now_ms,
            accounted_ms: None,
            birth: Told::default(),
            state: Told::default(),
            progress: Told::default(),
            events: VecDeque::new(),
            skew_ms: None,
            skewed_since_ms: None,
            alarms_since: BTreeMap::new(),
        }
    }

    /// Takes a message in; `Err` if it cannot be read.
    pub(super) fn hear(&mut self, kind: &Kind, arrival: Arrival<'_>) -> Result<Heard, ()> {
        let Arrival { payload, retained, at_ms, .. } = arrival;
        let mut live = !retained;
        let mut heard = Heard::default();
        match kind {
            Kind::Status => {
                let message: Message<crate::contract::wire::Status> = read(payload)?;
                // Brokers publish last wills, and long after the device has spoken.
                live &= message.body.status == Presence::Online;
                self.status(&message, live, at_ms);
            }
            Kind::Birth => {
                let mut message: Message<Birth> = read(payload)?;
                self.is_current(&message.head, &message.body.boot_id, live, at_ms);
                if self.birth.would_take(Place::from(&message.head)) {
                    bounds::birth(&mut message.body);
                    self.birth.take(&message.head, at_ms, message.body);
                }
            }
            Kind::State => {
                let message: Message<State> = read(payload)?;
                self.new_state(message, live, at_ms, &mut heard);
            }
            Kind::Progress => {
                let message: Message<StepProgress> = read(payload)?;
                self.new_progress(message, live, at_ms, &mut heard);
            }
            Kind::Event => {
                let message: Message<EventMessage> = read(payload)?;
                heard.happening = self.happening(message, at_ms);
            }
            Kind::Ack(_) => {
                let mut message: Message<Ack> = read(payload)?;
                bounds::ack(&mut message.body)?;
                self.orders.hear(&message.body, at_ms);
            }
            Kind::Command(_) => return Err(()),
        }
        if live {
            self.arrived_ms = at_ms;
        }
        Ok(heard)
    }

    /// Takes note of who has sent a message; whether it is the process that speaks for the device. What
    /// another one has said at last may still be the newest that is known of a topic.
    fn is_current(&mut self, head: &Head, boot: &str, live: bool, at_ms: u64) -> bool {
        match self.voice.hear(boot, head.connection, live, at_ms) {
            Standing::Current => true,
            Standing::Earlier => false,
            Standing::TakesOver => {
                self.birth.forget_place();
                self.state.forget_place();
                self.progress.forget_place();
                self.ended = Ended::default();
                true
            }
        }
    }

    fn status(&mut self, message: &Message<crate::contract::wire::Status>, live: bool, at_ms: u64) {
        let (head, status) = (&message.head, &message.body);
        let offline = status.status == Presence::Offline;
        if !self.is_current(head, &status.boot_id, live, at_ms) {
            return;
        }
        if offline && head.connection >= self.ended.connection {
            let in_order = status.reason == "stopped";
            self.ended = Ended { connection: head.connection, in_order };
        }
    }

    fn new_state(&mut self, message: Message<State>, live: bool, at_ms: u64, heard: &mut Heard) {
        let Message { head, mut body } = message;
        let was = self.status_at(at_ms);
        let live = self.is_current(&head, boot_of(&head.id), live, at_ms) && live;
        if !self.state.would_take(Place::from(&head)) {
            return;
        }
        bounds::state(&mut body);
        bounds::numbers(&mut body.signals);
        if live {
            self.note_skew(difference(head.time_ms, at_ms), at_ms);
            heard.numbers = body.signals.clone().into_iter().collect();
            let before_ms = self.accounted_ms.replace(at_ms);
            heard.spent = before_ms.and_then(|ms| self.spent(was, at_ms.saturating_sub(ms)));
        }
        // What the broker had kept is older than its arrival; how old, only the device's clock tells.
        let told_ms = if live { at_ms } else { at_ms.min(head.time_ms) };
        self.note_alarms(&body, told_ms);
        self.state.take(&head, at_ms, body);
    }

    fn note_skew(&mut self, skew_ms: i64, at_ms: u64) {
        self.skew_ms = Some(skew_ms);
        let is_off = skew_ms.unsigned_abs() > MAX_SKEW_MS;
        self.skewed_since_ms = is_off.then(|| self.skewed_since_ms.unwrap_or(at_ms));
    }

    /// Notes since when each alarm is known: the earliest time that follows from any state that had it, as long
    /// as all have. `told_ms`: when this one was sent.
    fn note_alarms(&mut self, state: &State, told_ms: u64) {
        let known = std::mem::take(&mut self.alarms_since);
        for alarm in &state.alarms {
            let since = told_ms.saturating_sub(alarm.for_s.saturating_mul(1000));
            let earlier = known.get(&alarm.alarm).copied().unwrap_or(since);
            self.alarms_since.insert(alarm.alarm.clone(), since.min(earlier));
        }
    }

    /// Since when an alarm of the newest state is known, in milliseconds since 1970.
    #[must_use]
    pub fn alarm_since_ms(&self, name: &str) -> Option<u64> {
        self.alarms_since.get(name).copied()
    }

    /// Since when the device's clock is too far off, if it is.
    #[must_use]
    pub const fn skewed_since_ms(&self) -> Option<u64> {
        self.skewed_since_ms
    }

    /// How the time since the last state was spent, going by what that said.
    fn spent(&self, was: Status, ms: u64) -> Option<Spent> {
        let state = self.state.body()?;
        let (state, reason) = if was == Status::Online {
            let first = state.blockers.first().map(|blocker| blocker.blocker.clone());
            (state.state.clone(), first.unwrap_or_default())
        } else {
            ("away".to_owned(), String::new())
        };
        (ms > 0).then_some(Spent { state, reason, ms })
    }

    fn new_progress(
        &mut self,
        message: Message<StepProgress>,
        live: bool,
        at_ms: u64,
        heard: &mut Heard,
    ) {
        let Message { head, mut body } = message;
        let live = self.is_current(&head, boot_of(&head.id), live, at_ms) && live;
        if !self.progress.would_take(Place::from(&head)) {
            return;
        }
        bounds::numbers(&mut body.numbers);
        if live {
            heard.numbers = body.numbers.clone().into_iter().collect();
        }
        self.progress.take(&head, at_ms, body);
    }

    /// Events count whatever connection they were made in: they wait on disk while a device is away.
    fn happening(&mut self, message: Message<EventMessage>, at_ms: u64) -> Option<Happening> {
        let Message { head, mut body } = message;
        if self.events.iter().any(|known| known.id == head.id) {
            return None;
        }
        bounds::event(&mut body);
        let happening = Happening { id: head.id, sent_ms: head.time_ms, at_ms, event: body };
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(happening.clone());
        Some(happening)
    }

    /// Whether it is there.
    #[must_use]
    pub fn status_at(&self, now_ms: u64) -> Status {
        // Who has only been heard of through retained messages may be there until the time is up.
        let heard_ms = self.voice.heard_ms().max(self.first_ms);
        presence::status(self.voice.connection(), self.ended, heard_ms, now_ms)
    }

    /// Who it is.
    #[must_use]
    pub fn birth(&self) -> Option<&Birth> {
        self.birth.body()
    }

    /// What it does and why.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.state.body()
    }

    /// The newest step.
    #[must_use]
    pub fn progress(&self) -> Option<&StepProgress> {
        self.progress.body()
    }

    /// When its state was sent, by its own clock, and when it arrived.
    #[must_use]
    pub fn state_times(&self) -> Option<(u64, u64)> {
        Some((self.state.sent_ms()?, self.state.at_ms()?))
    }

    /// When it last said anything, as far as the dashboard has heard.
    #[must_use]
    pub const fn arrived_ms(&self) -> u64 {
        self.arrived_ms
    }

    /// The device's clock minus the dashboard's, in milliseconds, if a message of known age has come.
    #[must_use]
    pub const fn skew_ms(&self) -> Option<i64> {
        self.skew_ms
    }

    /// Since when two devices speak under its name, if they do.
    #[must_use]
    pub fn doubled_since_ms(&self, now_ms: u64) -> Option<u64> {
        self.voice.doubled_since_ms(now_ms)
    }

    /// What has lately happened, newest first.
    #[cfg(test)]
    pub fn events(&self) -> impl Iterator<Item = &Happening> {
        self.events.iter().rev()
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<Message<T>, ()> {
    Message::parse(payload).map_err(|_| ())
}

fn difference(a_ms: u64, b_ms: u64) -> i64 {
    let (a, b) = (i64::try_from(a_ms).unwrap_or(i64::MAX), i64::try_from(b_ms).unwrap_or(i64::MAX));
    a.saturating_sub(b)
}
