//! A made-up device with its connection, and with whatever is wrong with that.

mod facts;
mod inbox;
mod person;
mod post;
mod process;

use facts::topic_index;
pub use facts::{Counts, Oddities, Presence, TOPICS};
pub use inbox::Trust;
pub use process::{Manner, Process};

use crate::contract::topics::{Kind, Topics};
use crate::report::mqtt::connection::{ConnectOptions, Connection, Lost, Signal, Will};
use crate::simulator::random::Random;

/// Messages on their way without the broker's acknowledgement, at most: few, because `rumqttc` makes room for
/// them in every connection.
pub const MAX_INFLIGHT: u16 = 4;
/// Limit of the longest random delay before the next attempt to connect, in milliseconds.
const MAX_DELAY_MS: u64 = 128_000;
/// A connection that has lasted this long counts as good, in milliseconds.
const GOOD_MS: u64 = 10_000;
/// How long a flaky device is connected, and away, in seconds: evenly between these.
const CONNECTED_S: (f64, f64) = (10.0, 60.0);
/// How long it is away.
const AWAY_S: (f64, f64) = (1.0, 15.0);
/// Share of its losses that are power cuts, after which the program starts again.
const POWER_CUTS: f64 = 0.25;

/// What all devices of a crowd share.
pub struct Surroundings {
    /// How to connect; client id and last will are each device's own.
    pub options: ConnectOptions,
    /// Whose commands are taken.
    pub trust: Trust,
}

enum Link {
    Away {
        until_ms: u64,
    },
    Open {
        connection: Box<Connection>,
        since_ms: u64,
        up: bool,
        breaks_ms: u64,
    },
    /// DISCONNECT is on its way.
    Leaving {
        connection: Box<Connection>,
    },
    Left,
}

/// A device.
pub struct Device {
    process: Process,
    oddities: Oddities,
    random: Random,
    born_ms: u64,
    link: Link,
    attempt: u32,
    was_up: bool,
    discard_session: bool,
    stopping: bool,
    counts: Counts,
    /// Why the last connection ended, if it did so against the device's will.
    lost: Option<Lost>,
}

impl Device {
    /// A device that is about to connect. Times are in milliseconds since 1970.
    pub fn new(
        topics: Topics,
        who: &Random,
        twin: u64,
        (oddities, manner): (Oddities, Manner),
        now_ms: u64,
    ) -> Self {
        let there_ms = now_ms.saturating_add_signed(oddities.skew_ms);
        let random = Random::of(who.clone().bits(), twin.wrapping_add(1 << 32));
        Self {
            process: Process::new(topics, who, twin, manner, there_ms),
            oddities,
            random,
            born_ms: now_ms,
            link: Link::Away { until_ms: now_ms },
            attempt: 0,
            was_up: false,
            discard_session: false,
            stopping: false,
            counts: Counts::default(),
            lost: None,
        }
    }

    /// Does what is due at `now_ms`. `may_connect` is how many devices may still begin to connect.
    pub fn visit(&mut self, around: &Surroundings, now_ms: u64, may_connect: &mut usize) {
        let there_ms = now_ms.saturating_add_signed(self.oddities.skew_ms);
        let silent = self.is_silent(now_ms);
        self.listen(around, now_ms, there_ms, silent);
        if !silent && !self.stopping {
            self.process.advance(there_ms);
        }
        match &self.link {
            Link::Away { until_ms }
                if now_ms >= *until_ms && *may_connect > 0 && !self.stopping =>
            {
                *may_connect -= 1;
                self.connect(around, now_ms, there_ms);
            }
            Link::Open { breaks_ms, .. } if now_ms >= *breaks_ms && !self.stopping => {
                self.break_off(now_ms, there_ms);
            }
            _ if !silent => self.send(around, there_ms),
            _ => {}
        }
        self.leave_if_done();
    }

