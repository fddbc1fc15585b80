//! The three messages of which only the newest matters: birth, status, state.
//!
//! They live in memory: the broker keeps the last one of each, the daemon sends them again at every
//! connection, and a device whose disk is full must still be able to say so. One message of each
//! topic is in flight at a time; what is set meanwhile replaces what waits.

use serde::Serialize;
use serde_json::Value;

use crate::contract::topics::{Kind, Topics};
use crate::contract::wire::{Head, Message};
use crate::report::ReportError;
use crate::report::outbox::encode;

/// One of the topics, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Who we are.
    Birth,
    /// There or not.
    Status,
    /// What we do.
    State,
}

impl Which {
    const ALL: [Self; 3] = [Self::Birth, Self::Status, Self::State];

    const fn kind(self) -> Kind {
        match self {
            Self::Birth => Kind::Birth,
            Self::Status => Kind::Status,
            Self::State => Kind::State,
        }
    }
}

/// What is to be published on one topic, and how far that is.
#[derive(Debug, Default)]
struct Slot {
    body: Option<Value>,
    /// Still to be sent on this connection.
    due: bool,
    /// Sent and not yet acknowledged.
    on_its_way: bool,
}

/// The retained messages of a device.
#[derive(Debug, Default)]
pub struct Retained {
    slots: [Slot; 3],
}

/// What to publish, retained.
#[derive(Debug)]
pub struct Due {
    /// Which message it is.
    pub which: Which,
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

impl Retained {
    /// Replaces what is published on a topic.
    ///
    /// # Errors
    /// [`ReportError::Json`].
    pub fn set(&mut self, which: Which, body: &impl Serialize) -> Result<(), ReportError> {
        let json = |source| ReportError::Json { topic: format!("{which:?}"), source };
        let body = serde_json::to_value(body).map_err(json)?;
        let slot = self.slot(which);
        slot.body = Some(body);
        slot.due = true;
        Ok(())
    }

    /// A new connection: everything is to be published again.
    pub fn begin(&mut self) {
        for slot in &mut self.slots {
            slot.due = slot.body.is_some();
            slot.on_its_way = false;
        }
    }

    /// The next message to be sent. It counts as on its way until [`Retained::acknowledged`] or
    /// [`Retained::not_sent`]; one that cannot be written is given up with an error.
    pub fn next(&mut self, topics: &Topics, head: Head) -> Option<Result<Due, ReportError>> {
        let ready = |which: &Which| {
            let slot = &self.slots[*which as usize];
            slot.due && !slot.on_its_way
        };
        let which = Which::ALL.into_iter().find(ready)?;
        let slot = self.slot(which);
        slot.due = false;
        let body = slot.body.clone()?;
        let topic = topics.of(&which.kind());
        Some(encode(&topic, &Message { head, body }).map(|payload| {
            self.slot(which).on_its_way = true;
            Due { which, topic, payload }
        }))
    }

    /// The message could not be handed over; it stays due.
    pub fn not_sent(&mut self, which: Which) {
        let slot = self.slot(which);
        slot.due = true;
        slot.on_its_way = false;
    }

    /// The broker has it.
    pub fn acknowledged(&mut self, which: Which) {
        self.slot(which).on_its_way = false;
    }

    /// Whether the broker has the newest of everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| !slot.due && !slot.on_its_way)
    }

    fn slot(&mut self, which: Which) -> &mut Slot {
        &mut self.slots[which as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outbox::head;

    fn next(retained: &mut Retained) -> Option<String> {
        let topics = Topics::new("f", "d").unwrap();
        let due = retained.next(&topics, head("s", 1, 1, 1))?.unwrap();
        let json: Value = serde_json::from_slice(&due.payload).unwrap();
        Some(format!("{} {}", due.topic.rsplit('/').next().unwrap(), json["n"]))
    }

    fn body(n: u32) -> Value {
        serde_json::json!({ "n": n })
    }

    #[test]
    fn only_the_newest_is_said_and_one_at_a_time() {
        let mut retained = Retained::default();
        retained.set(Which::State, &body(1)).unwrap();
        retained.set(Which::State, &body(2)).unwrap();
        assert_eq!(next(&mut retained), Some("state 2".to_owned()));

        retained.set(Which::State, &body(3)).unwrap();
        retained.set(Which::State, &body(4)).unwrap();
        assert_eq!(next(&mut retained), None, "the one before is on its way");

        retained.acknowledged(Which::State);
        assert!(!retained.is_settled());
        assert_eq!(next(&mut retained), Some("state 4".to_owned()));
        retained.acknowledged(Which::State);
        assert!(retained.is_settled());
        assert_eq!(next(&mut retained), None);
    }

    #[test]
    fn a_new_connection_says_everything_again_in_order() {
        let mut retained = Retained::default();
        for which in [Which::State, Which::Birth, Which::Status] {
            retained.set(which, &body(0)).unwrap();
        }
        for _ in 0..2 {
            retained.begin();
            let said: Vec<String> = std::iter::from_fn(|| next(&mut retained)).collect();
            assert_eq!(said, ["birth 0", "status 0", "state 0"]);
        }
    }
}
