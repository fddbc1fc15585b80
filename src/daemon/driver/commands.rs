//! Commands and the broker's other news, carried out.

use super::promotion::published;
use super::{Driver, wall};
use crate::contract::event::Event as Told;
use crate::daemon::effect::{CommandEffect, CommandStep};
use crate::daemon::operator::{Facts, Leftover, ended};
use crate::daemon::storage::StorageError;
use crate::report::ReportError;
use crate::report::inbox::{Accepted, CommandOutcome};
use crate::report::mqtt::LinkEvent;
use crate::store::ledger::LedgerError;

impl Driver {
    /// Acts on what the link has to say.
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Command(command) => self.command(&command),
            LinkEvent::Refused { reason } => self.tell(Told::CommandRefused { reason }),
            LinkEvent::LedgerFailed(ReportError::Ledger(error)) => {
                let error = LedgerError::from(error);
                if error.is_corrupt() {
                    // Found again, and mended, by the next use of the ledger.
                    self.count_tasks();
                } else {
                    self.ok_or_raise::<(), _>(Err(error));
                }
            }
            LinkEvent::Connected { .. } => log::info!(event = "connected"; "{event}"),
            LinkEvent::Disconnected { .. } => log::info!(event = "disconnected"; "{event}"),
            other => log::warn!("{other}"),
        }
    }

    /// Does a command, or begins to.
    fn command(&mut self, command: &Accepted) {
        log::info!(event = "command", command = command.action.name(); "command {}: {}", command.id, command.action.name());
        let versions = self.storage.versions.as_ref();
        let active = versions.and_then(|versions| versions.active().ok().flatten());
        let active = active.map(|id| id.to_string());
        let settings = &self.settings;
        let facts = Facts {
            active: active.as_deref(),
            settings: &|overrides| settings.with(overrides).map(|_| ()),
        };
        let effects = self.operator.command(command, &facts);
        self.perform(effects);
    }

    pub(super) fn apply_to_command(&mut self, effect: CommandEffect) -> Result<(), StorageError> {
        match effect {
            CommandEffect::AnswerTrainNow => {
                let Some(cycle) = &self.storage.cycle else { return Ok(()) };
                let effects = self.operator.cycle_began(cycle.record.number);
                self.carry_out(effects)
            }
            CommandEffect::AnswerCheck => {
                let Err(why) = self.adapters.can_check() else { return Ok(()) };
                let effects = self.operator.nothing_to_check(why);
                self.carry_out(effects)
            }
            CommandEffect::RollBack => self.roll_back_on_command(),
            CommandEffect::Promote { id, version } => {
                let step = match self.promote_on_command(&version) {
                    Ok(()) => CommandStep::done(&id, &format!("version {version} is active")),
                    Err(why) => CommandStep::failed(&id, &why),
                };
                self.carry_out(ended(None, step))
            }
            CommandEffect::RestoreTasks { id } => {
                let restored =
                    self.with_spool(|spool, ledger| spool.take_back_all(ledger)).transpose()?;
                let Some(tasks) = restored else { return Ok(()) };
                let step = CommandStep::done(&id, &format!("{tasks} tasks are back"));
                self.carry_out(ended(None, step))?;
                self.count_tasks();
                Ok(())
            }
            CommandEffect::ApplySettings => {
                self.apply_settings();
                Ok(())
            }
        }
    }

    /// Rolls back the version that a command has named, once.
    fn roll_back_on_command(&mut self) -> Result<(), StorageError> {
        let Some((version, _)) = self.operator.state().roll_back.clone() else { return Ok(()) };
        let done = self.roll_back(&version, "an operator has rolled it back");
        let effects = self.operator.rolled_back(done.map_err(|error| error.sentence));
        self.carry_out(effects)
    }

    /// Activates a version that an operator has chosen.
    fn promote_on_command(&mut self, version: &str) -> Result<(), String> {
        let id = version.parse().map_err(|e: crate::store::versions::NotAVersion| e.to_string())?;
        let Some(versions) = &mut self.storage.versions else {
            return Err("the adapters' folder is not open".to_owned());
        };
        let sentence = |error: crate::store::versions::VersionError| error.to_string();
        let chosen = versions.get(id).map_err(sentence)?;
        let known = &self.supervisor.model.known.sha256;
        if !known.is_empty() && chosen.manifest.adapter.base_sha256 != *known {
            return Err(format!("version {id} was learned on another model"));
        }
        let previous = versions.active().map_err(|e| e.to_string())?.map(|id| id.to_string());
        versions.reinstate(id).map_err(sentence)?;
        let version = versions.activate(id).map_err(sentence)?;
        let waited = self.adapters.active.awaiting.as_ref();
        let switched = match waited.filter(|waited| waited.version == id.to_string()) {
            Some(waited) => {
                // After a kill between the switch and this, the ledger still knows what was active before.
                let parent = self.adapters.active.version.clone();
                let effects = self.cycles.approved(waited, &published(&version), parent);
                self.carry_out(effects)
            }
            None => self.adapter_switched(previous, "an operator has chosen it"),
        };
        switched.map_err(|error| error.sentence)
    }

    /// After a start: what becomes of the commands that were in hand.
    pub(super) fn resume_commands(&mut self) {
        let done = self.roll_back_on_command();
        self.ok_or_raise(done);
        let completed = self.complete_check();
        self.ok_or_raise(completed);
        self.perform(vec![CommandEffect::AnswerTrainNow.into()]);
        let (reporter, now) = (&self.reporter, wall());
        let (rebuilt, open) = self.storage.with_ledger(now, |ledger| reporter.unfinished(ledger));
        self.note_rebuilt(rebuilt);
        for command in self.ok_or_raise(open).unwrap_or_default() {
            match self.operator.leftover(&command, now) {
                Leftover::Waits => {}
                Leftover::Do => self.command(&command),
                Leftover::Expired => {
                    let step = CommandStep::Ended(command.id.clone(), CommandOutcome::Expired);
                    self.perform(ended(None, step));
                }
            }
        }
    }
}
