//! The SHA-256 of the model's file, remembered from one start to the next.
//!
//! Hashing gigabytes at every start would cost minutes of a small device's time. A remembered hash
//! counts only while device, inode, size and both times of the file are what they were; the time of
//! the last change of the inode (ctime) cannot be set by programs, so that a file that was written to
//! does not pass for the old one. The cache is trusted, so it must be in a place where only the daemon
//! can write.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use log::{debug, warn};
use serde::{Deserialize, Serialize};

use crate::gguf::{GgufError, GgufFile};
use crate::store::{load_json, save_json};

/// A file changed less than this many seconds ago may change again within the same tick of its
/// clock, unseen: its hash is not remembered.
const SETTLED_S: i64 = 2;

/// What tells a file from another, or from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last write.
    modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of any kind.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file that `path` leads to now.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether the last change is far enough in the past that another one would show.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.ok().and_then(|t| i64::try_from(t.as_secs()).ok()).unwrap_or(0);
        now.saturating_sub(self.changed.0.max(self.modified.0)) >= SETTLED_S
    }
}

/// A hash and the file that it belongs to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    stamp: Stamp,
    sha256: String,
}

/// The SHA-256 of an open file with this stamp, from `cache` if it is there.
///
/// # Errors
/// If the file cannot be read. A cache that cannot be read or written is ignored.
pub fn sha256(file: &GgufFile, stamp: Stamp, cache: Option<&Path>) -> Result<String, GgufError> {
    let known = cache.and_then(|path| match load_json::<Remembered>(path) {
        Ok(known) => Some(known),
        Err(error) => {
            debug!("no hash remembered: {error}");
            None
        }
    });
    if let Some(known) = known
        && known.stamp == stamp
    {
        return Ok(known.sha256);
    }
    let sha256 = file.sha256()?;
    if let Some(path) = cache
        && stamp.is_settled()
    {
        let remembered = Remembered { stamp, sha256: sha256.clone() };
        if let Err(error) = save_json(path, &remembered) {
            warn!("the model's hash cannot be remembered: {error}");
        }
    }
    Ok(sha256)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf")
    }

    fn forged(stamp: Stamp) -> Remembered {
        Remembered { stamp, sha256: "remembered".into() }
    }

    #[test]
    fn a_hash_is_remembered_while_the_file_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("hash.json");
        let (file, stamp) = (GgufFile::open(&fixture()).unwrap(), Stamp::of(&fixture()).unwrap());

        let fresh = sha256(&file, stamp, Some(&cache)).unwrap();

        assert_eq!(fresh, file.sha256().unwrap());
        assert_eq!(load_json::<Remembered>(&cache).unwrap().sha256, fresh);
        save_json(&cache, &forged(stamp)).unwrap();
        assert_eq!(sha256(&file, stamp, Some(&cache)).unwrap(), "remembered");
        let other = Stamp { inode: stamp.inode + 1, ..stamp };
        assert_eq!(sha256(&file, other, Some(&cache)).unwrap(), fresh);
    }

    #[test]
    fn a_broken_memory_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("hash.json");
        fs::write(&cache, "nonsense").unwrap();
        let (file, stamp) = (GgufFile::open(&fixture()).unwrap(), Stamp::of(&fixture()).unwrap());

        let fresh = sha256(&file, stamp, Some(&cache)).unwrap();

        assert_eq!(fresh, file.sha256().unwrap());
        assert!(load_json::<Remembered>(&cache).is_ok(), "and it is mended");
        assert!(sha256(&file, stamp, Some(Path::new("/dev/null/hash"))).is_ok());
    }

    #[test]
    fn a_file_written_to_just_now_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, model) = (dir.path().join("hash.json"), dir.path().join("model.gguf"));
        fs::copy(fixture(), &model).unwrap();
        let stamp = Stamp::of(&model).unwrap();

        sha256(&GgufFile::open(&model).unwrap(), stamp, Some(&cache)).unwrap();

        assert!(!cache.exists());
    }

    #[test]
    fn a_change_shows_even_if_its_time_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        fs::write(&model, "one").unwrap();
        let before = Stamp::of(&model).unwrap();
        let time = fs::metadata(&model).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));

        fs::write(&model, "two").unwrap();
        fs::File::options().write(true).open(&model).unwrap().set_modified(time).unwrap();

        let after = Stamp::of(&model).unwrap();
        assert_eq!(before.modified, after.modified);
        assert_ne!(before, after);
    }
}
