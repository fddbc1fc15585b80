//! The cycle of learning: from tasks to a candidate, to a comparison, to a verdict.
//!
//! ```text
//!   training ──► evaluating ──► judging ──► promoted or rejected
//! ```
//!
//! [`Cycles`] decides what follows from each; [`Cycle`] is the one in progress, on disk. Neither knows
//! of workers, nor of when the device is idle.

mod folder;
mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use folder::{Cycle, Snapshot, remove_folder, write_tasks};
pub use record::{Baseline, Basis, CycleState, Record, Stage};

use crate::config::CycleSettings;
use crate::contract::event::{Event, Numbers, Sentence};
use crate::contract::wire::finite;
use crate::daemon::adapters::hook::HookKind;
use crate::daemon::adapters::{ActiveAdapter, Adapters, Awaiting, Switch, decision_numbers};
use crate::daemon::effect::{AdapterEffect, Commit, CycleEffect, Effect};
use crate::daemon::operator::OperatorState;
use crate::daemon::scheduler::{Known, Work, plan};
use crate::daemon::storage::Remembered;
use crate::promotion::gate::{self, Approval, Decision, GateSettings, Paired, Verdict};
use crate::store::ledger::TaskCounts;

/// What came of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleResult {
    /// Its candidate is the active adapter.
    Promoted,
    /// Its candidate has proved better, and waits for an operator's approval.
    AwaitingApproval,
    /// Its candidate did not prove better.
    Rejected,
    /// It did not come to a comparison.
    Failed,
}

impl CycleResult {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// How the last cycle ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastCycle {
    /// Its number; 0 before the first.
    pub number: u64,
    /// The newest task that it had.
    pub newest: i64,
    /// Unix seconds.
    pub ended: Option<i64>,
    /// Failures in a row, up to and including this one.
    pub failures: u32,
    /// Candidates that were rejected against the adapter that is active now.
    pub attempts: u32,
    /// What came of it; unknown of one that an earlier version has ended.
    pub result: Option<CycleResult>,
    /// How it ended, in a sentence.
    pub outcome: String,
    /// The numbers that decided.
    pub numbers: BTreeMap<String, f64>,
    /// When its last step ended, unix seconds.
    pub trained: Option<i64>,
}

impl Remembered for LastCycle {
    const KEY: &'static str = "last_cycle";
}

/// A version that a candidate was published as.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its name.
    pub version: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// It was rolled back before.
    pub rolled_back: bool,
    /// What the gate has said of it, if its manifest tells.
    pub decision: Option<Decision>,
}

impl Published {
    /// Why it may be promoted.
    fn why(&self) -> &str {
        let why = "it has proved better on held-out questions";
        self.decision.as_ref().map_or(why, |decision| &decision.reason)
    }

    /// How the cycle ended that it was promoted by.
    fn outcome(&self) -> String {
        format!("promoted as {}: {}", self.version, self.why())
    }

    /// The numbers that decided.
    fn numbers(&self) -> Numbers {
        self.decision.as_ref().map(decision_numbers).unwrap_or_default()
    }
}

/// How the last cycle ended, and the tasks for the next one.
#[derive(Debug, Default)]
pub struct Cycles {
    /// How the last cycle ended.
    pub last: LastCycle,
    /// The tasks that are there.
    pub counts: TaskCounts,
    /// Tasks to learn from that have come since the last cycle began.
    pub new_tasks: u64,
    /// When the last step of any cycle ended, unix seconds.
    pub trained: Option<i64>,
}

impl Cycles {
    /// What there is to do at unix time `now`, with a cycle in progress or none.
    #[must_use]
    pub fn work(
        &self,
        settings: &CycleSettings,
        in_progress: Option<&Record>,
        operator: &OperatorState,
        adapters: &Adapters,
        now: i64,
    ) -> Work {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let is_active = adapters.active.version.is_some();
        let known = Known {
            stage: in_progress.map(|record| record.state.stage()),
            train: count(self.counts.train),
            held_out: count(self.counts.held_out),
            new_tasks: count(self.new_tasks),
            last_ended: self.last.ended,
            failures: self.last.failures,
            train_now: operator.train_now.is_some(),
            fresh_held_out: is_active.then(|| count(adapters.fresh_held_out)),
            check: operator.check.is_some(),
        };
        plan(settings, &known, now)
    }

