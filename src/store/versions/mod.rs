//! The promoted adapters: numbered folders that never change, and `current`, which one is active.
//!
//! ```text
//!   adapters/
//!     00000001-5d41402a/     a version: adapter_config.json, adapter_model.safetensors (PEFT),
//!                            adapter.gguf (llama.cpp), latrod.json (manifest)
//!     00000002-7d793037/
//!       rolled-back          only in versions that were found to be worse: when and why
//!     current -> 00000001-5d41402a
//! ```
//!
//! A version is built in a hidden folder, synced, and renamed into place; `current` is replaced by
//! a rename. So at every instant a version is whole or absent, and `current` names a whole version
//! or is absent. **Where `current` is absent the base model serves alone**: a server loads the
//! adapter behind `current` if there is one, and none otherwise. It should resolve the link once and
//! open the files by the folder it leads to, since a rollback may move the link between two opens.
//!
//! A rollback marks the version before it moves the link; one that was killed in between is
//! completed on opening. What was published is never changed, so an active version that no longer
//! matches its hashes was damaged by something else; [`Versions::repair`] goes back to a sound one.
//!
//! One process at a time writes (a lock in the folder); [`current_of`] reads without it. Knows
//! nothing of why a version is promoted or rolled back.

mod disk;
mod error;
mod id;
mod manifest;
mod publish;
mod retain;
mod settings;
mod switch;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::VersionError;
pub use id::{NotAVersion, VersionId};
pub use manifest::{FileSum, GGUF_FILE, VersionManifest};
pub use publish::{BaseModel, VersionMeta, write_gguf};
pub use retain::{Held, surplus};
pub use settings::{ReadableBy, VersionSettings};
pub use switch::{Repair, RolledBack};

use self::disk::Disk;
use crate::store::adapter::file_sha256;
use crate::store::durable::create_folder;
use crate::store::json::read_text;
use crate::store::{DirLock, StoreError, remove_stale_temps};

/// The link to the active version.
pub const CURRENT: &str = "current";
/// The mark of a version that was found to be worse.
const ROLLED_BACK: &str = "rolled-back";
/// Where the next version is built.
const PUBLISHING: &str = ".publishing";
/// What the name of a folder that is being removed starts with.
const REMOVING: &str = ".removing-";
/// What the name of a folder starts with that held a version until it was found damaged.
const DAMAGED: &str = "damaged-";
/// Entries that are looked at in the folder: many more than any setting keeps.
const MAX_ENTRIES: usize = 10_000;
/// The largest mark that is read, in bytes.
const MAX_MARK_BYTES: u64 = 1 << 16;

/// When and why a version was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds since 1970.
    pub unix_s: u64,
    /// A sentence.
    pub reason: String,
}

/// A version whose manifest could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its name.
    pub id: VersionId,
    /// Its folder, a PEFT adapter.
    pub path: PathBuf,
    /// What it is.
    pub manifest: VersionManifest,
    /// Whether it was found to be worse.
    pub rolled_back: Option<Mark>,
}

impl Version {
    /// Reads a version's manifest; its files may still be damaged.
    fn read(dir: &Path, id: VersionId) -> Result<Self, VersionError> {
        let path = dir.join(id.to_string());
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io("read", &path)(error).into());
            }
            _ => return Err(VersionError::Unknown { dir: dir.to_owned(), id }),
        }
        let manifest = VersionManifest::read(&path, id)?;
        let rolled_back = read_mark(&path)?;
        Ok(Self { id, path, manifest, rolled_back })
    }

    /// Compares the version's files with its manifest. Reads all of them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] that names the file, [`StoreError::Io`].
    pub fn verify(&self) -> Result<(), StoreError> {
        for (name, written) in &self.manifest.files {
            let path = self.path.join(name);
            let meta = std::fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
            if !meta.is_file() || meta.len() != written.bytes {
                let n = written.bytes;
                return Err(StoreError::damaged(&path, format!("it is not a file of {n} bytes")));
            }
            if file_sha256(&path)? != written.sha256 {
                return Err(StoreError::damaged(&path, "its checksum does not match"));
            }
        }
        Ok(())
    }

    /// The adapter for llama.cpp.
    #[must_use]
    pub fn gguf(&self) -> PathBuf {
        self.path.join(GGUF_FILE)
    }
}

/// What the folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The versions with a manifest that can be read, oldest first.
    pub versions: Vec<Version>,
    /// Folders with a version's name that hold none.
    pub damaged: Vec<(VersionId, VersionError)>,
}

