//! What the driver tells of itself: events, the state for the fleet, the document for `latrod status`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Driver;
use super::reporter::numbers;
use crate::contract::event::Event as Told;
use crate::contract::wire;
use crate::daemon::scheduler::{State, WorkerState};
use crate::daemon::status::{
    BrokerStatus, CycleStatus, ModelStatus, Status, TaskStatus, WorkerStatus,
};
use crate::report::mqtt::LinkCounts;

impl Driver {
    /// Tells the journal and the fleet.
    pub(super) fn tell(&mut self, event: Told) {
        self.reporter.event(self.storage.ledger.as_ref(), &event);
    }

    /// Tells the state again if it has not been told for long.
    pub(super) fn publish_state_if_due(&mut self) {
        let every = Duration::from_secs(self.settings.effective.mqtt.state_every_s.into());
        if self.pace.now().saturating_sub(self.reporter.state_told) >= every {
            self.publish_state();
        }
    }

    /// Tells the fleet what is being done, and why.
    pub(super) fn publish_state(&mut self) {
        let status = self.status();
        let adapter = self.active_version().ok().flatten();
        let cycle = status.cycle.as_ref();
        let state = wire::State {
            state: status.state.name().to_owned(),
            reason: status.reason.clone(),
            for_s: status.for_s as u64,
            adapter: adapter.map(|version| wire::AdapterInfo {
                version: version.id.to_string(),
                sha256: version.manifest.weights_sha256().to_owned(),
            }),
            step: cycle.map_or(0, |cycle| cycle.step),
            steps: cycle.map_or(0, |cycle| cycle.steps),
            counts: named([
                ("train_tasks", status.tasks.train),
                ("held_out_tasks", status.tasks.held_out),
                ("set_aside_tasks", status.tasks.set_aside),
                ("new_tasks", status.tasks.new),
                ("outbox", status.broker.waiting),
            ]),
            dropped: named([
                ("events", status.broker.dropped_events),
                ("progress", status.broker.dropped_progress),
                ("commands", status.broker.commands_refused),
            ]),
            signals: status
                .signals
                .iter()
                .filter_map(|signal| Some((signal.measure.key().to_owned(), signal.value?)))
                .collect(),
        };
        self.reporter.state_told = self.pace.now();
        self.reporter.state(state);
    }

    /// The daemon at this moment.
    pub(super) fn status(&self) -> Status {
        let now = self.pace.now();
        let config = &self.settings.effective;
        let active = self.storage.versions.as_ref().and_then(|v| v.active().ok().flatten());
        let faults = self.faults.all();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            up_s: now.as_secs_f64(),
            fleet: config.device.fleet.clone(),
            device: config.device.resolved_name(),
            state: self.scheduler.state(),
            reason: self.scheduler.reason().to_owned(),
            for_s: self.scheduler.held(now).as_secs_f64(),
            faults: faults.map(|(kind, why)| (kind.name().to_owned(), why.to_owned())).collect(),
            next_look_s: self.pace.until_tick().as_secs_f64(),
            model: ModelStatus {
                path: config.model.clone(),
                sha256: self.supervisor.model.known.sha256.clone(),
            },
            worker: self.worker_status(),
            adapter: active.map(|id| id.to_string()),
            cycle: self.cycle_status(),
            settings: self.operator.state().settings.clone(),
            cycles: self.cycles.last.number,
            last_cycle: (self.cycles.last.number > 0).then(|| self.cycles.last.outcome.clone()),
            last_step: self.supervisor.last_step().map(numbers).unwrap_or_default(),
            tasks: TaskStatus {
                train: self.cycles.counts.train,
                held_out: self.cycles.counts.held_out,
                set_aside: self.cycles.counts.set_aside,
                new: self.cycles.new_tasks,
            },
            broker: broker_status(
                config.mqtt.broker.clone(),
                &self.reporter.counts(self.storage.ledger.as_ref()),
            ),
            signals: self.watch.signals().to_vec(),
            spent_s: State::ALL
                .into_iter()
                .zip(self.scheduler.spent())
                .filter(|(_, spent)| !spent.is_zero())
                .map(|(state, spent)| (state.name().to_owned(), spent.as_secs_f64()))
                .collect(),
        }
    }

    fn worker_status(&self) -> Option<WorkerStatus> {
        Some(WorkerStatus {
            pid: self.supervisor.pid()?,
            frozen: matches!(self.supervisor.state(), WorkerState::Frozen(_)),
            job: self.supervisor.job().map(|job| job.name().to_owned()),
        })
    }

    fn cycle_status(&self) -> Option<CycleStatus> {
        let record = &self.storage.cycle.as_ref()?.record;
        Some(CycleStatus {
            number: record.number,
            stage: record.state.stage().name().to_owned(),
            step: self.supervisor.last_step().map_or(0, |metrics| metrics.step),
            steps: self.settings.effective.learn.steps,
            train: record.train,
            held_out: record.held_out,
        })
    }
}

fn broker_status(url: String, counts: &LinkCounts) -> BrokerStatus {
    BrokerStatus {
        url,
        connected: counts.connected,
        waiting: counts.waiting,
        dropped_events: counts.dropped_events,
        dropped_progress: counts.dropped_progress,
        commands_refused: counts.commands_refused,
    }
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}