    /// The number of the next cycle. After a ledger was lost it is still one that no version has had
    /// (`versions`: their cycles): the number is the seed, and the same one would find the same adapter.
    pub fn next_number(&self, versions: impl IntoIterator<Item = u64>) -> u64 {
        versions.into_iter().fold(self.last.number, u64::max) + 1
    }

    /// Whether [`Self::judge`] looks at the comparison, or knows without it what comes next.
    #[must_use]
    pub const fn needs_comparison(&self, record: &Record) -> bool {
        record.number > self.last.number && matches!(record.state, CycleState::Judging { .. })
    }

    /// Judges the cycle in progress. `active` is the active version for the model at hand, `paired` what
    /// the worker has written, or why that cannot be read.
    #[must_use]
    pub fn judge(
        &self,
        record: &Record,
        active: Option<&str>,
        paired: Result<Paired, String>,
        settings: &GateSettings,
        now: i64,
    ) -> Vec<Effect> {
        if record.number <= self.last.number {
            // Judged before the daemon was killed.
            return vec![CycleEffect::End.into(), Effect::CountTasks];
        }
        let baseline = match &record.state {
            CycleState::Promoting { version, .. } => {
                return vec![CycleEffect::Promote(version.clone()).into()];
            }
            CycleState::Judging { baseline, .. } => baseline,
            CycleState::Training { .. } | CycleState::Evaluating { .. } => return Vec::new(),
        };
        if baseline.0.as_deref() != active {
            log::info!(event = "compare_again"; "another adapter became active during the comparison");
            return vec![CycleEffect::CompareAgain.into()];
        }
        let mut paired = match paired {
            Ok(paired) => paired,
            Err(error) => {
                log::warn!(event = "compare_again"; "the comparison is repeated: {error}");
                return vec![CycleEffect::CompareAgain.into()];
            }
        };
        paired.attempt = self.last.attempts + 1;
        let decision = gate::decide(settings, &paired);
        match decision.verdict {
            Verdict::Promote => vec![CycleEffect::Publish(Box::new(decision)).into()],
            Verdict::Reject | Verdict::Undecided => self.rejected(record, &decision, now),
        }
    }

    fn rejected(&self, record: &Record, decision: &Decision, now: i64) -> Vec<Effect> {
        let last = LastCycle {
            number: record.number,
            newest: record.newest,
            ended: Some(now),
            failures: 0,
            // What was too little to say anything is not an attempt.
            attempts: self.last.attempts + u32::from(decision.verdict == Verdict::Reject),
            result: Some(CycleResult::Rejected),
            outcome: decision.reason.clone(),
            numbers: finite(decision_numbers(decision)),
            trained: self.trained,
        };
        let event = Event::Rejected {
            reason: Sentence::new(&decision.reason),
            numbers: decision_numbers(decision),
        };
        let commit = Commit { last_cycle: Some(last), event: Some(event), ..Commit::default() };
        vec![commit.into(), CycleEffect::End.into(), Effect::CountTasks]
    }

    /// The candidate was published. From here on the cycle promotes this version, whatever is killed, or
    /// leaves that to an operator; `active` is what it would replace.
    #[must_use]
    pub fn published(
        &self,
        record: &Record,
        published: &Published,
        approval: Approval,
        active: &ActiveAdapter,
        now: i64,
    ) -> Vec<Effect> {
        if published.rolled_back {
            let why = "it has learned an adapter that was rolled back before";
            return vec![CycleEffect::Fail(why.into()).into()];
        }
        let version = published.version.clone();
        match approval {
            Approval::Automatic => vec![
                CycleEffect::Published(version.clone()).into(),
                CycleEffect::Promote(version).into(),
            ],
            Approval::Operator => self.awaits_approval(record, published, active, now),
        }
    }

