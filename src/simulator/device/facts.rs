//! What is odd about a made-up device, and what can be said of it.

use crate::contract::topics::Kind;

/// What is odd about a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Its connection breaks from time to time.
    pub flaky: bool,
    /// Its clock minus the right time, in milliseconds.
    pub skew_ms: i64,
    /// Another process has its name.
    pub cloned: bool,
    /// It stops speaking when it is this old, in milliseconds.
    pub silent_after_ms: Option<u64>,
}

/// What a device has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages by topic: `status`, `birth`, `state`, `progress`, `event`, `ack`.
    pub sent: [u64; 6],
    /// Messages that the broker has acknowledged.
    pub acknowledged: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Connections that broke or did not come about.
    pub lost: u64,
    /// Commands that came in, again ones included.
    pub commands: u64,
}

/// Whether a device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has not connected yet.
    New,
    /// It is connected and speaks.
    Online,
    /// It is connected and does not speak.
    Silent,
    /// Its connection broke.
    Lost,
    /// It has stopped in good order.
    Stopped,
}

/// Names of the topics, in the order of [`Counts::sent`].
pub const TOPICS: [&str; 6] = ["status", "birth", "state", "progress", "event", "ack"];

/// Where a topic is in [`Counts::sent`].
pub fn topic_index(kind: &Kind) -> usize {
    TOPICS.iter().position(|name| *name == kind.name()).unwrap_or_default()
}
