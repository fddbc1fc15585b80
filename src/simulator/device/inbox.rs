//! Commands that came in, checked as `docs/mqtt.md` says ("What a device checks"), in memory.

use std::collections::VecDeque;

use crate::contract::envelope::Envelope;
use crate::contract::keys::OperatorKeys;
use crate::contract::topics::Topics;
use crate::contract::wire::{Ack, AckState, Action, Command, MAX_AHEAD_S, MAX_LIFE_S};

/// Commands that are remembered, at most. Real devices remember more; made-up ones share one memory.
const MOST: usize = 200;
/// How long an id is kept after its expiry, in seconds.
const KEEP_S: u64 = 86_400;

/// Whose commands are taken.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The operators' keys.
    pub keys: OperatorKeys,
    /// Whether commands without a signature are taken as well.
    pub unsigned: bool,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is to be done; this is its first acknowledgement.
    New {
        /// `received`.
        ack: Ack,
        /// What to do.
        action: Action,
        /// When it is too late for it, in unix seconds.
        expires: u64,
    },
    /// It is known: its last acknowledgement again.
    Again(Ack),
    /// It is refused or has expired, for good.
    Declined(Ack),
    /// It is refused, and the id is not used up.
    TurnedAway(Ack),
    /// It is on no topic of a command.
    Nothing,
}

#[derive(Debug, Clone)]
struct Known {
    ack: Ack,
    expires: u64,
}

/// Commands that are remembered.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    known: VecDeque<Known>,
}

impl Inbox {
    /// Takes in what came on `topic` at `now_s`, in unix seconds by the device's clock.
    pub fn receive(
        &mut self,
        (trust, topics): (&Trust, &Topics),
        topic: &str,
        envelope: &[u8],
        now_s: u64,
    ) -> Receipt {
        let Some(topic) = topics.command(topic) else { return Receipt::Nothing };
        let ack = |state, reason| Ack { command: topic.id.clone(), state, reason };
        let turned_away = |why| Receipt::TurnedAway(ack(AckState::Refused, Some(why)));
        let command = match prove(trust, topics, envelope) {
            Ok(command) if command.id != topic.id => {
                return turned_away("its id is not the one in its topic".to_owned());
            }
            Ok(command) if command.action.name() != topic.action => {
                let name = command.action.name();
                return turned_away(format!(
                    "it was signed as {name}, its topic says another type"
                ));
            }
            Ok(command) => command,
            Err(why) => return turned_away(why),
        };
        if let Some(known) = self.known.iter().find(|known| known.ack.command == command.id) {
            return Receipt::Again(known.ack.clone());
        }
        if !self.has_room(now_s) {
            return turned_away(format!(
                "{MOST} commands are remembered and none has expired for long enough"
            ));
        }
        let (ack, is_new) = match judge(&command, now_s) {
            Ok(()) => (ack(AckState::Received, None), true),
            Err((state, why)) => (ack(state, Some(why)), false),
        };
        let Command { action, expires, .. } = command;
        self.known.push_back(Known { ack: ack.clone(), expires });
        if is_new { Receipt::New { ack, action, expires } } else { Receipt::Declined(ack) }
    }

    /// Remembers how far a command is.
    pub fn note(&mut self, ack: &Ack) {
        let known = self.known.iter_mut().find(|known| known.ack.command == ack.command);
        if let Some(known) = known {
            known.ack = ack.clone();
        }
    }

    /// How far each command is.
    pub fn acks(&self) -> impl Iterator<Item = &Ack> {
        self.known.iter().map(|known| &known.ack)
    }

    fn has_room(&mut self, now_s: u64) -> bool {
        if self.known.len() >= MOST {
            let keeps = |known: &Known| {
                known.expires.saturating_add(KEEP_S) > now_s || !known.ack.state.is_final()
            };
            self.known.retain(keeps);
        }
        self.known.len() < MOST
    }
}

/// The command in an envelope, if it is signed for this device.
fn prove(trust: &Trust, topics: &Topics, envelope: &[u8]) -> Result<Command, String> {
    let payload = Envelope::parse(envelope)?.open(&trust.keys, trust.unsigned)?;
    let command = Command::parse(&payload)?;
    if (command.fleet.as_str(), command.device.as_str()) != (topics.fleet(), topics.device()) {
        return Err("it is for another device".to_owned());
    }
    Ok(command)
}

/// Whether a command is in time.
fn judge(command: &Command, now_s: u64) -> Result<(), (AckState, String)> {
    let &Command { issued, expires, .. } = command;
    if expires <= issued || expires - issued > MAX_LIFE_S {
        let why = format!("it must expire within {MAX_LIFE_S} s after its issue");
        return Err((AckState::Refused, why));
    }
    if issued > now_s.saturating_add(MAX_AHEAD_S) {
        let ahead = issued - now_s;
        let why = format!("it was issued {ahead} s in the future by this device's clock");
        return Err((AckState::Refused, why));
    }
    if now_s >= expires {
        return Err((AckState::Expired, format!("it came {} s too late", now_s - expires)));
    }
    Ok(())
}
