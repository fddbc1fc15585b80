//! What follows from a comparison, on disk: published, promoted, rolled back. Every step can be
//! repeated: what a kill leaves half done is completed at the next start.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Driver, wall};
use crate::contract::event::Event as Told;
use crate::daemon::adapters::{ActiveAdapter, CheckFolder};
use crate::daemon::cycle::Published;
use crate::daemon::effect::{Commit, Effect};
use crate::daemon::faults::FaultKind;
use crate::daemon::storage::StorageError;
use crate::daemon::supervisor::KnownModel;
use crate::promotion::gate::Decision;
use crate::session::comparison;
use crate::store::StoreError;
use crate::store::ledger::Ledger;
use crate::store::versions::{Repair, Version, VersionError, VersionMeta};
use crate::worker::protocol::Loaded;

impl Driver {
    /// Judges the cycle's comparison, and acts on it. True unless something has failed.
    pub(super) fn judge_cycle(&mut self) -> bool {
        let judged = self.judgment();
        let done = judged.and_then(|effects| self.carry_out(effects));
        self.ok_or_raise(done).is_some()
    }

    fn judgment(&self) -> Result<Vec<Effect>, StorageError> {
        let Some(cycle) = &self.storage.cycle else { return Ok(Vec::new()) };
        let (active, paired) = if self.cycles.needs_comparison(&cycle.record) {
            let paired = comparison::read(&cycle.comparison()).map_err(|error| error.to_string());
            (self.active_id()?, paired)
        } else {
            (None, Err("it is not needed".to_owned()))
        };
        let settings = &self.settings.effective.promotion;
        Ok(self.cycles.judge(&cycle.record, active.as_deref(), paired, settings, wall()))
    }

    /// Publishes the candidate; the same one again is the same version. Then promotes it, or leaves that to
    /// an operator.
    pub(super) fn publish(&mut self, decision: &Decision) -> Result<(), StorageError> {
        match self.publish_version(decision) {
            Ok(version) => {
                let Some(cycle) = &self.storage.cycle else { return Ok(()) };
                let approval = self.settings.effective.promotion.approval;
                let (published, active) = (published(&version), &self.adapters.active);
                let effects =
                    self.cycles.published(&cycle.record, &published, approval, active, wall());
                self.carry_out(effects)
            }
            Err(error) => self.cannot_promote(error),
        }
    }

