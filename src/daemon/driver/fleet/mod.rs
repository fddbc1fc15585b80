//! What the driver tells the fleet: events, and its state.

mod birth;
mod reporter;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::promotion::decision_of;
use super::{Driver, wall};
use crate::contract::event::{Event as Told, Severity};
use crate::contract::wire::{self, AdapterInfo, Alarm, Blocker, CycleInfo, VersionInfo, finite};
use crate::daemon::activity::Verdict;
use crate::daemon::adapters::decision_numbers;
use crate::daemon::faults::FaultKind;
use crate::daemon::scheduler::State;
use crate::daemon::status::Status;
use crate::daemon::status::since::Since;
use crate::store::versions::Version;

pub(super) use reporter::{Reporter, numbers};

/// Versions that are told of: many more than any setting keeps.
const MOST_VERSIONS: usize = 64;

/// What is told of a state that lasts, and since when.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    alarms: Since,
    blockers: Since,
}

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
        let now = self.pace.now();
        let (alarms, blockers) = (self.alarms(&status), self.blockers(&status));
        self.lasting.alarms.note(now, alarms.iter().map(|alarm| alarm.alarm.as_str()));
        self.lasting.blockers.note(now, blockers.iter().map(|blocker| blocker.blocker.as_str()));
        let since =
            |alarm: Alarm| Alarm { for_s: self.lasting.alarms.seconds(&alarm.alarm, now), ..alarm };
        let held = |blocker: Blocker| Blocker {
            for_s: self.lasting.blockers.seconds(&blocker.blocker, now),
            ..blocker
        };
        let state = wire::State {
            alarms: alarms.into_iter().map(since).collect(),
            blockers: blockers.into_iter().map(held).collect(),
            last_trained_ms: self.cycles.trained.map(milliseconds),
            last_cycle: self.last_cycle(),
            versions: self.versions(),
            awaiting: status.awaiting.clone(),
            overrides: status.settings.clone(),
            ..self.present(&status)
        };
        self.reporter.state_told = now;
        self.reporter.state(state);
    }

    /// The state without what takes a closer look.
    fn present(&self, status: &Status) -> wire::State {
        let adapter = self.active_version().ok().flatten();
        let cycle = status.cycle.as_ref();
        let signals = status.signals.iter();
        wire::State {
            state: status.state.name().to_owned(),
            reason: status.reason.clone(),
            for_s: status.for_s as u64,
            adapter: adapter.map(|version| AdapterInfo {
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
            signals: signals
                .filter_map(|signal| Some((signal.measure.key().to_owned(), signal.value?)))
                .collect(),
            ..wire::State::default()
        }
    }

    /// What is wrong.
    fn alarms(&self, status: &Status) -> Vec<Alarm> {
        let alarm = |alarm: &str, severity, sentence: String| Alarm {
            alarm: alarm.to_owned(),
            severity,
            sentence,
            for_s: 0,
        };
        let fault = |(kind, sentence): (FaultKind, &str)| {
            alarm(kind.name(), Severity::Error, sentence.to_owned())
        };
        let mut alarms: Vec<Alarm> = self.faults.standing().map(fault).collect();
        let aside = status.tasks.set_aside;
        if aside > 0 {
            let sentence = format!("{aside} tasks are set aside until an operator restores them");
            alarms.push(alarm("tasks_set_aside", Severity::Warning, sentence));
        }
        if let Some(version) = &status.awaiting {
            let sentence =
                format!("{version} has proved better and waits for an operator's approval");
            alarms.push(alarm("awaits_approval", Severity::Info, sentence));
        }
        let last = &self.cycles.last;
        if last.failures > 0 {
            let sentence =
                format!("{} cycles in a row have failed: {}", last.failures, last.outcome);
            alarms.push(alarm("cycles_fail", Severity::Warning, sentence));
        }
        alarms
    }

    /// What keeps the device from training.
    fn blockers(&self, status: &Status) -> Vec<Blocker> {
        let words = |blocker: &str, sentence: &str| Blocker {
            blocker: blocker.to_owned(),
            value: None,
            limit: None,
            sentence: sentence.to_owned(),
            for_s: 0,
        };
        let mut blockers = Vec::new();
        if self.operator.state().paused {
            blockers.push(words("paused", "paused by an operator"));
        }
        if status.state == State::WaitingForTasks {
            let limit = self.settings.effective.cycle.min_new_tasks;
            let (value, limit) = (Some(status.tasks.new as f64), Some(limit as f64));
            blockers.push(Blocker { value, limit, ..words("tasks", &status.reason) });
        }
        let stands_in_the_way = |verdict| {
            use Verdict::{Blocked, Busy, Hot, Low, Power};
            matches!(verdict, Blocked | Busy | Hot | Low | Power)
        };
        for signal in status.signals.iter().filter(|s| stands_in_the_way(s.verdict)) {
            blockers.push(Blocker {
                value: signal.value,
                limit: signal.limit,
                ..words(signal.measure.key(), &signal.sentence())
            });
        }
        blockers
    }

    fn last_cycle(&self) -> Option<CycleInfo> {
        let last = &self.cycles.last;
        last.result.map(|result| CycleInfo {
            number: last.number,
            result: result.name().to_owned(),
            reason: last.outcome.clone(),
            ended_ms: last.ended.map_or(0, milliseconds),
            numbers: last.numbers.clone(),
        })
    }

    /// The newest versions, oldest first.
    fn versions(&self) -> Vec<VersionInfo> {
        let listing = self.storage.versions.as_ref().and_then(|versions| versions.list().ok());
        let versions = listing.map(|listing| listing.versions).unwrap_or_default();
        let first = versions.len().saturating_sub(MOST_VERSIONS);
        versions[first..].iter().map(version_info).collect()
    }

    /// When the last step ended, as far as the disk tells.
    pub(super) fn recall_trained(&mut self) {
        let cycle = self.storage.cycle.as_ref();
        let metrics = cycle.map(|cycle| cycle.candidate().join(crate::session::METRICS_FILE));
        let written = metrics.and_then(|path| path.metadata().ok()?.modified().ok());
        let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let written = written.and_then(|age| i64::try_from(age.as_secs()).ok());
        self.cycles.trained = written.max(self.cycles.last.trained);
    }

    /// A step has ended.
    pub(super) fn trained_now(&mut self) {
        self.cycles.trained = Some(wall());
    }
}

fn version_info(version: &Version) -> VersionInfo {
    let manifest = &version.manifest;
    VersionInfo {
        version: version.id.to_string(),
        sha256: manifest.weights_sha256().to_owned(),
        parent: manifest.parent.map(|parent| parent.to_string()),
        published_ms: manifest.created_unix_s.saturating_mul(1000),
        rolled_back: version.rolled_back.is_some(),
        numbers: finite(decision_of(version).as_ref().map(decision_numbers).unwrap_or_default()),
    }
}

/// Unix seconds in milliseconds.
fn milliseconds(unix_s: i64) -> u64 {
    u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000)
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}
