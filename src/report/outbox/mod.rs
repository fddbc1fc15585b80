//! The durable outbox: messages that must arrive, kept in the ledger until the broker has
//! acknowledged them.
//!
//! ```text
//!  enqueue ──► row ──► peek ──► sent ──► PUBACK ──► delete
//!               ▲                  │
//!               └── connection lost┘   (rows are sent again, with the same message id)
//! ```
//!
//! Two classes: events, of which the oldest give way when the outbox is full (counted, and the count
//! is kept), and acknowledgements of commands, which never give way; their number is bounded by
//! that of the commands. The retained messages (status, birth, state) don't pass through here:
//! only the newest of each matters, the daemon sends it again at every start and connection, and
//! must be able to when the disk is full (see [`crate::report::mqtt::Link`]).
//!
//! All functions work inside the caller's transaction if there is one, so that a message is
//! written together with the change that it tells of, or not at all. Knows nothing of MQTT.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::contract::event::Event;
use crate::contract::topics::{Kind, Topics};
use crate::contract::wire::{Ack, EventMessage, Head, MAX_PAYLOAD_BYTES, Message, VERSION};
use crate::report::ReportError;

/// The outbox's tables. `stream` names this ledger: after a ledger was lost, numbers begin anew
/// under another name, so that ids stay unique. `connection` is the number of the last one.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS outbox (
    seq     INTEGER PRIMARY KEY,
    class   INTEGER NOT NULL,
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_state (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    stream   TEXT NOT NULL,
    next_seq INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    dropped  INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO outbox_state VALUES (1, lower(hex(randomblob(4))), 1, 0, 0, 0, 0);
CREATE TRIGGER IF NOT EXISTS outbox_in AFTER INSERT ON outbox BEGIN
    UPDATE outbox_state SET messages = messages + 1, bytes = bytes + length(NEW.payload);
END;
CREATE TRIGGER IF NOT EXISTS outbox_out AFTER DELETE ON outbox BEGIN
    UPDATE outbox_state SET messages = messages - 1, bytes = bytes - length(OLD.payload);
END;
";

/// What may wait at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: u64,
    /// Bytes of all payloads together.
    pub bytes: u64,
}

/// How a message is treated when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    /// The oldest ones give way.
    Event = 0,
    /// Never gives way.
    Ack = 1,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the outbox; larger ones came later.
    pub seq: i64,
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// What the outbox holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Events that gave way since the ledger was made.
    pub dropped: u64,
}

/// Writes messages into the outbox, with everything that is the same for all of them.
#[derive(Debug, Clone)]
pub struct Outbox {
    topics: Topics,
    limits: Limits,
    connection: u64,
}

impl Outbox {
    /// An outbox for a device's topics.
    #[must_use]
    pub const fn new(topics: Topics, limits: Limits) -> Self {
        Self { topics, limits, connection: 0 }
    }

    /// The device's topics.
    #[must_use]
    pub const fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The number of the connection that messages say they were made during.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// Numbers a new connection: one more than the last, and no less than the time in unix seconds,
    /// so that numbers grow even when the ledger was lost. Without a ledger the number is kept in
    /// memory only.
    ///
    /// # Errors
    /// [`ReportError::Ledger`] if the number could not be kept; it counts all the same.
    pub fn begin_connection(
        &mut self,
        db: Option<&Connection>,
        now_s: u64,
    ) -> Result<u64, ReportError> {
        self.connection = (self.connection + 1).max(now_s);
        let Some(db) = db else { return Ok(self.connection) };
        let last: i64 = db.query_row("SELECT connection FROM outbox_state", [], |r| r.get(0))?;
        self.connection = self.connection.max(u64::try_from(last).unwrap_or(0).saturating_add(1));
        let kept = i64::try_from(self.connection).unwrap_or(i64::MAX);
        db.execute("UPDATE outbox_state SET connection = ?1", [kept])?;
        Ok(self.connection)
    }

    /// Enqueues an event; the oldest events give way if the outbox is full.
    ///
    /// # Errors
    /// [`ReportError::Ledger`], [`ReportError::TooLarge`].
    pub fn event(&self, db: &Connection, now_ms: u64, event: &Event) -> Result<(), ReportError> {
        let topic = self.topics.of(&Kind::Event);
        self.enqueue(db, Class::Event, topic, now_ms, EventMessage::from(event))
    }

    /// Enqueues the acknowledgement of a command.
    ///
    /// # Errors
    /// As for [`Outbox::event`].
    pub fn ack(&self, db: &Connection, now_ms: u64, ack: Ack) -> Result<(), ReportError> {
        let topic = self.topics.of(&Kind::Ack(ack.command.clone()));
        self.enqueue(db, Class::Ack, topic, now_ms, ack)
    }

