//! Commands that came in: checked, written down, and done exactly once, across restarts as well.
//!
//! ```text
//!            ┌─► expired
//!  payload ──┼─► refused            ┌─► failed
//!            └─► received ─► running┴─► done
//! ```
//!
//! Only what an operator has signed for this device and this topic is written down; a stranger can
//! neither fill the table nor use up an id. A command is written down together with its
//! acknowledgement in the outbox, in one transaction, and so is every later step. An id that is known
//! is never acted on again: its last acknowledgement is repeated. Ids are kept until the table is
//! full, and even then until a day after their expiry; rather than forget one too early, the inbox
//! refuses new commands.
//!
//! Knows nothing of MQTT, nor of what a command does.

use rusqlite::{Connection, OptionalExtension, params};

use crate::contract::envelope::Envelope;
use crate::contract::event::Sentence;
use crate::contract::keys::OperatorKeys;
use crate::contract::topics::{CommandTopic, Kind};
use crate::contract::wire::{Ack, AckState, Action, Command, MAX_AHEAD_S, MAX_LIFE_S};
use crate::report::ReportError;
use crate::report::outbox::{Outbox, atomically};

/// The inbox's table. `command` is the command as JSON, without its envelope.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS command (
    number  INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    command BLOB NOT NULL,
    expires INTEGER NOT NULL,
    state   TEXT NOT NULL,
    reason  TEXT
) STRICT;
";

/// Commands that are remembered at most; at some 300 bytes each, half a MiB.
pub const MAX_COMMANDS: u64 = 2000;

/// How long an id is kept after its expiry, in seconds: a day.
pub const KEEP_S: u64 = 86_400;

/// A wall clock before this time (2025-01-01) has not been set: devices without a clock of their
/// own begin in 1970 or when their system was built. Nothing is judged by such a clock.
pub const CLOCK_IS_SET_FROM_S: u64 = 1_735_689_600;

/// A command that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// When it is too late for it, in unix seconds.
    pub expires: u64,
    /// [`AckState::Received`] or, found after a restart, [`AckState::Running`].
    pub state: AckState,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is written down and to be done.
    New(Accepted),
    /// It is known; its last acknowledgement is on its way again.
    Repeated {
        /// How far it is.
        state: AckState,
    },
    /// A signed command that comes too late or cannot be accepted. It is written down as such.
    Declined {
        /// Expired or refused.
        state: AckState,
        /// Why.
        reason: Sentence,
    },
    /// Not from an operator, not a command, or no room: nothing is written down.
    TurnedAway {
        /// Why.
        reason: Sentence,
    },
    /// The device does not know the time yet; ask again later.
    ClockNotSet,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Done; what came of it, if that is worth a sentence.
    Done(Option<Sentence>),
    /// Tried without success.
    Failed(Sentence),
    /// Not tried: it cannot be done here and now.
    Refused(Sentence),
    /// Not tried: its time ran out while it waited.
    Expired,
}

/// Checks commands and keeps their state. See the module's text.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    keys: OperatorKeys,
    allow_unsigned: bool,
    not_before: u64,
}

impl Inbox {
    /// An inbox that takes commands signed by `keys`; with `allow_unsigned` also such without any
    /// signature.
    #[must_use]
    pub const fn new(keys: OperatorKeys, allow_unsigned: bool) -> Self {
        Self { keys, allow_unsigned, not_before: 0 }
    }

    /// Refuses commands issued at `unix_s` or before. With the ledger the known ids were lost, so
    /// that an old command must not pass for a new one: the time at which it was made anew.
    pub const fn refuse_issued_until(&mut self, unix_s: u64) {
        self.not_before = unix_s;
    }

