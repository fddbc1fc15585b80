//! What a scan of the spool has done, for its caller.

use std::ffi::OsStr;

/// Most problems that a scan describes; further ones are only counted.
const MAX_PROBLEMS: usize = 16;

/// What a scan has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanReport {
    /// Files that were read to their end.
    pub files: u64,
    /// New tasks to train on.
    pub train: u64,
    /// New tasks held out.
    pub held_out: u64,
    /// Tasks that were known already.
    pub duplicates: u64,
    /// Lines that could not be used; the quarantine says why.
    pub rejected: u64,
    /// The oldest tasks, forgotten to stay within the limits.
    pub forgotten: u64,
    /// Tasks that came back from the archive, after a ledger was lost or a scan interrupted.
    pub restored: u64,
    /// Files that are still changing, or were seen for the first time: scan again once
    /// [`crate::intake::SpoolSettings::settle_s`] has passed.
    pub unsettled: u64,
    /// Whether there is more to do at once.
    pub more: bool,
    /// Whether new files are left alone because there are too many that cannot be removed or used.
    pub overfull: bool,
    /// Files that cannot be used or removed, each reported once until it changes; the first 16.
    pub problems: Vec<FileProblem>,
    /// How many problems there were.
    pub problem_count: u64,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// The file's name in the spool, at most 100 characters, with odd ones escaped.
    pub file: String,
    /// In a sentence, without any text of the file.
    pub reason: String,
}

impl ScanReport {
    pub(super) fn problem(&mut self, name: &OsStr, reason: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            let text = name.to_string_lossy();
            let file = text.chars().take(100).flat_map(char::escape_debug).collect();
            self.problems.push(FileProblem { file, reason });
        }
    }

    /// Whether nothing happened that anybody needs to know.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let Self { files, train, held_out, forgotten, restored, problem_count, .. } = self;
        [files, train, held_out, forgotten, restored, problem_count].iter().all(|n| **n == 0)
            && !self.overfull
    }
}
