//! `latrod.json` of a version: an adapter's manifest with the version's place among the others and
//! the hashes of its files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VersionId;
use crate::store::adapter::{AdapterManifest, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE};
use crate::store::json::{hex, read_text};
use crate::store::{StoreError, write_atomic};

/// The adapter for llama.cpp, beside the PEFT files.
pub const GGUF_FILE: &str = "adapter.gguf";
/// The files of a version that its manifest vouches for, all of them.
pub(super) const FILES: [&str; 3] = [CONFIG_FILE, WEIGHTS_FILE, GGUF_FILE];
/// Ancestors that a manifest names: more than are ever kept.
pub(super) const MAX_ANCESTORS: usize = 256;
/// The largest manifest, in bytes; what [`AdapterManifest::read`] takes.
const MAX_BYTES: usize = 1 << 16;
/// The field with the hash of all others.
const CHECKSUM: &str = "sha256";

/// A file as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// Where a version comes from and what it consists of. Tools that know [`AdapterManifest`] alone
/// read the file as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionManifest {
    /// The model and the program that the adapter was made for and by.
    #[serde(flatten)]
    pub adapter: AdapterManifest,
    /// The version's own name, that of its folder.
    pub version: VersionId,
    /// The version that its training started from; nothing for the base model.
    pub parent: Option<VersionId>,
    /// The versions before the parent, nearest first.
    pub ancestors: Vec<VersionId>,
    /// Seconds since 1970, by the device's clock at the time.
    pub created_unix_s: u64,
    /// The version's files by name.
    pub files: BTreeMap<String, FileSum>,
    /// The numbers that it was promoted for, a JSON object.
    pub metrics: Value,
}

impl VersionManifest {
    /// The parent and all before it, nearest first.
    pub fn lineage(&self) -> impl Iterator<Item = VersionId> + '_ {
        self.parent.iter().chain(&self.ancestors).copied()
    }

    /// The hash of the weights, by which equal candidates are known.
    #[must_use]
    pub fn weights_sha256(&self) -> &str {
        self.files.get(WEIGHTS_FILE).map_or("", |file| &file.sha256)
    }

    /// Writes the manifest into `dir`, durably and with a checksum over all its fields.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let unstorable = |reason: String| StoreError::Unstorable {
            what: format!("the manifest of version {}", self.version),
            reason,
        };
        let mut value = serde_json::to_value(self).map_err(|e| unstorable(e.to_string()))?;
        let sum = checksum(&value);
        value[CHECKSUM] = sum.into();
        let mut text = serde_json::to_vec_pretty(&value).map_err(|e| unstorable(e.to_string()))?;
        text.push(b'\n');
        if text.len() > MAX_BYTES {
            let n = text.len();
            return Err(unstorable(format!(
                "it has {n} bytes, at most {MAX_BYTES}; store fewer metrics"
            )));
        }
        write_atomic(&dir.join(MANIFEST_FILE), |w| w.write_all(&text))
    }

    /// Reads the manifest in `dir`, whose name says that it is `id`'s.
    pub(super) fn read(dir: &Path, id: VersionId) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST_FILE);
        let damaged = |what: String| StoreError::damaged(&path, what);
        let text = read_text(&path, MAX_BYTES as u64)?;
        let mut value: Value = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let sum = value.as_object_mut().and_then(|fields| fields.shift_remove(CHECKSUM));
        if sum.as_ref().and_then(Value::as_str) != Some(&checksum(&value)) {
            return Err(damaged("its checksum does not match".into()));
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        if manifest.version != id || !id.fits(manifest.weights_sha256()) {
            return Err(damaged(format!("it is not that of version {id}")));
        }
        if !manifest.files.keys().map(String::as_str).eq(sorted_files()) {
            return Err(damaged(format!("its files are not {}", FILES.join(", "))));
        }
        // A version descends from older ones; anything else would lead in circles.
        if manifest.ancestors.len() > MAX_ANCESTORS || manifest.lineage().any(|a| a >= id) {
            return Err(damaged("its ancestors cannot be".into()));
        }
        Ok(manifest)
    }
}

fn sorted_files() -> impl Iterator<Item = &'static str> {
    let mut names = FILES;
    names.sort_unstable();
    names.into_iter()
}

/// SHA-256 over the compact JSON of a manifest without its checksum.
fn checksum(value: &Value) -> String {
    hex(&Sha256::digest(value.to_string()))
}
