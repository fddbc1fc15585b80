//! The document for `latrod status`.

use super::Driver;
use super::fleet::numbers;
use crate::daemon::scheduler::{State, WorkerState};
use crate::daemon::status::{
    BrokerStatus, CycleStatus, ModelStatus, Status, TaskStatus, WorkerStatus,
};
use crate::report::mqtt::LinkCounts;

impl Driver {
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
            awaiting: self.adapters.active.awaiting.as_ref().map(|waited| waited.version.clone()),
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
