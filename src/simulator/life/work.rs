//! What a made-up device works on: a cycle of learning, or the check of its active adapter.

use super::lesson::{Evidence, Lesson};
use super::{Life, Phase, TICK_S, Told};
use crate::contract::event::{Ending, Event, Sentence};
use crate::contract::wire::{AckState, CycleInfo};

/// Steps of a cycle, unless an operator wants others.
const STEPS: u64 = 40;
/// The most steps that an operator may want.
pub const MOST_STEPS: u64 = 10_000;
/// How long an evaluation and a promotion take, in seconds.
const EVALUATION_S: f64 = 120.0;
/// How long it takes to follow a verdict, in seconds.
const PROMOTION_S: f64 = 10.0;
/// Share of the steps at which the worker dies, and of those at which tasks turn out to be bad.
const BAD_STEPS: f64 = 0.001;

/// What is being worked on.
#[derive(Debug, Clone)]
pub enum Work {
    /// Nothing.
    None,
    /// A cycle.
    Cycle(Cycle),
    /// A check of the active adapter, for as many seconds more.
    Check { left_s: f64 },
}

/// A cycle.
#[derive(Debug, Clone)]
pub struct Cycle {
    /// Its number, from 1.
    number: u64,
    /// Its steps.
    pub lesson: Lesson,
    stage: Stage,
    /// What is left of the step or the stage, in seconds.
    left_s: f64,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Training,
    Evaluating,
    Promoting(Evidence),
}

impl Cycle {
    /// What the device does for it, if nothing hinders.
    pub const fn phase(&self) -> Phase {
        match self.stage {
            Stage::Training => Phase::Training,
            Stage::Evaluating => Phase::Evaluating,
            Stage::Promoting(_) => Phase::Promoting,
        }
    }
}

impl Life {
    /// Works for a tick, if nothing hinders.
    pub(super) fn do_work(&mut self) {
        let due = self.due_phase();
        match std::mem::replace(&mut self.work, Work::None) {
            Work::None if due == Phase::WaitingForIdle && !self.senses.is_busy() => self.begin(),
            Work::Cycle(cycle) if due == cycle.phase() => self.go_on(cycle),
            Work::Check { left_s } if due == Phase::Evaluating => {
                if left_s > TICK_S {
                    self.work = Work::Check { left_s: left_s - TICK_S };
                } else {
                    self.end_check();
                }
            }
            unchanged => self.work = unchanged,
        }
    }

    fn begin(&mut self) {
        if let Some(check) = &self.check {
            let id = check.id.clone();
            self.ack(id, AckState::Running, None);
            self.work = Work::Check { left_s: EVALUATION_S };
            return;
        }
        self.cycles += 1;
        if let Some(wanted) = self.train_now.take() {
            let number = self.cycles;
            self.ack(wanted.id, AckState::Done, Some(format!("cycle {number} has begun")));
        }
        let (number, steps) = (self.cycles, self.setting("learn.steps", STEPS));
        let lesson = Lesson::new(&mut self.random, steps.clamp(1, MOST_STEPS));
        let (train, held_out) = (self.tasks.train, self.tasks.held_out);
        self.tell(Event::CycleBegan { number, train, held_out });
        let left_s = lesson.step_s();
        self.work = Work::Cycle(Cycle { number, lesson, stage: Stage::Training, left_s });
        self.changed = true;
    }

    fn go_on(&mut self, mut cycle: Cycle) {
        cycle.left_s -= TICK_S;
        if cycle.left_s > 0.0 {
            self.work = Work::Cycle(cycle);
            return;
        }
        match cycle.stage {
            Stage::Training => return self.end_step(cycle),
            Stage::Evaluating => {
                let (before, questions) = (self.shelf.accuracy(), self.tasks.held_out);
                let evidence = cycle.lesson.evidence(&mut self.random, before, questions);
                (cycle.stage, cycle.left_s) = (Stage::Promoting(evidence), PROMOTION_S);
            }
            Stage::Promoting(evidence) => return self.judge(cycle.number, evidence),
        }
        self.work = Work::Cycle(cycle);
    }

