//! Operators' commands. Each changes what the daemon remembers in the same transaction as its own
//! state, so that it acts once, whenever the power goes.

use super::{Driver, wall};
use crate::config::Config;
use crate::contract::event::Sentence;
use crate::contract::wire::{AckState, Action};
use crate::daemon::memory::{Remembered, Wishes};
use crate::daemon::trouble::Trouble;
use crate::report::inbox::{Accepted, CLOCK_IS_SET_FROM_S, CommandOutcome};

impl Driver {
    /// Does a command, or begins to.
    pub(super) fn command(&mut self, command: &Accepted) {
        log::info!(event = "command", command = command.action.name(); "command {}: {}", command.id, command.action.name());
        let id = command.id.as_str();
        let mut wishes = self.wishes.clone();
        match &command.action {
            Action::Pause => {
                wishes.paused = true;
                self.wish(id, wishes, Some(CommandOutcome::Done(None)));
            }
            Action::Resume => {
                wishes.paused = false;
                self.wish(id, wishes, Some(CommandOutcome::Done(None)));
            }
            Action::TrainNow => {
                if let Some(other) = wishes.train_now.replace(id.to_owned()) {
                    self.supersede(&other);
                }
                self.wish(id, wishes, None);
                self.answer_train_now();
            }
            Action::Check => {
                if let Some(other) = wishes.check_now.replace(id.to_owned()) {
                    self.supersede(&other);
                }
                self.wish(id, wishes, None);
                self.answer_check_now();
            }
            Action::Promote { version } => {
                let done = self.promote_by_hand(version);
                self.finish_with(id, done);
            }
            Action::Rollback => {
                let versions = self.storage.versions.as_ref();
                let active = versions.and_then(|versions| versions.active().ok().flatten());
                let Some(active) = active else {
                    let why = Sentence::new("no adapter is active");
                    return self.finish_wish(id, CommandOutcome::Refused(why));
                };
                wishes.roll_back = Some((active.to_string(), id.to_owned()));
                self.wish(id, wishes, None);
                self.complete_roll_back();
            }
            Action::Set { key, value } => {
                let said = if value.is_empty() {
                    wishes.settings.remove(key);
                    format!("{key} is what the file says from now on")
                } else {
                    wishes.settings.insert(key.clone(), value.clone());
                    format!("{key} is {value} from now on")
                };
                match self.with_settings(&wishes) {
                    Ok(_) => {
                        let said = Sentence::new(said);
                        self.wish(id, wishes, Some(CommandOutcome::Done(Some(said))));
                        self.apply_settings();
                    }
                    Err(why) => self.finish_wish(id, CommandOutcome::Refused(Sentence::new(why))),
                }
            }
            Action::RestoreTasks => {
                let now = wall();
                let (rebuilt, restored) =
                    self.storage.with_spool(now, |spool, ledger| spool.take_back_all(ledger));
                self.note_rebuilt(rebuilt);
                if let Some(tasks) = restored.and_then(|restored| self.check(restored)) {
                    let said = Sentence::new(format!("{tasks} tasks are back"));
                    self.finish_wish(id, CommandOutcome::Done(Some(said)));
                    self.count_tasks();
                }
            }
        }
    }

    /// Keeps the wishes together with the command's state: ended as `outcome` says, or running.
    fn wish(&mut self, id: &str, wishes: Wishes, outcome: Option<CommandOutcome>) {
        let teller = &self.teller;
        let now = wall();
        let (rebuilt, kept) = self.storage.with_ledger(now, |ledger| {
            ledger.transaction(|_| {
                wishes.keep(ledger)?;
                match outcome.clone() {
                    Some(outcome) => teller.finish(ledger, id, outcome),
                    None => teller.start(ledger, id),
                }
            })
        });
        self.note_rebuilt(rebuilt);
        if self.check(kept).is_some() {
            self.wishes = wishes;
            self.publish_state();
        }
    }

    /// Ends a command, together with the wishes as they are now.
    pub(super) fn finish_wish(&mut self, id: &str, outcome: CommandOutcome) {
        let wishes = self.wishes.clone();
        self.wish(id, wishes, Some(outcome));
    }