    /// Takes in an envelope that came on a command's topic at the time `now_ms`.
    ///
    /// # Errors
    /// [`ReportError::Ledger`]: nothing was written down; the command must be offered again.
    pub fn receive(
        &self,
        db: &Connection,
        outbox: &Outbox,
        topic: &CommandTopic,
        envelope: &[u8],
        now_ms: u64,
    ) -> Result<Receipt, ReportError> {
        let turned_away = |why: String| Ok(Receipt::TurnedAway { reason: Sentence::new(why) });
        let command = match self.prove(outbox, topic, envelope) {
            Ok(command) => command,
            Err(why) => return turned_away(why),
        };
        if let Some((state, reason)) = look_up(db, &command.id)? {
            repeat_ack(db, outbox, now_ms, Ack { command: command.id, state, reason })?;
            return Ok(Receipt::Repeated { state });
        }
        let now_s = now_ms / 1000;
        if now_s < CLOCK_IS_SET_FROM_S {
            return Ok(Receipt::ClockNotSet);
        }
        if !has_room(db, now_s)? {
            return turned_away(format!(
                "{MAX_COMMANDS} commands are remembered and none has expired for long enough"
            ));
        }
        let (state, reason) = match self.judge(&command, now_s) {
            Ok(()) => (AckState::Received, None),
            Err((state, why)) => (state, Some(Sentence::new(why))),
        };
        write_down(db, outbox, now_ms, &command, state, reason.as_ref())?;
        Ok(match reason {
            Some(reason) => Receipt::Declined { state, reason },
            None => Receipt::New(Accepted {
                id: command.id,
                action: command.action,
                expires: command.expires,
                state,
            }),
        })
    }

    /// The command in an envelope, if an operator has signed it for this device and this topic.
    fn prove(
        &self,
        outbox: &Outbox,
        topic: &CommandTopic,
        envelope: &[u8],
    ) -> Result<Command, String> {
        let payload = Envelope::parse(envelope)?.open(&self.keys, self.allow_unsigned)?;
        let command = Command::parse(&payload)?;
        let topics = outbox.topics();
        if (command.fleet.as_str(), command.device.as_str()) != (topics.fleet(), topics.device()) {
            return Err("it is for another device".to_owned());
        }
        if command.id != topic.id {
            return Err("its id is not the one in its topic".to_owned());
        }
        let name = command.action.name();
        if name != topic.action {
            return Err(format!("it was signed as {name}, its topic says another type"));
        }
        Ok(command)
    }