    fn awaits_approval(
        &self,
        record: &Record,
        published: &Published,
        active: &ActiveAdapter,
        now: i64,
    ) -> Vec<Effect> {
        let (version, why) = (published.version.clone(), published.why());
        let last = LastCycle {
            // Another candidate is another attempt at the same adapter.
            attempts: self.last.attempts + 1,
            result: Some(CycleResult::AwaitingApproval),
            outcome: format!("{version} waits for an operator's approval: {why}"),
            ..self.proven(record, published, now)
        };
        let event = Event::AwaitsApproval {
            version: version.clone(),
            sha256: published.sha256.clone(),
            parent: active.version.clone(),
            reason: Sentence::new(why),
            numbers: published.numbers(),
        };
        let awaiting = Awaiting { version, cycle: record.number, newest: record.newest };
        let commit = Commit {
            last_cycle: Some(last),
            active: Some(ActiveAdapter { awaiting: Some(awaiting), ..active.clone() }),
            event: Some(event),
            ..Commit::default()
        };
        vec![
            commit.into(),
            CycleEffect::End.into(),
            AdapterEffect::Retain.into(),
            Effect::CountTasks,
        ]
    }

    /// How a cycle ended whose candidate has proved better.
    fn proven(&self, record: &Record, published: &Published, now: i64) -> LastCycle {
        LastCycle {
            number: record.number,
            newest: record.newest,
            ended: Some(now),
            failures: 0,
            attempts: 0,
            result: Some(CycleResult::Promoted),
            outcome: published.outcome(),
            numbers: finite(published.numbers()),
            trained: self.trained,
        }
    }

    /// The published version has become the active one.
    #[must_use]
    pub fn promoted(&self, record: &Record, published: &Published, now: i64) -> Vec<Effect> {
        let parent = record.state.baseline().and_then(|baseline| baseline.0.clone());
        let last = self.proven(record, published, now);
        vec![
            promotion(published, parent, record.newest, last).into(),
            CycleEffect::End.into(),
            AdapterEffect::Retain.into(),
            AdapterEffect::Changed.into(),
        ]
    }

    /// What has waited for approval has become the active one in place of `parent`.
    #[must_use]
    pub fn approved(
        &self,
        waited: &Awaiting,
        published: &Published,
        parent: Option<String>,
    ) -> Vec<Effect> {
        let mut last = LastCycle { attempts: 0, ..self.last.clone() };
        if last.number == waited.cycle {
            last.result = Some(CycleResult::Promoted);
            last.outcome = published.outcome();
        }
        vec![
            promotion(published, parent, waited.newest, last).into(),
            AdapterEffect::Retain.into(),
            AdapterEffect::Changed.into(),
        ]
    }

    /// Another version is active, other than by a promotion: the next candidate is the first to be compared
    /// with it.
    #[must_use]
    pub fn switched(&self) -> Vec<Effect> {
        if self.last.attempts == 0 {
            return Vec::new();
        }
        let last = LastCycle { attempts: 0, ..self.last.clone() };
        vec![Commit { last_cycle: Some(last), ..Commit::default() }.into()]
    }

    /// The cycle has come to nothing.
    #[must_use]
    pub fn failed(&self, record: &Record, why: &str, now: i64) -> Vec<Effect> {
        let last = LastCycle {
            number: record.number,
            newest: record.newest,
            ended: Some(now),
            failures: self.last.failures + 1,
            attempts: self.last.attempts,
            result: Some(CycleResult::Failed),
            outcome: format!("failed: {why}"),
            numbers: BTreeMap::new(),
            trained: self.trained,
        };
        let event = Event::CycleFailed { number: record.number, reason: Sentence::new(why) };
        let commit = Commit { last_cycle: Some(last), event: Some(event), ..Commit::default() };
        vec![commit.into(), CycleEffect::End.into(), Effect::CountTasks]
    }
}

/// What is kept once a version has proved better than `parent` and taken its place.
fn promotion(
    published: &Published,
    parent: Option<String>,
    newest: i64,
    last: LastCycle,
) -> Commit {
    let version = Some(published.version.clone());
    let switch =
        Switch { kind: HookKind::Promoted, version: version.clone(), previous: parent.clone() };
    let event = Event::Promoted {
        version: published.version.clone(),
        sha256: published.sha256.clone(),
        parent,
        reason: Sentence::new(published.why()),
        numbers: published.numbers(),
    };
    Commit {
        last_cycle: Some(last),
        active: Some(ActiveAdapter { version, newest, ..ActiveAdapter::default() }),
        hook: Some(Some(switch)),
        event: Some(event),
        ..Commit::default()
    }
}

#[cfg(test)]
mod tests;