    fn finish_with(&mut self, id: &str, done: Result<Sentence, Trouble>) {
        let outcome = match done {
            Ok(said) => CommandOutcome::Done(Some(said)),
            Err(trouble) => CommandOutcome::Failed(Sentence::new(trouble.sentence)),
        };
        self.finish_wish(id, outcome);
    }

    /// Ends a command in whose place a newer one waits.
    fn supersede(&mut self, id: &str) {
        self.finish_wish(
            id,
            CommandOutcome::Failed(Sentence::new("a newer command took its place")),
        );
    }

    /// Activates a version that somebody has chosen.
    fn promote_by_hand(&mut self, version: &str) -> Result<Sentence, Trouble> {
        use crate::daemon::faults::FaultKind::Settings;
        let id = version.parse().map_err(|e| Trouble::new(Settings, e))?;
        let Some(versions) = &mut self.storage.versions else {
            return Err(Trouble::new(Settings, "the adapters' folder is not open"));
        };
        let chosen = versions.get(id)?;
        let base = &chosen.manifest.adapter.base_sha256;
        if !self.model.sha256.is_empty() && *base != self.model.sha256 {
            let why = format!("version {id} was learned on another model");
            return Err(Trouble::new(Settings, why));
        }
        let previous = versions.active()?.map(|id| id.to_string());
        versions.reinstate(id)?;
        versions.activate(id)?;
        self.adapter_switched(previous, "an operator has chosen it")?;
        Ok(Sentence::new(format!("version {id} is active")))
    }

    /// Takes the version back that a command has named, once.
    pub(super) fn complete_roll_back(&mut self) {
        let Some((version, id)) = self.wishes.roll_back.clone() else { return };
        let done = self.roll_back(&version, "an operator has taken it back");
        self.wishes.roll_back = None;
        let done = done.map(|()| Sentence::new(format!("{version} was taken back")));
        self.finish_with(&id, done);
    }

    /// A check was asked for where there is nothing to check.
    pub(super) fn answer_check_now(&mut self) {
        if self.judged.version.is_none() || self.fresh_held_out == 0 {
            let Some(id) = self.wishes.check_now.take() else { return };
            let why = match self.judged.version {
                None => "no adapter is active that could be checked",
                Some(_) => "no held-out tasks have come since the last check",
            };
            self.finish_wish(&id, CommandOutcome::Failed(Sentence::new(why)));
        }
    }

    /// After a start: what became of the commands that were in hand.
    pub(super) fn reconcile_commands(&mut self) {
        self.complete_roll_back();
        let completed = self.complete_check();
        self.check(completed);
        self.answer_train_now();
        let teller = &self.teller;
        let now = wall();
        let (rebuilt, open) = self.storage.with_ledger(now, |ledger| teller.unfinished(ledger));
        self.note_rebuilt(rebuilt);
        let open = self.check(open);
        for command in open.unwrap_or_default() {
            let waits = [&self.wishes.train_now, &self.wishes.check_now]
                .into_iter()
                .any(|wish| wish.as_deref() == Some(&command.id));
            // Whatever is running and not among the wishes has no effect yet: effects are kept in the
            // same transaction as the end.
            let late = u64::try_from(now)
                .is_ok_and(|now| now >= CLOCK_IS_SET_FROM_S && now >= command.expires);
            if command.state == AckState::Received && late {
                self.finish_wish(&command.id, CommandOutcome::Expired);
            } else if !waits || command.state == AckState::Received {
                self.command(&command);
            }
        }
    }

    /// The file's settings with these wishes over them.
    fn with_settings(&self, wishes: &Wishes) -> Result<Config, String> {
        self.start.config.with(&wishes.settings)
    }

    /// Puts the operator's settings over the file's, and everything to work with the result.
    pub(super) fn apply_settings(&mut self) {
        let config = match self.with_settings(&self.wishes) {
            Ok(config) => config,
            Err(why) => {
                log::error!(event = "settings_refused"; "the operator's settings don't fit the file's any more: {why}");
                self.start.config.clone()
            }
        };
        self.use_config(config);
    }
}