/// The folder of versions, locked for one process.
#[derive(Debug)]
pub struct Versions {
    dir: PathBuf,
    settings: VersionSettings,
    disk: Disk,
    _lock: DirLock,
}

impl Versions {
    /// Opens or makes the folder and clears what a killed process left in it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process has it open, [`StoreError::Io`]. Damaged versions are
    /// no error here; [`Self::current`] names them if it matters.
    pub fn open(dir: &Path, settings: VersionSettings) -> Result<Self, VersionError> {
        create_folder(dir)?;
        let lock = DirLock::acquire(dir)?;
        let disk = Disk::new(settings.readable_by);
        disk.open_folder(dir)?;
        let mut versions = Self { dir: dir.to_owned(), settings, disk, _lock: lock };
        versions.clear()?;
        versions.complete_roll_back()?;
        Ok(versions)
    }

    /// Removes half-built and half-removed versions and temporary files.
    fn clear(&self) -> Result<(), VersionError> {
        remove_stale_temps(&self.dir)?;
        for name in names_in(&self.dir)? {
            if name == PUBLISHING || name.starts_with(REMOVING) {
                self.disk.remove_folder(&self.dir.join(name))?;
            } else if let Ok(version) = name.parse().map(|id| self.get(id)) {
                version.map_or(Ok(0), |version| remove_stale_temps(&version.path))?;
            }
        }
        Ok(())
    }

    /// The folder's path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings that it was opened with.
    #[must_use]
    pub const fn settings(&self) -> &VersionSettings {
        &self.settings
    }

    /// The version that `current` names, without a look at it; `None` if the base model serves.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if `current` is something else than a link to a version.
    pub fn active(&self) -> Result<Option<VersionId>, StoreError> {
        active_in(&self.dir)
    }

    /// The active version, verified; `None` if the base model serves alone. Reads all its files.
    ///
    /// # Errors
    /// What is damaged, by name; see [`Self::repair`].
    pub fn current(&self) -> Result<Option<Version>, VersionError> {
        current_of(&self.dir)
    }

    /// A version, its files not verified.
    ///
    /// # Errors
    /// [`VersionError::Unknown`], or what is damaged.
    pub fn get(&self, id: VersionId) -> Result<Version, VersionError> {
        Version::read(&self.dir, id)
    }

    /// All versions. Their files are not verified.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn list(&self) -> Result<Listing, VersionError> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.get(id) {
                Ok(version) => listing.versions.push(version),
                Err(error) => listing.damaged.push((id, error)),
            }
        }
        Ok(listing)
    }

    /// The names of all version folders, oldest first.
    fn ids(&self) -> Result<Vec<VersionId>, StoreError> {
        let mut ids: Vec<VersionId> =
            names_in(&self.dir)?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The active version in a folder of versions, verified, for readers other than its owner; `None` if
/// the base model serves alone.
///
/// # Errors
/// What is damaged, by name.
pub fn current_of(dir: &Path) -> Result<Option<Version>, VersionError> {
    let Some(id) = active_in(dir)? else { return Ok(None) };
    let version = Version::read(dir, id)?;
    version.verify()?;
    Ok(Some(version))
}

fn active_in(dir: &Path) -> Result<Option<VersionId>, StoreError> {
    let path = dir.join(CURRENT);
    match std::fs::read_link(&path) {
        Ok(target) => match target.to_str().and_then(|name| name.parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(StoreError::damaged(&path, "it links to something else than a version")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            Err(StoreError::damaged(&path, "it is not a symbolic link"))
        }
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// A version's mark, if it has one. A mark that cannot be understood is still one.
fn read_mark(version: &Path) -> Result<Option<Mark>, StoreError> {
    let path = version.join(ROLLED_BACK);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path)(error)),
        Ok(_) => {}
    }
    let read = read_text(&path, MAX_MARK_BYTES).ok();
    let mark = read.and_then(|text| serde_json::from_str(&text).ok());
    let unclear = || Mark { unix_s: 0, reason: "its mark cannot be read".into() };
    Ok(Some(mark.unwrap_or_else(unclear)))
}

/// The names of what is in a folder.
fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        names.extend(entry.file_name().into_string().ok());
        if names.len() > MAX_ENTRIES {
            return Err(StoreError::damaged(dir, format!("it has over {MAX_ENTRIES} entries")));
        }
    }
    names.sort_unstable();
    Ok(names)
}
