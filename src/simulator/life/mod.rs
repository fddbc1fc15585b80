//! The life of a made-up device: a state machine that follows from its seed, the time, and commands.
//!
//! ```text
//!  starting ─► waiting_for_tasks ─► waiting_for_idle ─► training ─► evaluating ─► promoting ─┐
//!                     ▲                                                                      │
//!                     └──────────────────────────────────────────────────────────────────────┘
//!  In between, whatever it works on: paused, yielding, cooling_down, degraded.
//! ```
//!
//! A life is lived in ticks of [`TICK_S`] seconds. What a device does follows from its conditions anew at every
//! tick, so that state, blockers and alarms always agree. Pure: knows no broker and no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::contract::event::Event;
use crate::contract::wire::{AckState, CycleInfo, StepProgress};
use crate::daemon::scheduler::State as Phase;
use crate::daemon::status::since::Since;
use crate::simulator::random::Random;

mod lesson;
mod orders;
mod senses;
mod shelf;
mod tell;
#[cfg(test)]
mod tests;
mod troubles;
mod work;

use senses::Senses;
use shelf::Shelf;
use troubles::Troubles;
use work::Work;

/// A tick, in seconds of the life.
const TICK_S: f64 = 5.0;
/// Ticks that are lived through at once, at most; a life that was suspended for longer skips the rest.
const MOST_TICKS: u64 = 2000;
/// Ticks that a start takes.
const START_TICKS: u64 = 2;
/// New tasks that a cycle needs.
const MIN_NEW_TASKS: u64 = 40;
/// Tasks that a device keeps.
const MOST_TASKS: u64 = 20_000;

/// Something that a device tells besides its state.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It happened.
    Event(Event),
    /// A training step has ended.
    Progress(StepProgress),
    /// How far a command is.
    Ack {
        /// The command's id.
        id: String,
        /// How far.
        state: AckState,
        /// Why, or what came of it.
        reason: Option<String>,
    },
}

/// Tasks, by what they are for.
#[derive(Debug, Clone, Copy, Default)]
struct Tasks {
    train: u64,
    held_out: u64,
    /// Tasks to train on that have come since the last cycle.
    new: u64,
    /// Held-out tasks that have come since the active version was last judged.
    fresh_held_out: u64,
}

/// A command that waits, and when it is too late for it, in unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    id: String,
    expires: u64,
}

/// A life. Times are in milliseconds since 1970 by the device's own clock.
#[derive(Debug, Clone)]
pub struct Life {
    random: Random,
    tick_ms: u64,
    /// Up to when it is lived.
    lived_ms: u64,
    starting: u64,
    stopping: bool,
    phase: Phase,
    phase_since_ms: u64,
    model_sha256: String,
    senses: Senses,
    troubles: Troubles,
    blocked: Since,
    tasks: Tasks,
    shelf: Shelf,
    work: Work,
    cycles: u64,
    last_cycle: Option<CycleInfo>,
    last_trained_ms: Option<u64>,
    paused: bool,
    train_now: Option<Waiting>,
    check: Option<Waiting>,
    overrides: BTreeMap<String, String>,
    told: Vec<Told>,
    changed: bool,
}

impl Life {
    /// A life that begins at `now_ms`, on a device with a past: it has had up to `past_ticks` ticks. It runs
    /// `speed` times as fast as others.
    #[must_use]
    pub fn new(
        mut random: Random,
        speed: f64,
        (model_sha256, memory_mib): (String, u64),
        past_ticks: u64,
        now_ms: u64,
    ) -> Self {
        let tick_ms = (1000.0 * TICK_S / speed).round().max(1.0) as u64;
        let past_ticks = random.whole(0, past_ticks.min(MOST_TICKS));
        let tasks = Tasks { train: random.whole(100, 900), held_out: 60, ..Tasks::default() };
        let lived_ms = now_ms.saturating_sub(past_ticks.saturating_mul(tick_ms));
        let mut life = Self {
            senses: Senses::new(&mut random, memory_mib),
            shelf: Shelf::new(&mut random),
            random,
            tick_ms,
            lived_ms,
            starting: 0,
            stopping: false,
            phase: Phase::WaitingForTasks,
            phase_since_ms: lived_ms,
            model_sha256,
            troubles: Troubles::default(),
            blocked: Since::default(),
            tasks,
            work: Work::None,
            cycles: 0,
            last_cycle: None,
            last_trained_ms: None,
            paused: false,
            train_now: None,
            check: None,
            overrides: BTreeMap::new(),
            told: Vec::new(),
            changed: true,
        };
        life.advance(now_ms);
        life.restart(now_ms);
        life
    }