    /// Whether a proven command is in time.
    fn judge(&self, command: &Command, now_s: u64) -> Result<(), (AckState, String)> {
        let refused = |why: String| Err((AckState::Refused, why));
        let &Command { issued, expires, .. } = command;
        if expires <= issued || expires - issued > MAX_LIFE_S {
            return refused(format!("it must expire within {MAX_LIFE_S} s after its issue"));
        }
        if issued > now_s.saturating_add(MAX_AHEAD_S) {
            let ahead = issued - now_s;
            return refused(format!(
                "it was issued {ahead} s in the future by this device's clock"
            ));
        }
        if now_s >= expires {
            let late = now_s - expires;
            return Err((AckState::Expired, format!("it came {late} s too late")));
        }
        if issued <= self.not_before {
            return refused(
                "it is older than this device's record of commands, which had to be made anew; \
                 give it again"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Marks a command as running.
///
/// # Errors
/// [`ReportError::Transition`] if it has ended or is unknown, [`ReportError::Ledger`].
pub fn start(db: &Connection, outbox: &Outbox, now_ms: u64, id: &str) -> Result<(), ReportError> {
    step(db, outbox, now_ms, id, AckState::Running, None)
}

/// Ends a command. Call it in the transaction that makes the command's effect durable: then both
/// hold after a power cut, or neither.
///
/// # Errors
/// As for [`start`].
pub fn finish(
    db: &Connection,
    outbox: &Outbox,
    now_ms: u64,
    id: &str,
    outcome: CommandOutcome,
) -> Result<(), ReportError> {
    let (state, reason) = match outcome {
        CommandOutcome::Done(what) => (AckState::Done, what),
        CommandOutcome::Failed(why) => (AckState::Failed, Some(why)),
        CommandOutcome::Refused(why) => (AckState::Refused, Some(why)),
        CommandOutcome::Expired => {
            (AckState::Expired, Some(Sentence::new("its time ran out before it was begun")))
        }
    };
    step(db, outbox, now_ms, id, state, reason)
}

/// Commands that were received or running when the daemon ended, in the order of their arrival. One
/// that cannot be read was given under an earlier version of the contract: it is refused.
///
/// # Errors
/// [`ReportError::Ledger`].
pub fn unfinished(
    db: &Connection,
    outbox: &Outbox,
    now_ms: u64,
) -> Result<Vec<Accepted>, ReportError> {
    let mut statement = db.prepare(
        "SELECT id, command, state FROM command WHERE state IN ('received', 'running') \
         ORDER BY number",
    )?;
    let rows = statement.query_map([], |r| {
        Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?, r.get::<_, String>(2)?))
    })?;
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        let (id, payload, state) = row?;
        match (Command::parse(&payload), state_named(&state)) {
            (Ok(Command { action, expires, .. }), Some(state)) => {
                found.push(Accepted { id, action, expires, state });
            }
            (Err(why), _) => unreadable.push((id, why)),
            // The query asks for two states that have names.
            (Ok(_), None) => {}
        }
    }
    for (id, why) in unreadable {
        let why = format!("it was given under another version of the contract: {why}");
        finish(db, outbox, now_ms, &id, CommandOutcome::Refused(Sentence::new(why)))?;
    }
    Ok(found)
}

fn step(
    db: &Connection,
    outbox: &Outbox,
    now_ms: u64,
    id: &str,
    to: AckState,
    reason: Option<Sentence>,
) -> Result<(), ReportError> {
    atomically(db, |db| {
        let from = look_up(db, id)?.map(|(state, _)| state);
        match from {
            Some(from) if from == to => return Ok(()),
            Some(from) if !from.is_final() && to != AckState::Received => {}
            _ => {
                let from = from.map_or("unknown", AckState::name).to_owned();
                return Err(ReportError::Transition { id: id.to_owned(), from, to: to.name() });
            }
        }
        let reason = reason.map(|r| r.as_str().to_owned());
        db.execute(
            "UPDATE command SET state = ?2, reason = ?3 WHERE id = ?1",
            params![id, to.name(), reason],
        )?;
        outbox.ack(db, now_ms, Ack { command: id.to_owned(), state: to, reason })
    })
}

fn write_down(
    db: &Connection,
    outbox: &Outbox,
    now_ms: u64,
    command: &Command,
    state: AckState,
    reason: Option<&Sentence>,
) -> Result<(), ReportError> {
    let reason = reason.map(|r| r.as_str().to_owned());
    let expires = i64::try_from(command.expires).unwrap_or(i64::MAX);
    let payload = command.to_json();
    atomically(db, |db| {
        db.execute(
            "INSERT INTO command (id, command, expires, state, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![command.id, payload, expires, state.name(), reason],
        )?;
        outbox.ack(db, now_ms, Ack { command: command.id.clone(), state, reason })
    })
}

/// Repeats an acknowledgement, unless one for the command waits already: a repeated command must
/// not fill the outbox.
fn repeat_ack(db: &Connection, outbox: &Outbox, now_ms: u64, ack: Ack) -> Result<(), ReportError> {
    let topic = outbox.topics().of(&Kind::Ack(ack.command.clone()));
    let waits = "SELECT EXISTS (SELECT 1 FROM outbox WHERE topic = ?1)";
    if db.query_row(waits, [topic], |r| r.get(0))? {
        return Ok(());
    }
    outbox.ack(db, now_ms, ack)
}

fn look_up(db: &Connection, id: &str) -> Result<Option<(AckState, Option<String>)>, ReportError> {
    let row: Option<(String, Option<String>)> = db
        .query_row("SELECT state, reason FROM command WHERE id = ?1", [id], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    // A state that cannot be read still means that the id is known: it must not act again.
    Ok(row.map(|(state, reason)| (state_named(&state).unwrap_or(AckState::Failed), reason)))
}

fn state_named(name: &str) -> Option<AckState> {
    AckState::ALL.into_iter().find(|state| state.name() == name)
}

/// Whether another command can be written down; forgets old ones only if the table is full.
fn has_room(db: &Connection, now_s: u64) -> Result<bool, ReportError> {
    let count = || db.query_row("SELECT count(*) FROM command", [], |r| r.get::<_, i64>(0));
    if count()?.unsigned_abs() < MAX_COMMANDS {
        return Ok(true);
    }
    let long_expired = i64::try_from(now_s.saturating_sub(KEEP_S)).unwrap_or(i64::MAX);
    db.execute(
        "DELETE FROM command WHERE expires < ?1 AND state NOT IN ('received', 'running')",
        [long_expired],
    )?;
    Ok(count()?.unsigned_abs() < MAX_COMMANDS)
}

#[cfg(test)]
mod tests;
