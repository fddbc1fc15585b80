//! Publishes a candidate as a version.

use std::path::Path;

use serde_json::Value;

use super::id::MAX_NUMBER;
use super::manifest::{FILES, GGUF_FILE, MAX_ANCESTORS, VersionManifest};
use super::{PUBLISHING, Version, VersionError, VersionId, Versions};
use crate::arch::spec::{ModelSpec, SpecError};
use crate::gguf::GgufFile;
use crate::store::adapter::{CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, file_sha256};
use crate::store::{AdapterManifest, AdapterShape, StoreError, read_peft, write_gguf_lora};

/// What a version's manifest says besides the hashes.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionMeta {
    /// SHA-256 of the model's file, 64 hexadecimal digits.
    pub base_sha256: String,
    /// The model's name, for people.
    pub base_name: String,
    /// The version that the candidate's training started from; `None` for the base model.
    pub parent: Option<VersionId>,
    /// Seconds since 1970.
    pub unix_s: u64,
    /// The numbers that it is promoted for: a JSON object of less than 60 KiB, without text of
    /// tasks.
    pub metrics: Value,
}

/// What an adapter in llama.cpp's format must know of its model; comes from the model's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Its layers and their sizes.
    pub shape: AdapterShape,
}

impl BaseModel {
    /// Reads a model's header. The header of a model with a large vocabulary takes tens of MiB while
    /// it is read; none of that stays.
    ///
    /// # Errors
    /// If the model is not supported.
    pub fn open(model: &Path) -> Result<Self, SpecError> {
        let spec = ModelSpec::from_gguf(&GgufFile::open(model)?)?;
        Ok(Self::from(&spec))
    }
}

impl From<&ModelSpec> for BaseModel {
    fn from(spec: &ModelSpec) -> Self {
        Self { architecture: spec.family.name, shape: AdapterShape::from(spec) }
    }
}

/// Writes the PEFT adapter in `peft` for llama.cpp.
///
/// # Errors
/// As [`read_peft`], [`StoreError::Unstorable`] if a weight is not a finite number, and
/// [`StoreError::Io`].
pub fn write_gguf(base: &BaseModel, peft: &Path, out: &Path) -> Result<(), StoreError> {
    let (config, tensors) = read_peft(peft, &base.shape)?;
    if tensors.values().any(|m| m.data.iter().any(|x| !x.is_finite())) {
        return Err(StoreError::Unstorable {
            what: format!("the adapter in {}", peft.display()),
            reason: "some of its weights are not finite numbers".into(),
        });
    }
    #[expect(clippy::cast_possible_truncation, reason = "the file format has 32 bits for it")]
    let alpha = config.lora_alpha as f32;
    let prompt = AdapterManifest::read(peft)?.map(|made| made.prompt()).unwrap_or_default();
    write_gguf_lora(out, base.architecture, alpha, &tensors, &prompt)
}

impl Versions {
    /// Makes a version of the PEFT adapter in `from`: copies its configuration and its weights, and
    /// lets `gguf` write the same adapter for llama.cpp (from the folder that is its first argument
    /// to the file that is its second; see [`write_gguf`]). The version is not active yet.
    ///
    /// A candidate with the same weights for the same model and parent is published once: publishing
    /// it again returns the existing version (which may be marked as rolled back).
    ///
    /// # Errors
    /// [`VersionError::Unknown`], [`VersionError::RolledBack`] and [`VersionError::OtherBase`] for
    /// the parent, [`StoreError::OtherModel`] if the candidate's own manifest names another model,
    /// and the errors of files. The folder is then unchanged.
    pub fn publish(
        &mut self,
        from: &Path,
        meta: VersionMeta,
        gguf: impl FnOnce(&Path, &Path) -> Result<(), StoreError>,
    ) -> Result<Version, VersionError> {
        AdapterManifest::check(from, &meta.base_sha256)?;
        let lineage = self.lineage_of(&meta)?;
        let weights = file_sha256(&from.join(WEIGHTS_FILE))?;
        if let Some(version) = self.published(&weights, &meta)? {
            return Ok(version);
        }
        let version = self.next_id(&weights)?;
        let temp = self.dir.join(PUBLISHING);
        let built = self
            .build(&temp, from, version, meta, lineage, gguf)
            .and_then(|()| self.disk.rename(&self.dir, PUBLISHING, &version.to_string()));
        if let Err(error) = built {
            // The error at hand is the one to report; opening the folder removes it as well.
            let _ = self.disk.remove_folder(&temp);
            return Err(error.into());
        }
        self.get(version)
    }

