//! What follows from a comparison: promotion, rejection, rollback. Every step can be repeated: what a
//! kill leaves half done is completed at the next start.

use std::path::Path;

use serde_json::json;

use super::teller::Teller;
use super::{Driver, wall};
use crate::contract::event::{Event, Numbers, Sentence};
use crate::daemon::check::CheckFolder;
use crate::daemon::cycle::Stage;
use crate::daemon::faults::FaultKind;
use crate::daemon::hook::HookKind;
use crate::daemon::memory::{HookDue, Judged, LastCycle, Remembered};
use crate::daemon::trouble::Trouble;
use crate::promotion::gate::{self, Check, Decision, Evidence, Verdict};
use crate::report::inbox::CommandOutcome;
use crate::session::comparison;
use crate::store::StoreError;
use crate::store::ledger::{Ledger, LedgerError};
use crate::store::versions::{Version, VersionError, VersionMeta};

impl Driver {
    /// Judges the cycle's comparison, and acts on it. True if the cycle has changed.
    pub(super) fn judge_cycle(&mut self) -> bool {
        let done = self.judge();
        let changed = self.check(done).is_some();
        self.count_tasks();
        changed
    }

    fn judge(&mut self) -> Result<(), Trouble> {
        let Some(cycle) = &self.storage.cycle else { return Ok(()) };
        let record = cycle.record.clone();
        if record.number <= self.last.number {
            // Judged before the daemon was killed.
            return self.storage.end_cycle();
        }
        if let Some(version) = record.published {
            return self.promote(&version);
        }
        let active = self.active_version()?.map(|version| version.id.to_string());
        if record.baseline.as_ref() != Some(&active) {
            log::info!(event = "compare_again"; "another adapter became active during the comparison");
            self.advance(Stage::Evaluating);
            return Ok(());
        }
        let mut paired = match comparison::read(&cycle.comparison()) {
            Ok(paired) => paired,
            Err(error) => {
                log::warn!(event = "compare_again"; "the comparison is done again: {error}");
                self.advance(Stage::Evaluating);
                return Ok(());
            }
        };
        paired.attempt = self.last.attempts + 1;
        let decision = gate::decide(&self.config.promotion, &paired);
        if decision.verdict == Verdict::Promote {
            let version = match self.publish(&decision) {
                Ok(version) if version.rolled_back.is_some() => {
                    self.fail_cycle("it has learned an adapter that was taken back before");
                    return Ok(());
                }
                Ok(version) => version.id.to_string(),
                Err(error) => return self.cannot_promote(error),
            };
            if let Some(cycle) = &mut self.storage.cycle {
                cycle.change(|record| record.published = Some(version.clone()))?;
            }
            return self.promote(&version);
        }
        let last = LastCycle {
            number: record.number,
            newest: record.newest,
            ended: Some(wall()),
            failures: 0,
            // What was too little to say anything is no try.
            attempts: self.last.attempts + u32::from(decision.verdict == Verdict::Reject),
            outcome: decision.reason.clone(),
        };
        let event = Event::Rejected {
            reason: Sentence::new(&decision.reason),
            numbers: numbers(&decision),
        };
        self.change_and_tell(event, |ledger, _| last.keep(ledger))?;
        self.last = last;
        self.storage.end_cycle()
    }

    /// Publishes the candidate; the same one again is the same version.
    fn publish(&mut self, decision: &Decision) -> Result<Version, VersionError> {
        let unix_s = u64::try_from(wall()).unwrap_or(0);
        let gguf = self.storage.paths.candidate_gguf();
        let (Some(cycle), Some(versions)) = (&self.storage.cycle, &mut self.storage.versions)
        else {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(StoreError::io("use", &self.storage.paths.state)(gone).into());
        };
        let record = &cycle.record;
        let start = record.basis.as_ref().and_then(|basis| basis.start.as_deref());
        let parent = record.baseline.clone().flatten();
        let meta = VersionMeta {
            base_sha256: self.model.sha256.clone(),
            base_name: self.model.name.clone(),
            parent: parent.and_then(|id| id.parse().ok()),
            unix_s,
            metrics: json!({
                "cycle": record.number,
                "started_from": start,
                "train_tasks": record.train,
                "decision": decision,
            }),
        };
        versions.publish(&cycle.candidate(), meta, |_, out| copy(&gguf, out))
    }

