//! Operators' commands: what each changes, and when it has ended.
//!
//! Each command changes what the daemon remembers in the same transaction as its own state, so that it
//! acts once, whenever the power goes. Knows nothing of brokers and signatures: a command that arrives
//! here is to be done.

mod state;

use std::collections::BTreeMap;

pub use state::{OperatorChange, OperatorState};

use crate::contract::wire::{AckState, Action};
use crate::daemon::effect::{CommandEffect, CommandStep, Commit, Effect};
use crate::report::inbox::{Accepted, CLOCK_IS_SET_FROM_S, CommandOutcome};

/// What operators have asked for.
#[derive(Debug, Default)]
pub struct Operator {
    state: OperatorState,
}

/// Settings that override the file's, by dotted name.
type Overrides = BTreeMap<String, String>;

/// What a command's effect depends on.
pub struct Facts<'a> {
    /// The active version of the adapter.
    pub active: Option<&'a str>,
    /// Whether settings that override the file's can be used; if not, why.
    pub settings: &'a dyn Fn(&Overrides) -> Result<(), String>,
}

/// What becomes of a command that an earlier start of the daemon has left unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Its time ran out.
    Expired,
    /// It is done now: none of its effect was kept.
    Do,
    /// It waits for what it has asked for.
    Waits,
}

impl Operator {
    /// What operators have asked for.
    #[must_use]
    pub const fn state(&self) -> &OperatorState {
        &self.state
    }

    /// Takes over what the ledger remembers, or has just written.
    pub fn set(&mut self, state: OperatorState) {
        self.state = state;
    }

    /// Does a command, or begins to.
    #[must_use]
    pub fn command(&self, command: &Accepted, facts: &Facts<'_>) -> Vec<Effect> {
        let id = command.id.as_str();
        match &command.action {
            Action::Pause => done(id, OperatorChange::Paused(true)),
            Action::Resume => done(id, OperatorChange::Paused(false)),
            Action::TrainNow => {
                let change = OperatorChange::TrainNow(Some(id.to_owned()));
                let mut effects = started(id, change, self.state.train_now.as_deref());
                effects.push(CommandEffect::AnswerTrainNow.into());
                effects
            }
            Action::Check => {
                let change = OperatorChange::Check(Some(id.to_owned()));
                let mut effects = started(id, change, self.state.check.as_deref());
                effects.push(CommandEffect::AnswerCheck.into());
                effects
            }
            Action::Promote { version } => {
                vec![CommandEffect::Promote { id: id.into(), version: version.clone() }.into()]
            }
            Action::Rollback => match facts.active {
                Some(active) => {
                    let version = Some((active.to_owned(), id.to_owned()));
                    let mut effects = started(id, OperatorChange::RollBack(version), None);
                    effects.push(CommandEffect::RollBack.into());
                    effects
                }
                None => ended(None, CommandStep::refused(id, "no adapter is active")),
            },
            Action::Set { key, value } => self.set_setting(id, key, value, facts),
            Action::RestoreTasks => vec![CommandEffect::RestoreTasks { id: id.into() }.into()],
        }
    }

    fn set_setting(&self, id: &str, key: &str, value: &str, facts: &Facts<'_>) -> Vec<Effect> {
        let (value, said) = if value.is_empty() {
            (None, format!("{key} is what the file says from now on"))
        } else {
            (Some(value.to_owned()), format!("{key} is {value} from now on"))
        };
        let change = OperatorChange::Setting(key.to_owned(), value);
        match (facts.settings)(&self.state.with(change.clone()).settings) {
            Ok(()) => {
                let mut effects = ended(Some(change), CommandStep::done(id, &said));
                effects.push(CommandEffect::ApplySettings.into());
                effects
            }
            Err(why) => ended(None, CommandStep::refused(id, &why)),
        }
    }

    /// A cycle is in progress: the command that has asked for one is done.
    #[must_use]
    pub fn cycle_began(&self, number: u64) -> Vec<Effect> {
        let Some(id) = &self.state.train_now else { return Vec::new() };
        let step = CommandStep::done(id, &format!("cycle {number} has begun"));
        ended(Some(OperatorChange::TrainNow(None)), step)
    }

    /// There is nothing to check: the command that has asked for a check has failed.
    #[must_use]
    pub fn nothing_to_check(&self, why: &str) -> Vec<Effect> {
        let Some(id) = &self.state.check else { return Vec::new() };
        ended(Some(OperatorChange::Check(None)), CommandStep::failed(id, why))
    }

    /// What was asked to be rolled back was, or (`Err`) could not be.
    #[must_use]
    pub fn rolled_back(&self, outcome: Result<(), String>) -> Vec<Effect> {
        let Some((version, id)) = &self.state.roll_back else { return Vec::new() };
        let step = match outcome {
            Ok(()) => CommandStep::done(id, &format!("{version} was rolled back")),
            Err(why) => CommandStep::failed(id, &why),
        };
        ended(Some(OperatorChange::RollBack(None)), step)
    }

    /// What becomes of a command that was left unfinished, at unix time `now`.
    ///
    /// One that runs and that nothing waits for has had no effect yet: effects are kept in the same
    /// transaction as the end.
    #[must_use]
    pub fn leftover(&self, command: &Accepted, now: i64) -> Leftover {
        let waits = [&self.state.train_now, &self.state.check]
            .into_iter()
            .any(|waiting| waiting.as_deref() == Some(&command.id));
        let late = u64::try_from(now)
            .is_ok_and(|now| now >= CLOCK_IS_SET_FROM_S && now >= command.expires);
        match command.state {
            AckState::Received if late => Leftover::Expired,
            AckState::Received => Leftover::Do,
            _ if waits => Leftover::Waits,
            _ => Leftover::Do,
        }
    }
}

/// A command ends, with what it changes.
#[must_use]
pub fn ended(change: Option<OperatorChange>, step: CommandStep) -> Vec<Effect> {
    let commit = Commit { operator: change, commands: vec![step], ..Commit::default() };
    vec![commit.into(), Effect::PublishState]
}

/// A command is done at once, with nothing to say.
fn done(id: &str, change: OperatorChange) -> Vec<Effect> {
    ended(Some(change), CommandStep::Ended(id.to_owned(), CommandOutcome::Done(None)))
}

/// A command runs, in the place of `other`.
fn started(id: &str, change: OperatorChange, other: Option<&str>) -> Vec<Effect> {
    let superseded =
        other.map(|other| CommandStep::failed(other, "a newer command took its place"));
    let started = CommandStep::Started(id.to_owned());
    let commands = superseded.into_iter().chain([started]).collect();
    vec![
        Commit { operator: Some(change), commands, ..Commit::default() }.into(),
        Effect::PublishState,
    ]
}

#[cfg(test)]
mod tests;