    /// The program starts again: what it works on goes on where it was.
    pub fn restart(&mut self, now_ms: u64) {
        self.lived_ms = self.lived_ms.max(now_ms);
        self.starting = START_TICKS;
        (self.stopping, self.phase_since_ms) = (false, self.lived_ms);
        (self.blocked, self.told) = (Since::default(), Vec::new());
        self.troubles.restart();
        self.tell(Event::Started { version: env!("CARGO_PKG_VERSION") });
        self.settle();
    }

    /// The program is about to end.
    pub fn stop(&mut self) -> Vec<Told> {
        self.stopping = true;
        self.tell(Event::Stopped {
            reason: crate::contract::event::Sentence::new("asked to stop"),
        });
        self.settle();
        std::mem::take(&mut self.told)
    }

    /// Lives up to `now_ms`; says what there is to tell.
    pub fn advance(&mut self, now_ms: u64) -> Vec<Told> {
        let behind = now_ms.saturating_sub(self.lived_ms) / self.tick_ms;
        self.lived_ms += behind.saturating_sub(MOST_TICKS) * self.tick_ms;
        for _ in 0..behind.min(MOST_TICKS) {
            self.lived_ms += self.tick_ms;
            self.tick();
        }
        std::mem::take(&mut self.told)
    }

    /// Whether its state has changed since this was last asked.
    pub const fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    fn tick(&mut self) {
        self.senses.tick(&mut self.random, self.phase == Phase::Training);
        if self.stopping {
            return;
        }
        for event in self.troubles.tick(&mut self.random, &self.model_sha256) {
            self.tell(event);
        }
        self.starting = self.starting.saturating_sub(1);
        self.expire();
        self.new_tasks();
        self.do_work();
        self.settle();
    }

    fn tell(&mut self, event: Event) {
        self.told.push(Told::Event(event));
    }

    /// Tasks come in from time to time, most of them usable; a tenth is held out.
    fn new_tasks(&mut self) {
        if !self.random.chance(TICK_S / 300.0) || self.tasks.train > MOST_TASKS {
            return;
        }
        let (count, rejected) = (self.random.whole(8, 40), self.random.whole(0, 9) / 8);
        let held_out = count / 10;
        self.tasks.train += count - held_out;
        self.tasks.new += count - held_out;
        self.tasks.held_out += held_out;
        self.tasks.fresh_held_out += held_out;
        self.tell(Event::TasksTaken { count, rejected });
    }

    /// What it does follows from its conditions.
    fn settle(&mut self) {
        let phase = self.due_phase();
        if phase != self.phase {
            (self.phase, self.phase_since_ms) = (phase, self.lived_ms);
            self.changed = true;
        }
        let names: Vec<_> = self.blockers_now().into_iter().map(|(name, ..)| name).collect();
        self.changed |= self.blocked.note(Duration::from_millis(self.lived_ms), names);
        self.changed |= self.troubles.note(self.lived_ms);
    }

    fn due_phase(&self) -> Phase {
        let working = match self.work {
            Work::None => None,
            Work::Cycle(ref cycle) => Some(cycle.phase()),
            Work::Check { .. } => Some(Phase::Evaluating),
        };
        match working {
            _ if self.stopping => Phase::Stopping,
            _ if self.starting > 0 => Phase::Starting,
            _ if self.troubles.stops().is_some() => Phase::Degraded,
            _ if self.paused => Phase::Paused,
            _ if self.senses.is_hot() => Phase::CoolingDown,
            Some(Phase::Training | Phase::Evaluating) if self.senses.is_busy() => Phase::Yielding,
            Some(phase) => phase,
            None if self.has_work() => Phase::WaitingForIdle,
            None => Phase::WaitingForTasks,
        }
    }

    fn has_work(&self) -> bool {
        let wanted = self.train_now.is_some() || self.check.is_some();
        wanted || self.tasks.new >= self.setting("cycle.min_new_tasks", MIN_NEW_TASKS)
    }

    /// A setting: an operator's value, or else the file's.
    fn setting(&self, key: &str, file: u64) -> u64 {
        self.overrides.get(key).and_then(|value| value.parse().ok()).unwrap_or(file)
    }
}