    /// A candidate that is good enough and cannot be made a version: a disk may be mended, but what is
    /// damaged, unknown or was taken back stays so.
    fn cannot_promote(&mut self, error: VersionError) -> Result<(), Trouble> {
        if matches!(error, VersionError::Store(_)) && !error.is_damage() {
            return Err(error.into());
        }
        self.fail_cycle(&error.to_string());
        Ok(())
    }

    /// Makes a published version the active one.
    fn promote(&mut self, id: &str) -> Result<(), Trouble> {
        let (Some(cycle), Some(versions)) = (&self.storage.cycle, &mut self.storage.versions)
        else {
            return Err(closed());
        };
        let record = cycle.record.clone();
        let id = id.parse().map_err(|e| Trouble::new(FaultKind::Disk, e))?;
        let version = match versions.activate(id) {
            Ok(version) => version,
            Err(error) => return self.cannot_promote(error),
        };
        let previous = record.baseline.flatten();
        let last = LastCycle {
            number: record.number,
            newest: record.newest,
            ended: Some(wall()),
            failures: 0,
            attempts: 0,
            outcome: format!("promoted as {id}"),
        };
        let judged = Judged { version: Some(id.to_string()), newest: record.newest, checks: 0 };
        let hook = HookDue {
            kind: Some(HookKind::Promoted),
            version: Some(id.to_string()),
            previous: previous.clone(),
        };
        let decision: Option<Decision> =
            serde_json::from_value(version.manifest.metrics["decision"].clone()).ok();
        let event = Event::Promoted {
            version: id.to_string(),
            sha256: version.manifest.weights_sha256().to_owned(),
            parent: previous,
            numbers: decision.as_ref().map(numbers).unwrap_or_default(),
        };
        self.change_and_tell(event, |ledger, _| {
            last.keep(ledger)?;
            judged.keep(ledger)?;
            hook.keep(ledger)
        })?;
        (self.last, self.judged, self.hook_due) = (last, judged, hook);
        self.storage.end_cycle()?;
        self.retain_versions();
        self.adapter_is_another();
        Ok(())
    }

    /// Removes versions that are no longer kept.
    fn retain_versions(&mut self) {
        let Some(versions) = &mut self.storage.versions else { return };
        match versions.retain() {
            Ok(removed) => {
                for id in removed {
                    log::info!(event = "version_removed", adapter = id.to_string().as_str(); "version {id} is no longer kept");
                }
            }
            Err(error) => log::warn!("old versions cannot be removed: {error}"),
        }
    }

    /// Judges the check of the active adapter, and acts on it.
    pub(super) fn judge_check(&mut self) {
        let done = self.judge_fresh();
        self.check(done);
        self.count_tasks();
    }

    fn judge_fresh(&mut self) -> Result<(), Trouble> {
        let dir = self.storage.paths.check();
        let Some(mut folder) = CheckFolder::open(&dir)? else { return Ok(()) };
        let record = folder.record.clone();
        let active = self.active_version()?.map(|version| version.id.to_string());
        if active.as_ref() != Some(&record.version) {
            // Another one took its place meanwhile.
            return Ok(folder.end()?);
        }
        let mut paired = match comparison::read(&folder.comparison()) {
            Ok(paired) => paired,
            Err(error) => {
                log::warn!(event = "check_again"; "the check is done again: {error}");
                return Ok(folder.end()?);
            }
        };
        paired.attempt = self.judged.checks + 1;
        let checked = gate::check(&self.config.promotion, &paired);
        let evidence = checked.evidence.as_ref();
        let numbers = evidence_numbers(evidence, checked.questions);
        let keep = checked.verdict == Check::Keep;
        let (reason, sentence) = (Sentence::new(&checked.reason), Sentence::new(&checked.reason));
        let event =
            Event::Checked { version: record.version.clone(), keep, reason: sentence, numbers };
        if !keep {
            // Before anything else: a kill must not lose the verdict.
            folder.roll_back()?;
        }
        let judged = Judged {
            version: Some(record.version.clone()),
            newest: record.newest,
            checks: self.judged.checks + 1,
        };
        let mut wishes = self.wishes.clone();
        let asked = wishes.check_now.take();
        self.change_and_tell(event, |ledger, teller| {
            wishes.keep(ledger)?;
            judged.keep(ledger)?;
            match &asked {
                Some(id) => teller.finish(ledger, id, CommandOutcome::Done(Some(reason.clone()))),
                None => Ok(()),
            }
        })?;
        (self.judged, self.wishes) = (judged, wishes);
        if !keep {
            self.roll_back(&record.version, reason.as_str())?;
        }
        Ok(folder.end()?)
    }

