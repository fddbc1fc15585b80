//! What a made-up device says of itself: its state, as the contract has it.

use std::time::Duration;

use super::senses::{COOL_CELSIUS, MAX_LOAD_PERCENT};
use super::work::Work;
use super::{Life, MIN_NEW_TASKS, Phase};
use crate::contract::wire::{Blocker, State};

/// Value and limit of a blocker, where they are numbers.
type Measured = Option<(f64, f64)>;

impl Life {
    /// What it does.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The step of the cycle in progress and the steps that it will have; zeros without one.
    #[must_use]
    pub const fn steps(&self) -> (u64, u64) {
        match &self.work {
            Work::Cycle(cycle) => (cycle.lesson.step, cycle.lesson.steps),
            _ => (0, 0),
        }
    }

    /// The active version of the adapter.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.shelf.active().map(|version| version.name.as_str())
    }

    /// Names of the alarms.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.troubles.alarms(self.lived_ms).into_iter().map(|alarm| alarm.alarm).collect()
    }

    /// Its state. Counts of messages are for whoever sends it to add.
    #[must_use]
    pub fn state(&self) -> State {
        let (step, steps) = self.steps();
        let counts = [
            ("train_tasks", self.tasks.train),
            ("held_out_tasks", self.tasks.held_out),
            ("set_aside_tasks", self.troubles.set_aside),
            ("new_tasks", self.tasks.new),
        ];
        State {
            state: self.phase.name().to_owned(),
            reason: self.reason(),
            for_s: self.lived_ms.saturating_sub(self.phase_since_ms) / 1000,
            adapter: self.shelf.adapter(),
            step,
            steps,
            counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
            signals: self.senses.signals(),
            alarms: self.troubles.alarms(self.lived_ms),
            blockers: self.blockers(),
            last_trained_ms: self.last_trained_ms,
            last_cycle: self.last_cycle.clone(),
            versions: self.shelf.list(),
            overrides: self.overrides.clone(),
            ..State::default()
        }
    }

    fn reason(&self) -> String {
        let blocked = || {
            let blockers = self.blockers_now().into_iter().map(|(.., sentence)| sentence);
            blockers.collect::<Vec<_>>().join("; ")
        };
        match self.phase {
            Phase::Starting => "opening files".to_owned(),
            Phase::Stopping => "asked to stop".to_owned(),
            Phase::Training => "the device is idle".to_owned(),
            Phase::Evaluating => "comparing two adapters".to_owned(),
            Phase::Promoting => "the comparison is judged".to_owned(),
            Phase::Degraded => self.troubles.stops().unwrap_or_default(),
            _ => Some(blocked()).filter(|text| !text.is_empty()).unwrap_or_else(|| {
                // The device has just become idle: the next tick begins the work.
                "about to begin".to_owned()
            }),
        }
    }

    /// What keeps it from training: name, numbers, sentence.
    pub(super) fn blockers_now(&self) -> Vec<(&'static str, Measured, String)> {
        let mut found = Vec::new();
        if matches!(self.phase, Phase::Starting | Phase::Stopping) {
            return found;
        }
        if self.paused {
            found.push(("paused", None, "paused by an operator".to_owned()));
        }
        if self.phase == Phase::WaitingForTasks {
            let (new, needed) =
                (self.tasks.new, self.setting("cycle.min_new_tasks", MIN_NEW_TASKS));
            let sentence = format!("{new} of the {needed} new tasks that a cycle needs");
            found.push(("tasks", Some((new as f64, needed as f64)), sentence));
        }
        if self.senses.is_busy() {
            let load = self.senses.load_percent().round();
            let sentence = format!("cpu: {load} % (limit {MAX_LOAD_PERCENT} %)");
            found.push(("cpu_load_percent", Some((load, MAX_LOAD_PERCENT)), sentence));
        }
        if self.senses.is_hot() {
            let celsius = self.senses.celsius().round();
            let sentence = format!("temperature: {celsius} °C (limit {COOL_CELSIUS} °C)");
            found.push(("temperature_celsius", Some((celsius, COOL_CELSIUS)), sentence));
        }
        found
    }

    fn blockers(&self) -> Vec<Blocker> {
        let blocker = |(name, measured, sentence): (&'static str, Measured, String)| Blocker {
            blocker: name.to_owned(),
            value: measured.map(|(value, _)| value),
            limit: measured.map(|(_, limit)| limit),
            sentence,
            for_s: self.blocked.seconds(name, Duration::from_millis(self.lived_ms)),
        };
        self.blockers_now().into_iter().map(blocker).collect()
    }
}
