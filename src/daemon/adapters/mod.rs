//! The active adapter: up to which task it was judged, what a check of it means, and what the hook has
//! yet to be told.
//!
//! Knows nothing of folders and links ([`Versions`](crate::store::versions::Versions) does): it is told
//! which version is active, and answers with what follows.

mod check;
pub mod hook;
mod switch;

use serde::{Deserialize, Serialize};

pub use check::{CheckFolder, CheckRecord};
pub use switch::{HookDue, HookState, Switch};

use crate::contract::event::{Event, Numbers, Sentence};
use crate::daemon::effect::{AdapterEffect, CommandStep, Commit, Effect};
use crate::daemon::operator::{OperatorChange, OperatorState};
use crate::daemon::storage::Remembered;
use crate::promotion::gate::{self, Check, Decision, Evidence, GateSettings, Paired};
use hook::{HookKind, HookOutcome, HookResult};

/// Up to which task the active adapter was judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActiveAdapter {
    /// The version; `None` while the base model serves alone.
    pub version: Option<String>,
    /// The newest task when it was promoted or last checked.
    pub newest: i64,
    /// How often it was checked.
    pub checks: u32,
    /// What has proved better than it and waits for an operator's approval.
    pub awaiting: Option<Awaiting>,
}

/// A version that waits for an operator's approval.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Awaiting {
    /// The version.
    pub version: String,
    /// The number of its cycle.
    pub cycle: u64,
    /// The newest task that it was judged on.
    pub newest: i64,
}

impl Remembered for ActiveAdapter {
    const KEY: &'static str = "active_adapter";
}

/// The active adapter and its hook.
#[derive(Debug, Default)]
pub struct Adapters {
    /// Up to where the active adapter was judged.
    pub active: ActiveAdapter,
    /// Whether the hook runs or has to.
    pub hook: HookState,
    /// Held-out tasks that have come since the active adapter was promoted or last checked.
    pub fresh_held_out: u64,
}