    /// Completes a check that a kill has cut short between its verdict and the rollback.
    pub(super) fn complete_check(&mut self) -> Result<(), Trouble> {
        let Some(folder) = CheckFolder::open(&self.storage.paths.check())? else { return Ok(()) };
        if folder.record.rolling_back {
            let version = folder.record.version.clone();
            self.roll_back(&version, "worse than its parent on fresh tasks")?;
            folder.end()?;
        }
        Ok(())
    }

    /// The check cannot be done; the next one waits for other tasks.
    pub(super) fn forget_check(&mut self, why: &str) -> Result<(), Trouble> {
        if let Some(folder) = CheckFolder::open(&self.storage.paths.check())? {
            folder.end()?;
        }
        let version = self.active_version()?.map(|version| version.id.to_string());
        let checks = self.judged.checks;
        let kept = self.with_ledger(|ledger| {
            let newest = ledger.newest_sequence()?;
            let judged = Judged { version: version.clone(), newest, checks };
            judged.keep(ledger)?;
            Ok(judged)
        });
        if let Some(judged) = kept {
            self.judged = judged;
        }
        if let Some(id) = self.wishes.check_now.take() {
            self.finish_wish(&id, CommandOutcome::Failed(Sentence::new(why)));
        }
        self.count_tasks();
        Ok(())
    }

    /// Takes `version` back, if it is still the active one, and tells of it.
    pub(super) fn roll_back(&mut self, version: &str, reason: &str) -> Result<(), Trouble> {
        let unix_s = u64::try_from(wall()).unwrap_or(0);
        let Some(versions) = &mut self.storage.versions else { return Err(closed()) };
        let id = version.parse().map_err(|e| Trouble::new(FaultKind::Disk, e))?;
        let to = versions.roll_back(id, reason, unix_s)?.to.map(|id| id.to_string());
        let hook = HookDue {
            kind: Some(HookKind::RolledBack),
            version: to.clone(),
            previous: Some(version.to_owned()),
        };
        let reason = Sentence::new(reason);
        self.keep_switch(hook, Event::RolledBack { from: version.to_owned(), to, reason })
    }

    /// Keeps that another version is active, and the hook that is due, with the event that tells of it.
    pub(super) fn keep_switch(&mut self, hook: HookDue, event: Event) -> Result<(), Trouble> {
        let newest = self.judged.newest;
        let judged = Judged { version: hook.version.clone(), newest, checks: 0 };
        self.change_and_tell(event, |ledger, _| {
            judged.keep(ledger)?;
            hook.keep(ledger)
        })?;
        (self.judged, self.hook_due) = (judged, hook);
        self.adapter_is_another();
        Ok(())
    }

    /// What depends on which adapter is active.
    pub(super) fn adapter_is_another(&mut self) {
        self.count_tasks();
        self.answer_check_now();
        self.publish_state();
    }

    /// Makes a change in the ledger together with the event that tells of it: both, or neither.
    pub(super) fn change_and_tell(
        &mut self,
        event: Event,
        change: impl Fn(&Ledger, &Teller) -> Result<(), LedgerError>,
    ) -> Result<(), Trouble> {
        let teller = &self.teller;
        let now = wall();
        let (rebuilt, result) = self.storage.with_ledger(now, |ledger| {
            ledger.transaction(|_| {
                change(ledger, teller)?;
                teller.enqueue(ledger, &event)
            })
        });
        self.note_rebuilt(rebuilt);
        result?;
        self.teller.told_in_transaction(&event);
        Ok(())
    }
}

/// Copies what the worker wrote: the daemon itself never opens a model.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::copy(from, to).map(|_| ()).map_err(StoreError::io("copy", from))
}

fn closed() -> Trouble {
    Trouble::new(FaultKind::Disk, "the state folder is not open")
}

/// What a decision says in numbers.
fn numbers(decision: &Decision) -> Numbers {
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