    fn enqueue<T: Serialize>(
        &self,
        db: &Connection,
        class: Class,
        topic: String,
        now_ms: u64,
        body: T,
    ) -> Result<(), ReportError> {
        atomically(db, |db| {
            let (stream, seq): (String, i64) = db
                .prepare(
                    "UPDATE outbox_state SET next_seq = next_seq + 1
                     RETURNING stream, next_seq - 1",
                )?
                .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))?;
            let head = head(&stream, seq.unsigned_abs(), self.connection, now_ms);
            let payload = encode(&topic, &Message { head, body })?;
            db.prepare("INSERT INTO outbox (seq, class, topic, payload) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![seq, class as u8, topic, payload])?;
            make_room(db, self.limits)
        })
    }
}

/// The head of message `seq` of `stream`.
#[must_use]
pub fn head(stream: &str, seq: u64, connection: u64, time_ms: u64) -> Head {
    Head { v: VERSION, id: format!("{stream}-{seq}"), connection, seq, time_ms }
}

/// A message as JSON.
///
/// # Errors
/// [`ReportError::TooLarge`] over [`MAX_PAYLOAD_BYTES`], [`ReportError::Json`].
pub fn encode<T: Serialize>(topic: &str, message: &Message<T>) -> Result<Vec<u8>, ReportError> {
    let payload = serde_json::to_vec(message)
        .map_err(|source| ReportError::Json { topic: topic.to_owned(), source })?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        let (bytes, topic) = (payload.len(), topic.to_owned());
        return Err(ReportError::TooLarge { bytes, topic, limit: MAX_PAYLOAD_BYTES });
    }
    Ok(payload)
}

/// Drops the oldest events until the limits hold, or no event is left.
fn make_room(db: &Connection, limits: Limits) -> Result<(), ReportError> {
    loop {
        let Counts { messages, bytes, .. } = counts(db)?;
        if messages <= limits.messages && bytes <= limits.bytes {
            return Ok(());
        }
        let oldest = "DELETE FROM outbox WHERE seq =
            (SELECT seq FROM outbox WHERE class = ?1 ORDER BY seq LIMIT 1)";
        if db.prepare(oldest)?.execute([Class::Event as u8])? == 0 {
            return Ok(());
        }
        db.prepare("UPDATE outbox_state SET dropped = dropped + 1")?.execute([])?;
    }
}

/// The next `limit` messages after number `after`, in the order in which they were enqueued.
///
/// # Errors
/// [`ReportError::Ledger`].
pub fn peek(db: &Connection, after: i64, limit: usize) -> Result<Vec<Waiting>, ReportError> {
    let mut statement =
        db.prepare("SELECT seq, topic, payload FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, limit], |r| {
        Ok(Waiting { seq: r.get(0)?, topic: r.get(1)?, payload: r.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes messages that the broker has acknowledged. Numbers that are gone already are ignored.
///
/// # Errors
/// [`ReportError::Ledger`]; then none was removed.
pub fn delete(db: &Connection, seqs: impl IntoIterator<Item = i64>) -> Result<(), ReportError> {
    atomically(db, |db| {
        let mut statement = db.prepare("DELETE FROM outbox WHERE seq = ?1")?;
        for seq in seqs {
            statement.execute([seq])?;
        }
        Ok(())
    })
}

/// What the outbox holds.
///
/// # Errors
/// [`ReportError::Ledger`].
pub fn counts(db: &Connection) -> Result<Counts, ReportError> {
    let row = db
        .prepare("SELECT messages, bytes, dropped FROM outbox_state")?
        .query_row([], |r| Ok([r.get::<_, i64>(0)?, r.get(1)?, r.get(2)?]))
        .optional()?;
    let [messages, bytes, dropped] = row.unwrap_or_default().map(i64::unsigned_abs);
    Ok(Counts { messages, bytes, dropped })
}

/// Does all of `work` or nothing, within the caller's transaction if one is open.
///
/// # Errors
/// Those of `work`, and [`ReportError::Ledger`].
pub(super) fn atomically<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, ReportError>,
) -> Result<T, ReportError> {
    db.execute_batch("SAVEPOINT report")?;
    let result = work(db).and_then(|value| {
        db.execute_batch("RELEASE report")?;
        Ok(value)
    });
    if result.is_err() {
        // A failed write may have ended the whole transaction; then there is nothing to undo.
        let _ = db.execute_batch("ROLLBACK TO report; RELEASE report");
    }
    result
}

#[cfg(test)]
mod tests;
