//! Finds the files of the spool folder that are ready to be read.
//!
//! Owns the list of what was seen at which look, what was reported already, and what cannot be
//! removed. Reads names and times only; opens nothing.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::data::records::Format;
use crate::intake::{IntakeError, ScanReport};

/// Most files that are watched at a time; the others follow once these are read.
const MAX_WATCHED: usize = 10_000;
/// Most files that are remembered as unusable or unremovable, so that memory stays bounded.
const MAX_REMEMBERED: usize = 10_000;

/// What tells a file from a later one of the same name, or from itself with more in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileIdentity(String);

impl FileIdentity {
    pub(super) fn of(meta: &Metadata) -> Self {
        let (device, inode, size) = (meta.dev(), meta.ino(), meta.size());
        let (modified, changed) = (meta.mtime(), meta.ctime());
        let (modified_ns, changed_ns) = (meta.mtime_nsec(), meta.ctime_nsec());
        Self(format!("{device}:{inode}:{size}:{modified}.{modified_ns}:{changed}.{changed_ns}"))
    }

    /// The identity of what the path names itself, even if that is a link.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|meta| Self::of(&meta))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn from_stored(text: String) -> Self {
        Self(text)
    }
}

/// A file that is ready to be read.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: OsString,
    pub(super) identity: FileIdentity,
    pub(super) size: u64,
    modified: (i64, i64),
}

/// What is known of the folder's files.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Files that may still be written, and since when they have been as they are.
    seen: HashMap<OsString, (FileIdentity, Duration)>,
    /// Files that were reported as unusable, and those that were read and cannot be removed: not
    /// looked at again until they change.
    done: HashMap<OsString, FileIdentity>,
    /// Files that ended in the middle of a line when they were read.
    torn: HashMap<OsString, FileIdentity>,
}

/// What a look at the folder has shown.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Files to be read now, oldest first.
    pub(super) ready: VecDeque<Ready>,
    /// Files that were left alone and are gone or changed.
    pub(super) gone: Vec<OsString>,
}

impl Watch {
    /// Lists the folder and returns the files that have stayed the same for `settle`, oldest first.
    /// Adds to `report` what can never be read.
    pub(super) fn look(
        &mut self,
        folder: &Path,
        settle: Duration,
        max_bytes: u64,
        since_start: Duration,
        report: &mut ScanReport,
    ) -> Result<Look, IntakeError> {
        let list_error = || IntakeError::folder("list", folder);
        let mut before = std::mem::take(&mut self.seen);
        let mut there = HashMap::new();
        let mut ready = Vec::new();
        for entry in fs::read_dir(folder).map_err(list_error())? {
            let entry = entry.map_err(list_error())?;
            let name = entry.file_name();
            // A file that is gone by now doesn't matter.
            let Ok(meta) = entry.metadata() else { continue };
            let is_empty = meta.is_file() && meta.size() == 0;
            if is_unfinished(&name) || meta.is_dir() || is_empty {
                continue;
            }
            let identity = FileIdentity::of(&meta);
            if self.done.get(&name) == Some(&identity) {
                there.insert(name, identity);
                continue;
            }
            if let Some(reason) = why_unusable(&name, &meta, max_bytes) {
                report.problem(&name, reason.to_owned());
                if there.len() < MAX_REMEMBERED {
                    there.insert(name, identity);
                }
                continue;
            }
            if self.done.len() >= MAX_REMEMBERED {
                // Reading what can never be removed again and again would be worse.
                report.overfull = true;
                continue;
            }
            if self.seen.len() + ready.len() >= MAX_WATCHED {
                report.more = true;
                continue;
            }
            let since = match before.remove(&name) {
                Some((known, since)) if known == identity => since,
                _ => since_start,
            };
            if since_start.saturating_sub(since) >= settle {
                let (size, modified) = (meta.size(), (meta.mtime(), meta.mtime_nsec()));
                ready.push(Ready { name, identity, size, modified });
            } else {
                self.seen.insert(name, (identity, since));
            }
        }
        let before = std::mem::replace(&mut self.done, there);
        let gone = before.into_iter().filter(|(name, known)| self.done.get(name) != Some(known));
        let gone = gone.map(|(name, _)| name).collect();
        ready.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        Ok(Look { ready: ready.into(), gone })
    }

    /// How many files have not stayed the same for long enough.
    pub(super) fn unsettled(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The file must not be read again unless it changes.
    pub(super) fn leave(&mut self, name: OsString, identity: FileIdentity) {
        if self.done.len() < MAX_REMEMBERED {
            self.done.insert(name, identity);
        }
    }

    /// The file ended in the middle of a line. Whether to read it nevertheless: it was given time to
    /// grow, and didn't. Otherwise it has to settle again from the time `since`.
    pub(super) fn is_final(
        &mut self,
        name: &OsStr,
        identity: &FileIdentity,
        since: Duration,
    ) -> bool {
        if self.torn.remove(name).as_ref() == Some(identity) {
            return true;
        }
        if self.torn.len() >= MAX_REMEMBERED {
            self.torn.clear();
        }
        self.torn.insert(name.to_owned(), identity.clone());
        self.seen.insert(name.to_owned(), (identity.clone(), since));
        false
    }
}

/// Why the file cannot be read unless it changes, if so.
fn why_unusable(name: &OsStr, meta: &Metadata, max_bytes: u64) -> Option<&'static str> {
    if !meta.is_file() {
        Some("it is a link, a pipe or a device, which are never followed or read")
    } else if Format::of(Path::new(name)).is_none() {
        Some("its name does not end in .jsonl, .ndjson, .json or .csv")
    } else if meta.size() > max_bytes {
        Some("it is larger than max_file_mib")
    } else {
        None
    }
}

/// Whether the name says that its file is still being written, or not meant for others.
fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".")
        || [&b".tmp"[..], b".part", b"~"].iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_that_are_still_written_are_known() {
        for (name, unfinished) in [
            (".a.jsonl", true),
            ("a.jsonl.tmp", true),
            ("a.jsonl.part", true),
            ("a.jsonl~", true),
            ("a.jsonl", false),
            ("tmp", false),
        ] {
            assert_eq!(is_unfinished(OsStr::new(name)), unfinished, "{name}");
        }
    }
}
