//! What the driver tells: to the journal, the fleet, the service manager, and whoever asks.

use std::time::Duration;

use super::Driver;
use super::teller::numbers;
use crate::contract::event::{Event, Sentence};
use crate::contract::wire;
use crate::daemon::hook::{HookEvent, HookKind, HookOutcome, HookResult};
use crate::daemon::memory::{HookDue, Remembered};
use crate::daemon::scheduler::{State, WorkerState};
use crate::daemon::status::{
    BrokerStatus, CycleStatus, ModelStatus, Status, TaskStatus, WorkerStatus,
};
use crate::daemon::storage::Rebuilt;
use crate::daemon::trouble::Trouble;
use crate::report::ReportError;
use crate::report::mqtt::LinkEvent;
use crate::store::ledger::LedgerError;

impl Driver {
    /// Tells the journal and the fleet.
    pub(super) fn tell(&mut self, event: Event) {
        self.teller.event(self.storage.ledger.as_ref(), &event);
    }

    /// Acts on what the broker has said.
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Command(command) => self.command(&command),
            LinkEvent::Refused { reason } => self.tell(Event::CommandRefused { reason }),
            LinkEvent::LedgerFailed(ReportError::Ledger(error)) => {
                let error = LedgerError::from(error);
                if error.is_corrupt() {
                    // Found again, and mended, by the next one who uses the ledger.
                    self.count_tasks();
                } else {
                    self.trouble(Trouble::from(error));
                }
            }
            LinkEvent::Connected { .. } => log::info!(event = "connected"; "{event}"),
            LinkEvent::Disconnected { .. } => log::info!(event = "disconnected"; "{event}"),
            other => log::warn!("{other}"),
        }
    }

    pub(super) fn tell_rebuilt(&mut self, rebuilt: Rebuilt) {
        if let Some(ledger) = &self.storage.ledger
            && let Ok(Some(at)) = ledger.rebuilt_at()
        {
            self.teller.refuse_issued_until(u64::try_from(at).unwrap_or(0));
        }
        let Rebuilt { set_aside, tasks } = rebuilt;
        self.tell(Event::LedgerRebuilt { set_aside, tasks });
    }

    pub(super) fn tell_intake(&mut self, intake: &crate::intake::ScanReport) {
        let count = intake.train + intake.held_out;
        if count > 0 || intake.rejected > 0 {
            self.tell(Event::TasksTaken { count, rejected: intake.rejected });
        }
        for problem in &intake.problems {
            log::warn!(event = "spool_trouble"; "{}: {}", problem.file, problem.reason);
        }
        if intake.rejected > 0 {
            let (lines, files) = (intake.rejected, intake.files);
            self.tell(Event::LinesQuarantined { lines, files });
        }
    }

    /// Makes sure that `current` is sound; a damaged version gives way to its newest sound ancestor.
    pub(super) fn repair_versions(&mut self) {
        use crate::store::versions::Repair;
        let Some(versions) = &mut self.storage.versions else { return };
        let was = versions.active().ok().flatten().map(|id| id.to_string());
        match versions.repair(&self.model.sha256) {
            Ok(Repair::Sound(_)) => {}
            Ok(repair) => {
                log::warn!(event = "repaired"; "the active adapter was damaged: {repair:?}");
                let switched = self.adapter_switched(was, "its files were damaged");
                self.check(switched);
            }
            Err(error) => self.trouble(error.into()),
        }
    }

    /// Another version is active than before, other than by a promotion: tells, and runs the hook.
    pub(super) fn adapter_switched(
        &mut self,
        previous: Option<String>,
        reason: &str,
    ) -> Result<(), Trouble> {
        let Some(versions) = &self.storage.versions else { return Ok(()) };
        let to = versions.active()?.map(|id| id.to_string());
        if to == previous {
            return Ok(());
        }
        // Forward or back: versions count up.
        let forward = to.as_ref().is_some_and(|to| previous.as_ref().is_none_or(|from| to > from));
        let hook = HookDue {
            kind: Some(if forward { HookKind::Promoted } else { HookKind::RolledBack }),
            version: to.clone(),
            previous: previous.clone(),
        };
        let reason = Sentence::new(reason);
        self.keep_switch(hook, Event::Switched { from: previous, to, reason })
    }

    /// Starts the hook if one is due and none runs.
    pub(super) fn run_due_hook(&mut self) {
        let free = self.hook.is_none() && self.stopping.is_none();
        let Some(kind) = self.hook_due.kind.filter(|_| free) else { return };
        self.hook_run = self.hook_due.clone();
        if self.config.hook.command.is_empty() {
            return self.hook_is_done();
        }
        let settings = self.config.hook.clone();
        let adapter = self.storage.paths.adapters().join(crate::store::versions::CURRENT);
        let HookDue { version, previous, .. } = self.hook_due.clone();
        self.hook = Some(tokio::spawn(async move {
            let event = HookEvent {
                kind,
                adapter: &adapter,
                version: version.as_deref().unwrap_or(""),
                previous: previous.as_deref(),
            };
            crate::daemon::hook::run(&settings, &event).await
        }));
    }

    /// The hook has ended, one way or another.
    pub(super) fn hook_ended(&mut self, outcome: Option<HookOutcome>) {
        self.hook = None;
        if let Some(outcome) = outcome {
            match outcome.result {
                HookResult::None => {}
                HookResult::Done => self.tell(Event::HookDone { took_s: outcome.seconds }),
                _ => self.tell(Event::HookFailed { sentence: Sentence::new(outcome.sentence()) }),
            }
        }
        self.hook_is_done();
    }

    fn hook_is_done(&mut self) {
        if self.hook_due != self.hook_run {
            // Something else has happened since: that is due now.
            return;
        }
        let none = HookDue::default();
        if self.with_ledger(|ledger| none.keep(ledger)).is_some() {
            self.hook_due = none;
        }
    }

    /// Tells the state again if it was not told for long.
    pub(super) fn state_due(&mut self) {
        let every = Duration::from_secs(self.config.mqtt.state_every_s.into());
        if self.now().saturating_sub(self.teller.state_told) >= every {
            self.publish_state();
        }
    }

    /// Tells the fleet what is being done, and why.
    pub(super) fn publish_state(&mut self) {
        let status = self.status();
        let adapter = self.active_version().ok().flatten();
        let state = wire::State {
            state: status.state.name().to_owned(),
            reason: status.reason.clone(),
            for_s: status.for_s as u64,
            adapter: adapter.map(|version| wire::AdapterInfo {
                version: version.id.to_string(),
                sha256: version.manifest.weights_sha256().to_owned(),
            }),
            step: status.cycle.as_ref().map_or(0, |cycle| cycle.step),
            steps: status.cycle.as_ref().map_or(0, |cycle| cycle.steps),
            counts: [
                ("train_tasks", status.tasks.train),
                ("held_out_tasks", status.tasks.held_out),
                ("set_aside_tasks", status.tasks.set_aside),
                ("new_tasks", status.tasks.new),
                ("outbox", status.broker.waiting),
            ]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
            dropped: [
                ("events", status.broker.dropped_events),
                ("progress", status.broker.dropped_progress),
                ("commands", status.broker.commands_refused),
            ]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
            signals: status
                .signals
                .iter()
                .filter_map(|signal| Some((signal.measure.key().to_owned(), signal.value?)))
                .collect(),
        };
        self.teller.state_told = self.now();
        self.teller.state(state);
    }

    /// The daemon at this moment.
    pub(super) fn status(&self) -> Status {
        let now = self.now();
        let counts = self.teller.counts(self.storage.ledger.as_ref());
        let step = self.trainer.last_step.as_ref();
        let active = self.storage.versions.as_ref().and_then(|v| v.active().ok().flatten());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            up_s: now.as_secs_f64(),
            fleet: self.config.device.fleet.clone(),
            device: self.config.device.resolved_name(),
            state: self.scheduler.state(),
            reason: self.reason.clone(),
            for_s: now.saturating_sub(self.state_since).as_secs_f64(),
            faults: self
                .faults
                .all()
                .map(|(kind, sentence)| (kind.name().to_owned(), sentence.to_owned()))
                .collect(),
            next_look_s: self.next_tick.saturating_sub(now).as_secs_f64(),
            model: ModelStatus {
                path: self.config.model.clone(),
                sha256: self.model.sha256.clone(),
            },
            worker: self.trainer.pid().map(|pid| WorkerStatus {
                pid,
                frozen: matches!(self.trainer.state(), WorkerState::Frozen(_)),
                job: self.trainer.job().map(|job| job.name().to_owned()),
            }),
            adapter: active.map(|id| id.to_string()),
            cycle: self.storage.cycle.as_ref().map(|cycle| CycleStatus {
                number: cycle.record.number,
                stage: cycle.record.stage.name().to_owned(),
                step: step.map_or(0, |metrics| metrics.step),
                steps: self.config.learn.steps,
                train: cycle.record.train,
                held_out: cycle.record.held_out,
            }),
            settings: self.wishes.settings.clone(),
            cycles: self.last.number,
            last_cycle: (self.last.number > 0).then(|| self.last.outcome.clone()),
            last_step: step.map(|metrics| numbers(metrics)).unwrap_or_default(),
            tasks: TaskStatus {
                train: self.counts.train,
                held_out: self.counts.held_out,
                set_aside: self.counts.set_aside,
                new: self.new_tasks,
            },
            broker: BrokerStatus {
                url: self.config.mqtt.broker.clone(),
                connected: counts.connected,
                waiting: counts.waiting,
                dropped_events: counts.dropped_events,
                dropped_progress: counts.dropped_progress,
                commands_refused: counts.commands_refused,
            },
            signals: self.reading.signals.clone(),
            spent_s: State::ALL
                .into_iter()
                .zip(self.scheduler.spent())
                .filter(|(_, spent)| !spent.is_zero())
                .map(|(state, spent)| (state.name().to_owned(), spent.as_secs_f64()))
                .collect(),
        }
    }
}
