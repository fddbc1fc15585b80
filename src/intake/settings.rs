//! The settings of the task intake.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How tasks are taken in, and how many are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolSettings {
    /// The folder that task files are dropped into. Default `/var/spool/latrod`, which the
    /// systemd unit lets latrod write to: a taken file is removed.
    pub folder: PathBuf,
    /// A file is read once its size and its times have stayed the same for so long, in seconds.
    /// Default 2: writers seldom pause longer. 0 reads at once; then files must be renamed into
    /// place. Names ending in `.tmp`, `.part` or `~`, and hidden ones, are never read.
    pub settle_s: u64,
    /// The share of questions that are held out to measure progress on, 0 to 1. Default 0.1.
    /// A change counts for new questions only: those known stay on their side.
    pub held_out_share: f64,
    /// Larger files are not read but reported, in MiB. Default 256. They are read in pieces,
    /// so their size doesn't affect memory.
    pub max_file_mib: u64,
    /// Longer lines (or rows of CSV) are rejected, in KiB. Default 1024: far beyond any context
    /// window.
    pub max_line_kib: u64,
    /// The oldest tasks beyond that number are forgotten. Default 100 000.
    pub max_tasks: u64,
    /// The oldest tasks beyond that much text are forgotten, in MiB. Default 64. On the disk they
    /// take two to three times that.
    pub max_text_mib: u64,
    /// The oldest files of rejected lines beyond that are removed, in MiB. Default 16.
    pub max_quarantine_mib: u64,
    /// Whether files that were read are moved to the folder `taken` in the spool instead of being
    /// removed. Default no: nothing empties that folder.
    pub keep_taken: bool,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            folder: "/var/spool/latrod".into(),
            settle_s: 2,
            held_out_share: 0.1,
            max_file_mib: 256,
            max_line_kib: 1024,
            max_tasks: 100_000,
            max_text_mib: 64,
            max_quarantine_mib: 16,
            keep_taken: false,
        }
    }
}

impl SpoolSettings {
    /// Name and explanation of every value that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut within = |name, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.push((name, format!("{value} is not between {least} and {most}")));
            }
        };
        within("settle_s", self.settle_s, 0, 3600);
        within("max_file_mib", self.max_file_mib, 1, 1 << 20);
        within("max_line_kib", self.max_line_kib, 1, 16 << 10);
        within("max_tasks", self.max_tasks, 1, 10_000_000);
        within("max_text_mib", self.max_text_mib, 1, 1 << 16);
        within("max_quarantine_mib", self.max_quarantine_mib, 1, 1 << 16);
        if !(0.0..1.0).contains(&self.held_out_share) {
            let text = format!("{} is not at least 0 and below 1", self.held_out_share);
            problems.push(("held_out_share", text));
        }
        if !self.folder.is_absolute() {
            problems.push(("folder", "the path must begin with /".into()));
        }
        problems
    }

    pub(super) fn max_line_bytes(&self) -> usize {
        usize::try_from(self.max_line_kib << 10).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems_and_each_bad_value_has_one() {
        assert_eq!(SpoolSettings::default().problems(), []);

        let bad = SpoolSettings {
            folder: "spool".into(),
            settle_s: 4000,
            held_out_share: f64::NAN,
            max_file_mib: 0,
            max_line_kib: 0,
            max_tasks: 0,
            max_text_mib: 0,
            max_quarantine_mib: 0,
            keep_taken: true,
        };
        let names: Vec<_> = bad.problems().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 8, "{names:?}");
    }
}