    fn publish_version(&mut self, decision: &Decision) -> Result<Version, VersionError> {
        let gguf = self.storage.paths.candidate_gguf();
        let (Some(cycle), Some(versions)) = (&self.storage.cycle, &mut self.storage.versions)
        else {
            let gone = ErrorKind::NotFound.into();
            return Err(StoreError::io("use", &self.storage.paths.state)(gone).into());
        };
        let record = &cycle.record;
        let start = record.state.basis().and_then(|basis| basis.start.as_deref());
        let parent = record.state.baseline().and_then(|baseline| baseline.0.as_deref());
        let model = &self.supervisor.model.known;
        let meta = VersionMeta {
            base_sha256: model.sha256.clone(),
            base_name: model.name.clone(),
            parent: parent.and_then(|id| id.parse().ok()),
            unix_s: u64::try_from(wall()).unwrap_or(0),
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
    /// damaged, unknown or was rolled back stays so.
    fn cannot_promote(&mut self, error: VersionError) -> Result<(), StorageError> {
        if matches!(error, VersionError::Store(_)) && !error.is_damage() {
            return Err(error.into());
        }
        let Some(cycle) = &self.storage.cycle else { return Ok(()) };
        let effects = self.cycles.failed(&cycle.record, &error.to_string(), wall());
        self.carry_out(effects)
    }

    /// Makes a published version the active one.
    pub(super) fn promote(&mut self, version: &str) -> Result<(), StorageError> {
        let (Some(cycle), Some(versions)) = (&self.storage.cycle, &mut self.storage.versions)
        else {
            return Err(StorageError::closed());
        };
        let id = version.parse().map_err(|e| StorageError::new(FaultKind::Disk, e))?;
        match versions.activate(id) {
            Ok(version) => {
                let effects = self.cycles.promoted(&cycle.record, &published(&version), wall());
                self.carry_out(effects)
            }
            Err(error) => self.cannot_promote(error),
        }
    }

    /// Removes versions that are no longer kept.
    pub(super) fn retain_versions(&mut self) {
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
    pub(super) fn judge_check(&mut self) -> Result<(), StorageError> {
        let Some(folder) = CheckFolder::open(&self.storage.paths.check())? else { return Ok(()) };
        let active = self.active_id()?;
        let paired = comparison::read(&folder.comparison()).map_err(|error| error.to_string());
        let effects = self.adapters.judge_check(
            &folder.record,
            active.as_deref(),
            paired,
            &self.settings.effective.promotion,
            self.operator.state(),
        );
        self.carry_out(effects)
    }

    /// Completes a check that a kill has cut short between its verdict and the rollback.
    pub(super) fn complete_check(&mut self) -> Result<(), StorageError> {
        let Some(folder) = CheckFolder::open(&self.storage.paths.check())? else { return Ok(()) };
        if folder.record.rolling_back {
            let version = folder.record.version.clone();
            self.roll_back(&version, "worse than its parent on fresh tasks")?;
            folder.end()?;
        }
        Ok(())
    }

    /// The check cannot be done; the next one waits for other tasks.
    pub(super) fn forget_check(&mut self, why: &str) -> Result<(), StorageError> {
        if let Some(folder) = CheckFolder::open(&self.storage.paths.check())? {
            folder.end()?;
        }
        let version = self.active_id()?;
        if let Some(newest) = self.with_ledger(Ledger::newest_sequence) {
            let effects = self.adapters.forget_check(version, newest);
            self.carry_out(effects)?;
        }
        let effects = self.operator.nothing_to_check(why);
        self.carry_out(effects)?;
        self.count_tasks();
        Ok(())
    }

    /// Rolls `version` back, if it is still the active one, and tells of it.
    pub(super) fn roll_back(&mut self, version: &str, reason: &str) -> Result<(), StorageError> {
        let unix_s = u64::try_from(wall()).unwrap_or(0);
        let Some(versions) = &mut self.storage.versions else {
            return Err(StorageError::closed());
        };
        let id = version.parse().map_err(|e| StorageError::new(FaultKind::Disk, e))?;
        let to = versions.roll_back(id, reason, unix_s)?.to.map(|id| id.to_string());
        let mut effects = self.adapters.rolled_back(version.to_owned(), to, reason);
        effects.extend(self.cycles.switched());
        self.carry_out(effects)
    }

    /// Another version may be active than `previous`, other than by a promotion: tells, and has the hook
    /// run.
    pub(super) fn adapter_switched(
        &mut self,
        previous: Option<String>,
        reason: &str,
    ) -> Result<(), StorageError> {
        let Some(versions) = &self.storage.versions else { return Ok(()) };
        let to = versions.active()?.map(|id| id.to_string());
        let mut effects = self.adapters.switched(previous, to, reason);
        if !effects.is_empty() {
            effects.extend(self.cycles.switched());
        }
        self.carry_out(effects)
    }

    /// Makes sure that `current` is sound; a damaged version gives way to its newest sound ancestor.
    pub(super) fn repair_versions(&mut self) {
        let Some(versions) = &mut self.storage.versions else { return };
        let was = versions.active().ok().flatten().map(|id| id.to_string());
        match versions.repair(&self.supervisor.model.known.sha256) {
            Ok(Repair::Sound(_)) => {}
            Ok(repair) => {
                log::warn!(event = "repaired"; "the active adapter was damaged: {repair:?}");
                let switched = self.adapter_switched(was, "its files were damaged");
                self.ok_or_raise(switched);
            }
            Err(error) => {
                self.ok_or_raise::<(), _>(Err(error));
            }
        }
    }

    /// A worker has loaded a model: is it the one that is known?
    pub(super) fn model_loaded(&mut self, loaded: &Loaded) -> Result<(), StorageError> {
        let found = KnownModel { sha256: loaded.sha256.clone(), name: loaded.file.clone() };
        let known = &self.supervisor.model.known;
        if found.sha256 != known.sha256 {
            if !known.sha256.is_empty() {
                let (expected_sha256, found_sha256) = (known.sha256.clone(), found.sha256.clone());
                self.tell(Told::ModelChanged { expected_sha256, found_sha256 });
            }
            self.commit(Commit { model: Some(found), ..Commit::default() })?;
        }
        // Also if the model is known: a kill may have come before the switch.
        let switched = self.switch_base();
        self.ok_or_raise(switched);
        self.mend(FaultKind::Model);
        self.reporter.loaded(loaded);
        self.supervisor.loaded();
        self.publish_state();
        Ok(())
    }

    /// Makes the newest adapter for the model at hand the active one; without one, the base model serves
    /// alone. What was learned on another model is kept, in case that one returns.
    fn switch_base(&mut self) -> Result<(), StorageError> {
        self.forget_awaiting()?;
        let Some(versions) = &mut self.storage.versions else { return Ok(()) };
        let Some(active) = versions.active()? else { return Ok(()) };
        let sha256 = &self.supervisor.model.known.sha256;
        if versions.get(active)?.manifest.adapter.base_sha256 == *sha256 {
            return Ok(());
        }
        let fitting = versions.list()?.versions.into_iter().rfind(|version| {
            version.rolled_back.is_none() && version.manifest.adapter.base_sha256 == *sha256
        });
        match fitting {
            Some(version) => versions.activate(version.id).map(|_| ())?,
            None => versions.deactivate()?,
        }
        self.adapter_switched(Some(active.to_string()), "the model is another one")
    }

    /// What waits for approval waits no more if it is gone, or was made for another model.
    fn forget_awaiting(&mut self) -> Result<(), StorageError> {
        let (Some(waited), Some(versions)) =
            (&self.adapters.active.awaiting, &self.storage.versions)
        else {
            return Ok(());
        };
        let sha256 = &self.supervisor.model.known.sha256;
        let version = waited.version.parse().ok().and_then(|id| versions.get(id).ok());
        if version.is_some_and(|version| version.manifest.adapter.base_sha256 == *sha256) {
            return Ok(());
        }
        log::warn!(event = "approval_void", adapter = waited.version.as_str(); "{} no longer waits for approval: it is gone, or was made for another model", waited.version);
        let active = ActiveAdapter { awaiting: None, ..self.adapters.active.clone() };
        self.commit(Commit { active: Some(active), ..Commit::default() })
    }

    /// The active version, if it was made for the model that is loaded.
    pub(super) fn active_version(&self) -> Result<Option<Version>, StorageError> {
        let Some(versions) = &self.storage.versions else { return Ok(None) };
        let Some(id) = versions.active()? else { return Ok(None) };
        let version = versions.get(id)?;
        let fits = version.manifest.adapter.base_sha256 == self.supervisor.model.known.sha256;
        Ok(fits.then_some(version))
    }

    /// Its name.
    fn active_id(&self) -> Result<Option<String>, StorageError> {
        Ok(self.active_version()?.map(|version| version.id.to_string()))
    }

    /// The folder of the version with this name.
    pub(super) fn version_path(&self, id: &str) -> Option<PathBuf> {
        let found = self.storage.versions.as_ref().zip(id.parse().ok());
        found.and_then(|(versions, id)| versions.get(id).ok()).map(|version| version.path)
    }
}

/// A version as the cycle sees it.
pub(super) fn published(version: &Version) -> Published {
    Published {
        version: version.id.to_string(),
        sha256: version.manifest.weights_sha256().to_owned(),
        rolled_back: version.rolled_back.is_some(),
        decision: decision_of(version),
    }
}

/// What the gate has said of a version, if its manifest tells.
pub(super) fn decision_of(version: &Version) -> Option<Decision> {
    serde_json::from_value(version.manifest.metrics["decision"].clone()).ok()
}

/// Copies what the worker has written: the daemon itself never opens a model.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::copy(from, to).map(|_| ()).map_err(StoreError::io("copy", from))
}