    fn is_silent(&self, now_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.born_ms);
        !self.stopping && self.oddities.silent_after_ms.is_some_and(|after_ms| age_ms >= after_ms)
    }

    fn connect(&mut self, around: &Surroundings, now_ms: u64, there_ms: u64) {
        let payload = self.process.post_mut().connect(there_ms);
        let topics = self.process.topics();
        let options = ConnectOptions {
            client_id: format!("latrod-{}-{}", topics.fleet(), topics.device()),
            clean: std::mem::take(&mut self.discard_session),
            will: Some(Will { topic: topics.of(&Kind::Status), payload }),
            ..around.options.clone()
        };
        let connection = Box::new(Connection::open(&options));
        self.link = Link::Open { connection, since_ms: now_ms, up: false, breaks_ms: u64::MAX };
    }

    /// Takes in what has come since the last visit.
    fn listen(&mut self, around: &Surroundings, now_ms: u64, there_ms: u64, silent: bool) {
        loop {
            let signal = match &mut self.link {
                Link::Open { connection, .. } | Link::Leaving { connection } => {
                    connection.try_next()
                }
                _ => None,
            };
            match signal {
                None => return,
                Some(Signal::Up) => self.came_up(now_ms),
                Some(Signal::Acknowledged { token, .. }) => {
                    self.counts.acknowledged += 1;
                    self.process.post_mut().acknowledged(token);
                }
                Some(Signal::Message(message)) => {
                    // Who does not speak does not listen either: the broker keeps the command.
                    if silent || self.stopping {
                        continue;
                    }
                    self.counts.commands += 1;
                    self.process.hear(&around.trust, &message.topic, &message.payload, there_ms);
                    if let Link::Open { connection, .. } = &self.link {
                        // What could not be acknowledged comes again, and is known then.
                        let _ = connection.acknowledge(&message);
                    }
                }
                Some(Signal::Down(lost)) => self.went_down(lost, now_ms),
                Some(Signal::Subscribed { .. } | Signal::Alive) => {}
            }
        }
    }

    fn came_up(&mut self, now_ms: u64) {
        self.counts.reconnects += u64::from(self.was_up);
        (self.was_up, self.lost) = (true, None);
        let lasts_s = self.random.between(CONNECTED_S.0, CONNECTED_S.1);
        let Link::Open { connection, since_ms, up, breaks_ms } = &mut self.link else { return };
        (*since_ms, *up) = (now_ms, true);
        if self.oddities.flaky {
            *breaks_ms = now_ms + (1000.0 * lasts_s) as u64;
        }
        // It fails only if the connection is over already; that is the next thing that is heard.
        let _ = connection.subscribe(&self.process.topics().command_filter());
        self.process.post_mut().came_up();
    }

    fn went_down(&mut self, lost: Lost, now_ms: u64) {
        if let Link::Leaving { .. } = self.link {
            self.link = Link::Left;
            return;
        }
        if let Link::Open { since_ms, up: true, .. } = self.link
            && now_ms.saturating_sub(since_ms) >= GOOD_MS
        {
            self.attempt = 0;
        }
        self.discard_session |= lost.unreadable;
        self.counts.lost += 1;
        self.lost = Some(lost);
        let limit_ms = 1000_u64.saturating_mul(2_u64.saturating_pow(self.attempt));
        self.attempt = self.attempt.saturating_add(1);
        let wait_ms = self.random.whole(0, limit_ms.min(MAX_DELAY_MS));
        self.link = Link::Away { until_ms: now_ms + wait_ms };
    }

    /// Cuts the connection without DISCONNECT, so that the broker publishes the last will.
    fn break_off(&mut self, now_ms: u64, there_ms: u64) {
        let away_s = self.random.between(AWAY_S.0, AWAY_S.1);
        self.counts.lost += 1;
        self.link = Link::Away { until_ms: now_ms + (1000.0 * away_s) as u64 };
        if self.random.chance(POWER_CUTS) {
            self.process.restart(there_ms);
        }
    }

    fn send(&mut self, around: &Surroundings, there_ms: u64) {
        let Link::Open { connection, up: true, .. } = &mut self.link else { return };
        let signed = !around.trust.keys.is_empty();
        while connection.outstanding() < usize::from(MAX_INFLIGHT) {
            let Some(parcel) = self.process.next(there_ms, signed) else { return };
            let topic = self.process.topics().of(&parcel.kind);
            let done = match parcel.token {
                Some(token) => {
                    connection.publish(token, &topic, parcel.retain, parcel.payload, None)
                }
                None => connection.publish_unreliable(&topic, parcel.payload),
            };
            self.counts.sent[topic_index(&parcel.kind)] += u64::from(done);
        }
    }

    /// Begins to leave in good order, if it is there.
    pub fn stop(&mut self, now_ms: u64) {
        self.stopping = true;
        match &self.link {
            Link::Open { up: true, .. } => {
                self.process.stop(now_ms.saturating_add_signed(self.oddities.skew_ms));
            }
            _ => self.link = Link::Away { until_ms: u64::MAX },
        }
    }

    fn leave_if_done(&mut self) {
        if !self.stopping || !self.process.post().is_empty() {
            return;
        }
        match std::mem::replace(&mut self.link, Link::Left) {
            Link::Open { connection, up: true, .. } if connection.outstanding() == 0 => {
                connection.disconnect();
                self.link = Link::Leaving { connection };
            }
            other => self.link = other,
        }
    }

    /// Whether it is on its way out and not there yet.
    pub const fn is_leaving(&self) -> bool {
        matches!(self.link, Link::Open { .. } | Link::Leaving { .. })
    }

    /// Whether it is there.
    pub fn presence(&self, now_ms: u64) -> Presence {
        match self.link {
            Link::Left | Link::Leaving { .. } => Presence::Stopped,
            Link::Open { up: true, .. } if self.is_silent(now_ms) => Presence::Silent,
            Link::Open { up: true, .. } => Presence::Online,
            _ if self.was_up => Presence::Lost,
            _ => Presence::New,
        }
    }

    /// The process that speaks for it.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// What is odd about it.
    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// What it has sent.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Why its last connection ended, if it did so against its will and there is no other yet.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_ref().map(|lost| lost.reason.as_str())
    }
}
