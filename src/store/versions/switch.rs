//! Switches the active version: activation, rollback and repair.

use std::path::Path;

use super::{CURRENT, DAMAGED, Mark, ROLLED_BACK, Version, VersionError, VersionId, Versions};
use crate::store::{StoreError, write_atomic};

/// The longest reason that a mark keeps, in characters.
const MAX_REASON_CHARS: usize = 500;

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The version that was given up.
    pub from: VersionId,
    /// What is active now; `None` for the base model alone.
    pub to: Option<VersionId>,
}

/// What [`Versions::repair`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The active version (or none) is sound.
    Sound(Option<VersionId>),
    /// The active version was damaged and set aside.
    WentBack {
        /// What `current` named, if it named a version.
        broken: Option<VersionId>,
        /// What is wrong with it, a sentence.
        why: String,
        /// What is active now; `None` for the base model alone.
        to: Option<VersionId>,
    },
}

impl Versions {
    /// Makes a version the active one.
    ///
    /// # Errors
    /// [`VersionError::Unknown`], [`VersionError::RolledBack`], or what is damaged in it. The active
    /// version is then as before.
    pub fn activate(&mut self, id: VersionId) -> Result<Version, VersionError> {
        let version = self.get(id)?;
        if let Some(mark) = version.rolled_back {
            return Err(VersionError::RolledBack { id, reason: mark.reason });
        }
        version.verify()?;
        self.switch(Some(id))?;
        Ok(version)
    }

    /// Returns to the base model alone, without marking the version that was active; for a model
    /// that was replaced.
    ///
    /// # Errors
    /// If the link cannot be removed.
    pub fn deactivate(&mut self) -> Result<(), VersionError> {
        Ok(self.switch(None)?)
    }

    /// Marks a version as worse than its parent; if it is active, goes back to the nearest sound
    /// ancestor, or to the base model. Repeating it with the same version has the same effect and result.
    ///
    /// # Errors
    /// [`VersionError::Unknown`], or what is damaged in the version ([`Self::repair`] goes back
    /// then).
    pub fn roll_back(
        &mut self,
        id: VersionId,
        reason: &str,
        unix_s: u64,
    ) -> Result<RolledBack, VersionError> {
        let version = self.get(id)?;
        if version.rolled_back.is_none() {
            let reason = reason.chars().take(MAX_REASON_CHARS).collect();
            self.mark(&version.path, &Mark { unix_s, reason })?;
        }
        if self.active()? == Some(id) {
            let ancestor = self.sound_ancestor(&version)?;
            self.switch(ancestor)?;
        }
        Ok(RolledBack { from: id, to: self.active()? })
    }

    /// Takes the mark off a version, so that it can be activated again.
    ///
    /// # Errors
    /// [`VersionError::Unknown`], or if the mark cannot be removed.
    pub fn reinstate(&mut self, id: VersionId) -> Result<(), VersionError> {
        let version = self.get(id)?;
        Ok(self.disk.remove(&version.path, ROLLED_BACK)?)
    }

    /// Verifies the active version. If it is damaged, goes back to its nearest sound ancestor (or,
    /// where the manifest is lost, to the newest sound version before it) made for the model with
    /// `base_sha256`, or else to the base model; the damaged folder is renamed to `damaged-…`.
    ///
    /// # Errors
    /// Of the operating system. Nothing is changed before a sound version is found.
    pub fn repair(&mut self, base_sha256: &str) -> Result<Repair, VersionError> {
        let error = match self.current() {
            Ok(version) => return Ok(Repair::Sound(version.map(|v| v.id))),
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error),
        };
        let broken = match self.active() {
            Ok(active) => active,
            // Not even a link to a version: move it out of the way.
            Err(_) => {
                self.set_aside(CURRENT)?;
                None
            }
        };
        let to = match broken.map(|id| self.get(id)) {
            Some(Ok(version)) => self.sound_ancestor(&version)?,
            _ => self.newest_sound(base_sha256, |id| broken.is_none_or(|b| id < b))?,
        };
        self.switch(to)?;
        if let Some(id) = broken
            && self.dir.join(id.to_string()).symlink_metadata().is_ok()
        {
            self.set_aside(&id.to_string())?;
        }
        Ok(Repair::WentBack { broken, why: error.to_string(), to })
    }

    /// Completes a rollback that was stopped between the mark and the link.
    pub(super) fn complete_roll_back(&mut self) -> Result<(), VersionError> {
        // Damage is found, and named, when the active version is asked for.
        let Ok(Some(id)) = self.active() else { return Ok(()) };
        let Ok(version) = self.get(id) else { return Ok(()) };
        if version.rolled_back.is_some() {
            let ancestor = self.sound_ancestor(&version)?;
            self.switch(ancestor)?;
        }
        Ok(())
    }

    /// The version that a rollback of `version` goes to.
    pub(super) fn sound_ancestor(
        &self,
        version: &Version,
    ) -> Result<Option<VersionId>, VersionError> {
        let lineage: Vec<VersionId> = version.manifest.lineage().collect();
        self.newest_sound(&version.manifest.adapter.base_sha256, |id| lineage.contains(&id))
    }

    /// The newest version of those `wanted` that is for this model, not marked, and verified.
    fn newest_sound(
        &self,
        base_sha256: &str,
        wanted: impl Fn(VersionId) -> bool,
    ) -> Result<Option<VersionId>, VersionError> {
        let sound = |version: &Version| {
            version.rolled_back.is_none()
                && version.manifest.adapter.base_sha256.eq_ignore_ascii_case(base_sha256)
                && version.verify().is_ok()
        };
        let candidates = self.ids()?.into_iter().rev().filter(|id| wanted(*id));
        Ok(candidates.filter_map(|id| self.get(id).ok()).find(sound).map(|version| version.id))
    }

    fn mark(&self, version: &Path, mark: &Mark) -> Result<(), StoreError> {
        let path = version.join(ROLLED_BACK);
        write_atomic(&path, |w| Ok(serde_json::to_writer(w, mark)?))?;
        self.disk.finish(&path).map(|_| ())
    }

    /// Points `current` at a version, or removes it.
    fn switch(&self, to: Option<VersionId>) -> Result<(), StoreError> {
        match to {
            Some(id) => self.disk.link(&self.dir, &id.to_string(), CURRENT),
            None => self.disk.remove(&self.dir, CURRENT),
        }
    }

    /// Renames something damaged to a name that is not taken.
    fn set_aside(&self, name: &str) -> Result<(), StoreError> {
        let taken = |name: &str| self.dir.join(name).symlink_metadata().is_ok();
        let mut aside = format!("{DAMAGED}{name}");
        for n in 2.. {
            if !taken(&aside) {
                break;
            }
            aside = format!("{DAMAGED}{name}.{n}");
        }
        self.disk.rename(&self.dir, name, &aside)
    }
}