    fn end_step(&mut self, mut cycle: Cycle) {
        if self.random.chance(BAD_STEPS) {
            self.tell(Event::WorkerDied { ending: Ending::Signal(9) });
            let reason = Sentence::new("the worker died");
            self.tell(Event::CycleFailed { number: cycle.number, reason });
            self.troubles.failures += 1;
            return self.end_cycle(cycle.number, "failed", "the worker died", None);
        }
        if self.random.chance(BAD_STEPS) && self.tasks.train > 100 {
            let (step, tasks) = (cycle.lesson.step + 1, self.random.whole(10, 40));
            let sentence = || Sentence::new("the rewards have collapsed");
            self.tell(Event::Sentinel { kind: "reward".to_owned(), step, sentence: sentence() });
            self.tell(Event::TaskSetQuarantined { tasks, sentence: sentence() });
            self.tasks.train -= tasks;
            self.tasks.new = self.tasks.new.min(self.tasks.train);
            self.troubles.set_aside += tasks;
        }
        let progress = cycle.lesson.next(&mut self.random);
        self.told.push(Told::Progress(progress));
        self.last_trained_ms = Some(self.lived_ms);
        cycle.left_s += cycle.lesson.step_s();
        if cycle.lesson.step == cycle.lesson.steps {
            (cycle.stage, cycle.left_s) = (Stage::Evaluating, EVALUATION_S);
        }
        self.work = Work::Cycle(cycle);
    }

    fn judge(&mut self, number: u64, evidence: Evidence) {
        let (reason, numbers) = (evidence.reason(), evidence.numbers());
        let said = Sentence::new(&reason);
        self.troubles.failures = 0;
        if !evidence.is_proof() {
            self.tell(Event::Rejected { reason: said, numbers });
            return self.end_cycle(number, "rejected", &reason, Some(evidence));
        }
        let version = self.shelf.promote(&mut self.random, evidence, self.lived_ms);
        let (name, sha256) = (version.name.clone(), version.sha256.clone());
        let parent = version.parent.clone();
        self.tell(Event::Promoted { version: name, sha256, parent, reason: said, numbers });
        self.tasks.fresh_held_out = 0;
        self.end_cycle(number, "promoted", &reason, Some(evidence));
    }

    fn end_cycle(&mut self, number: u64, result: &str, reason: &str, by: Option<Evidence>) {
        self.tasks.new = 0;
        self.changed = true;
        self.last_cycle = Some(CycleInfo {
            number,
            result: result.to_owned(),
            reason: reason.to_owned(),
            ended_ms: self.lived_ms,
            numbers: by.as_ref().map(Evidence::named).unwrap_or_default(),
        });
    }

    fn end_check(&mut self) {
        let questions = std::mem::take(&mut self.tasks.fresh_held_out).max(30);
        let Some(active) = self.shelf.active() else {
            return self
                .answer_check(AckState::Failed, "no adapter is active that could be checked");
        };
        let version = active.name.clone();
        let evidence = active.evidence.again(&mut self.random, questions);
        let (keep, reason) = (!evidence.is_disproof(), evidence.reason());
        let (said, numbers) = (Sentence::new(&reason), evidence.numbers());
        self.tell(Event::Checked { version, keep, reason: said, numbers });
        if !keep {
            self.roll_back(&reason);
        }
        self.answer_check(AckState::Done, &reason);
    }

    fn answer_check(&mut self, state: AckState, reason: &str) {
        if let Some(check) = self.check.take() {
            self.ack(check.id, state, Some(reason.to_owned()));
        }
    }

    /// Gives the active version up, if there is one; says which.
    pub(super) fn roll_back(&mut self, reason: &str) -> Option<String> {
        let (from, to) = self.shelf.roll_back()?;
        let reason = Sentence::new(reason);
        self.tell(Event::RolledBack { from: from.clone(), to, reason });
        self.changed = true;
        Some(from)
    }
}
