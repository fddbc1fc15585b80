//! The newest message of a topic.

use crate::contract::wire::Head;

/// A message's place among those of its device: messages of a later connection are newer, and within one
/// connection those with a larger number (`docs/mqtt.md`, "The head").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the connection.
    pub connection: u64,
    /// Number of the message in its stream.
    pub seq: u64,
}

impl From<&Head> for Place {
    fn from(head: &Head) -> Self {
        Self { connection: head.connection, seq: head.seq }
    }
}

/// What a topic says at last, if anything.
#[derive(Debug, Clone)]
pub struct Told<T> {
    newest: Option<Newest<T>>,
}

#[derive(Debug, Clone)]
struct Newest<T> {
    place: Place,
    at_ms: u64,
    sent_ms: u64,
    body: T,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { newest: None }
    }
}

impl<T> Told<T> {
    /// Whether a message in this place would be newer than what is known.
    pub fn would_take(&self, place: Place) -> bool {
        self.newest.as_ref().is_none_or(|newest| newest.place < place)
    }

    /// Keeps a message that is newer than what is known.
    pub fn take(&mut self, head: &Head, at_ms: u64, body: T) {
        let place = Place::from(head);
        self.newest = Some(Newest { place, at_ms, sent_ms: head.time_ms, body });
    }

    /// What it says.
    pub fn body(&self) -> Option<&T> {
        self.newest.as_ref().map(|newest| &newest.body)
    }

    /// When it arrived, by the dashboard's clock.
    pub fn at_ms(&self) -> Option<u64> {
        self.newest.as_ref().map(|newest| newest.at_ms)
    }

    /// When it was sent, by the device's clock.
    pub fn sent_ms(&self) -> Option<u64> {
        self.newest.as_ref().map(|newest| newest.sent_ms)
    }

    /// Lets the next message count as newer, whatever its place.
    pub fn forget_place(&mut self) {
        if let Some(newest) = &mut self.newest {
            newest.place = Place::default();
        }
    }
}
