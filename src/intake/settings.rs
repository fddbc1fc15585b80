//! The settings of the task intake.

use std::path::PathBuf;

use crate::settings::{Rule, Value, settings};

settings! {
    /// Where tasks come from: files of JSON lines or CSV, dropped into a folder at any time.
    pub struct SpoolSettings {
        /// The folder that task files are dropped into, outside of `state_dir`. Files are removed
        /// from it once they have been read.
        folder: PathBuf = "/var/spool/latrod".into() => Rule::Custom(a_given_absolute_path),
        /// A file is read once its size and its times have stayed the same for this long, in seconds.
        ///
        /// Writers seldom pause longer. 0 reads at once; files must then be renamed into place.
        /// Names that end in `.tmp`, `.part` or `~`, and hidden ones, are never read.
        settle_s: u64 = 2 => Rule::Whole(0, 3600),
        /// The share of questions that is held out, chosen by their content, to measure progress on.
        ///
        /// A change counts for new questions only: known ones stay on their side.
        held_out_share: f64 = 0.1 => Rule::Share,
        /// Larger files are reported and not read, in MiB.
        ///
        /// Files are read piece by piece, so that their size is not a matter of memory.
        max_file_mib: u64 = 256 => Rule::Whole(1, 1 << 20),
        /// Longer lines, or rows of CSV, are rejected, in KiB.
        ///
        /// 1024 is far beyond any context window.
        max_line_kib: u64 = 1024 => Rule::Whole(1, 16 << 10),
        /// The oldest tasks beyond this number are forgotten.
        max_tasks: u64 = 100_000 => Rule::Whole(1, 10_000_000),
        /// The oldest tasks beyond this much text are forgotten, in MiB.
        ///
        /// On disk they take two to three times that.
        max_text_mib: u64 = 64 => Rule::Whole(1, 1 << 16),
        /// The oldest files of rejected lines beyond this are removed, in MiB.
        max_quarantine_mib: u64 = 16 => Rule::Whole(1, 1 << 16),
        /// Move files that were read to `taken` in the folder instead of removing them.
        ///
        /// Nothing empties that folder.
        keep_taken: bool = false => Rule::Any,
    }
}

impl SpoolSettings {
    pub(super) fn max_line_bytes(&self) -> usize {
        usize::try_from(self.max_line_kib << 10).unwrap_or(usize::MAX)
    }
}

fn a_given_absolute_path(value: Value<'_>) -> Option<String> {
    let Value::Text(path) = value else { return None };
    (!path.starts_with('/')).then(|| "must be an absolute path, which begins with /".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

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
