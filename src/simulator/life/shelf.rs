//! The versions of the adapter that a made-up device keeps, and the active one of them.

use super::lesson::Evidence;
use crate::contract::wire::{AdapterInfo, VersionInfo};
use crate::simulator::random::Random;

/// Versions that are kept.
const MOST: usize = 6;

/// A version.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its folder's name.
    pub name: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// The version that it was compared with; nothing for the base model.
    pub parent: Option<String>,
    /// The numbers that decided for it.
    pub evidence: Evidence,
    published_ms: u64,
    rolled_back: bool,
}

/// The versions.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// Oldest first.
    versions: Vec<Version>,
    active: Option<String>,
    /// Share of right answers that the base model gives.
    base: f64,
    numbered: u64,
}

impl Shelf {
    /// None yet.
    pub fn new(random: &mut Random) -> Self {
        let base = random.between(0.25, 0.6);
        Self { versions: Vec::new(), active: None, base, numbered: 0 }
    }

    /// The active version; nothing while the base model serves.
    pub fn active(&self) -> Option<&Version> {
        self.find(self.active.as_deref()?)
    }

    fn find(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Share of right answers that are given now.
    pub fn accuracy(&self) -> f64 {
        self.active().map_or(self.base, |version| version.evidence.after)
    }

    /// Makes a candidate the active version.
    pub fn promote(&mut self, random: &mut Random, evidence: Evidence, now_ms: u64) -> &Version {
        self.numbered += 1;
        let sha256 = random.sha256();
        let name = format!("{:08}-{}", self.numbered, &sha256[..8]);
        let parent = self.active.replace(name.clone());
        if self.versions.len() >= MOST {
            let spare = |version: &Version| Some(&version.name) != parent.as_ref();
            let at = self.versions.iter().position(spare).unwrap_or(0);
            self.versions.remove(at);
        }
        let version =
            Version { name, sha256, parent, evidence, published_ms: now_ms, rolled_back: false };
        let at = self.versions.len();
        self.versions.push(version);
        &self.versions[at]
    }

    /// Makes a version the active one; says which one was before.
    ///
    /// # Errors
    /// A sentence: there is no such version.
    pub fn switch(&mut self, name: &str) -> Result<Option<String>, String> {
        let found = self.versions.iter_mut().find(|version| version.name == name);
        let version = found.ok_or_else(|| format!("there is no version {name}"))?;
        version.rolled_back = false;
        Ok(self.active.replace(name.to_owned()))
    }

    /// Goes back to the parent of the active version; says which one was given up and which one follows.
    pub fn roll_back(&mut self) -> Option<(String, Option<String>)> {
        let from = self.active.take()?;
        let version = self.versions.iter_mut().find(|version| version.name == from)?;
        version.rolled_back = true;
        let parent = version.parent.clone();
        self.active = parent.filter(|parent| self.find(parent).is_some());
        Some((from, self.active.clone()))
    }

    /// The active version, as states have it.
    pub fn adapter(&self) -> Option<AdapterInfo> {
        self.active().map(|version| AdapterInfo {
            version: version.name.clone(),
            sha256: version.sha256.clone(),
        })
    }

    /// All versions, as states have them.
    pub fn list(&self) -> Vec<VersionInfo> {
        let info = |version: &Version| VersionInfo {
            version: version.name.clone(),
            sha256: version.sha256.clone(),
            parent: version.parent.clone(),
            published_ms: version.published_ms,
            rolled_back: version.rolled_back,
            numbers: version.evidence.named(),
        };
        self.versions.iter().map(info).collect()
    }
}