    fn build(
        &self,
        temp: &Path,
        from: &Path,
        version: VersionId,
        meta: VersionMeta,
        lineage: Vec<VersionId>,
        gguf: impl FnOnce(&Path, &Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.disk.remove_folder(temp)?;
        self.disk.new_folder(temp)?;
        for name in [CONFIG_FILE, WEIGHTS_FILE] {
            self.disk.copy(&from.join(name), &temp.join(name))?;
        }
        gguf(temp, &temp.join(GGUF_FILE))?;
        // Hashed from the copy, so that a candidate that changes meanwhile is noticed.
        let files = FILES
            .iter()
            .map(|name| Ok(((*name).to_owned(), self.disk.finish(&temp.join(name))?)))
            .collect::<Result<_, StoreError>>()?;
        let manifest = VersionManifest {
            adapter: AdapterManifest::new(&meta.base_sha256, &meta.base_name)
                .with_training(AdapterManifest::read(from)?.and_then(|made| made.training)),
            version,
            parent: meta.parent,
            ancestors: lineage.into_iter().skip(1).take(MAX_ANCESTORS).collect(),
            created_unix_s: meta.unix_s,
            files,
            metrics: meta.metrics,
        };
        if !version.fits(manifest.weights_sha256()) {
            return Err(StoreError::damaged(
                &from.join(WEIGHTS_FILE),
                "it changed while it was copied",
            ));
        }
        manifest.write(temp)?;
        self.disk.finish(&temp.join(MANIFEST_FILE))?;
        self.disk.sync(temp)
    }

    /// The parent and what it descends from, nearest first.
    fn lineage_of(&self, meta: &VersionMeta) -> Result<Vec<VersionId>, VersionError> {
        let Some(id) = meta.parent else { return Ok(Vec::new()) };
        let parent = self.get(id)?;
        let (expected, found) = (&meta.base_sha256, &parent.manifest.adapter.base_sha256);
        if !found.eq_ignore_ascii_case(expected) {
            let (expected, found) = (expected.clone(), found.clone());
            return Err(VersionError::OtherBase { parent: id, expected, found });
        }
        if let Some(mark) = parent.rolled_back {
            return Err(VersionError::RolledBack { id, reason: mark.reason });
        }
        Ok(std::iter::once(id).chain(parent.manifest.lineage()).collect())
    }

    /// The sound version that is the same candidate.
    fn published(
        &self,
        weights: &str,
        meta: &VersionMeta,
    ) -> Result<Option<Version>, VersionError> {
        let same = |version: &Version| {
            let manifest = &version.manifest;
            manifest.weights_sha256() == weights
                && manifest.parent == meta.parent
                && manifest.adapter.base_sha256.eq_ignore_ascii_case(&meta.base_sha256)
                && version.verify().is_ok()
        };
        Ok(self.list()?.versions.into_iter().rev().find(same))
    }

    fn next_id(&self, weights: &str) -> Result<VersionId, VersionError> {
        let last = self.ids()?.last().map_or(0, |id| id.number());
        let full = || VersionError::Full { dir: self.dir.clone() };
        if last >= MAX_NUMBER {
            return Err(full());
        }
        VersionId::new(last + 1, weights).ok_or_else(full)
    }
}