impl Adapters {
    /// Whether there is something to check; if not, why not.
    ///
    /// # Errors
    /// A sentence.
    pub fn can_check(&self) -> Result<(), &'static str> {
        match self.active.version {
            None => Err("no adapter is active that could be checked"),
            Some(_) if self.fresh_held_out == 0 => {
                Err("no held-out tasks have come since the last check")
            }
            Some(_) => Ok(()),
        }
    }

    /// What is due after a change from `previous` to `to`, other than by a promotion or a rollback.
    #[must_use]
    pub fn switched(
        &self,
        previous: Option<String>,
        to: Option<String>,
        reason: &str,
    ) -> Vec<Effect> {
        if to == previous {
            return Vec::new();
        }
        // Forward or back: versions count up.
        let forward = to.as_ref().is_some_and(|to| previous.as_ref().is_none_or(|from| to > from));
        let kind = if forward { HookKind::Promoted } else { HookKind::RolledBack };
        let reason = Sentence::new(reason);
        let event = Event::Switched { from: previous.clone(), to: to.clone(), reason };
        self.keep_switch(Switch { kind, version: to, previous }, event)
    }

    /// What is due after a rollback from `from` to `to`.
    #[must_use]
    pub fn rolled_back(&self, from: String, to: Option<String>, reason: &str) -> Vec<Effect> {
        let reason = Sentence::new(reason);
        let event = Event::RolledBack { from: from.clone(), to: to.clone(), reason };
        let switch = Switch { kind: HookKind::RolledBack, version: to, previous: Some(from) };
        self.keep_switch(switch, event)
    }

    /// Keeps that another version is active and that the hook is due, with the event that tells of it.
    fn keep_switch(&self, switch: Switch, event: Event) -> Vec<Effect> {
        let newest = self.active.newest;
        let active =
            ActiveAdapter { version: switch.version.clone(), newest, ..ActiveAdapter::default() };
        let commit = Commit {
            active: Some(active),
            hook: Some(Some(switch)),
            event: Some(event),
            ..Commit::default()
        };
        vec![commit.into(), AdapterEffect::Changed.into()]
    }

    /// Judges the check of the version that is `active`. `paired` is what the worker has written, or why
    /// that cannot be read.
    #[must_use]
    pub fn judge_check(
        &self,
        record: &CheckRecord,
        active: Option<&str>,
        paired: Result<Paired, String>,
        settings: &GateSettings,
        operator: &OperatorState,
    ) -> Vec<Effect> {
        if active != Some(&record.version) {
            // Another one took its place meanwhile.
            return vec![AdapterEffect::EndCheck.into()];
        }
        let mut paired = match paired {
            Ok(paired) => paired,
            Err(error) => {
                log::warn!(event = "check_again"; "the check is repeated: {error}");
                return vec![AdapterEffect::EndCheck.into()];
            }
        };
        let checks = self.active.checks + 1;
        paired.attempt = checks;
        let checked = gate::check(settings, &paired);
        let (version, keep) = (record.version.clone(), checked.verdict == Check::Keep);
        let event = Event::Checked {
            version: version.clone(),
            keep,
            reason: Sentence::new(&checked.reason),
            numbers: evidence_numbers(checked.evidence.as_ref(), checked.questions),
        };
        let answer = |id: &String| CommandStep::done(id, &checked.reason);
        let commit = Commit {
            operator: Some(OperatorChange::Check(None)),
            active: Some(ActiveAdapter {
                version: Some(version.clone()),
                newest: record.newest,
                checks,
                awaiting: self.active.awaiting.clone(),
            }),
            commands: operator.check.iter().map(answer).collect(),
            event: Some(event),
            ..Commit::default()
        };
        if keep {
            return vec![commit.into(), AdapterEffect::EndCheck.into()];
        }
        vec![
            // Before anything else: a kill must not lose the verdict.
            AdapterEffect::MarkRollingBack.into(),
            commit.into(),
            AdapterEffect::RollBack { version, reason: checked.reason }.into(),
            AdapterEffect::EndCheck.into(),
        ]
    }

    /// The check cannot be done; the next one waits for tasks newer than `newest`, the ledger's newest.
    #[must_use]
    pub fn forget_check(&self, version: Option<String>, newest: i64) -> Vec<Effect> {
        let active = ActiveAdapter { version, newest, ..self.active.clone() };
        vec![Commit { active: Some(active), ..Commit::default() }.into()]
    }

    /// What follows from the end of the hook; `None` if it broke down.
    pub fn hook_ended(&mut self, outcome: Option<&HookOutcome>) -> Vec<Effect> {
        let event = outcome.and_then(|outcome| match outcome.result {
            HookResult::None => None,
            HookResult::Done => Some(Event::HookDone { took_s: outcome.seconds }),
            _ => Some(Event::HookFailed { sentence: Sentence::new(outcome.sentence()) }),
        });
        let mut effects: Vec<Effect> = event.map(Effect::Tell).into_iter().collect();
        if self.hook.ended() {
            effects.push(Commit { hook: Some(None), ..Commit::default() }.into());
        }
        effects
    }
}

/// A decision in numbers.
#[must_use]
pub fn decision_numbers(decision: &Decision) -> Numbers {
    let mut numbers = evidence_numbers(decision.evidence.as_ref(), decision.questions);
    if let Some(forget) = &decision.forget {
        numbers.push(("kl_nats_per_token", forget.kl_nats_per_token));
    }
    numbers
}

fn evidence_numbers(evidence: Option<&Evidence>, questions: usize) -> Numbers {
    let mut numbers = vec![("questions", questions as f64)];
    if let Some(evidence) = evidence {
        numbers.extend([
            ("accuracy_before", evidence.accuracy.baseline),
            ("accuracy_after", evidence.accuracy.candidate),
            ("accuracy_gain_low", evidence.accuracy.gain.lower),
            ("accuracy_gain_high", evidence.accuracy.gain.upper),
            ("log_p_before", evidence.log_p_per_token.baseline),
            ("log_p_after", evidence.log_p_per_token.candidate),
            ("log_p_gain_low", evidence.log_p_per_token.gain.lower),
            ("log_p_gain_high", evidence.log_p_per_token.gain.upper),
        ]);
    }
    numbers
}

#[cfg(test)]
mod tests;
