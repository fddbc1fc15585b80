//! How much memory may be taken.

use std::path::Path;

use crate::system::memory::{available_memory, cgroup_memory};

/// Memory that is left to others at least, in bytes; a tenth of what is free where that is more.
const MARGIN: u64 = 64 << 20;

/// The most memory that may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub bytes: u64,
    /// Who says so, for a sentence.
    pub(super) who: &'static str,
}

impl Limit {
    /// As a person has set it.
    #[must_use]
    pub const fn given(bytes: u64) -> Self {
        Self { bytes, who: "the memory limit is" }
    }

    /// The least of the setting (0: no such limit), what the system has free and what the control
    /// groups leave, the latter two less a margin. `root` is the folder above `proc` and `sys`.
    #[must_use]
    pub fn find(setting_mib: u64, root: &Path) -> Self {
        let spare = |bytes: u64| bytes.saturating_sub(MARGIN.max(bytes / 10));
        let setting = (setting_mib > 0).then(|| setting_mib.saturating_mul(1 << 20));
        [
            (setting, "the setting memory_limit_mib allows"),
            (available_memory(root).map(spare), "the system can spare"),
            (cgroup_memory(root).map(spare), "the control group can spare"),
        ]
        .into_iter()
        .filter_map(|(bytes, who)| Some(Self { bytes: bytes?, who }))
        .min_by_key(|limit| limit.bytes)
        .unwrap_or(Self { bytes: u64::MAX, who: "anybody allows" })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_least_of_all_limits_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Limit::find(0, root.path()).bytes, u64::MAX, "nobody says anything");

        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemAvailable: 2048000 kB\n").unwrap();

        let free = Limit::find(0, root.path());
        assert_eq!(free.bytes, 2_048_000 * 1024 / 10 * 9);
        assert_eq!(Limit::find(100, root.path()).bytes, 100 << 20);
        assert_eq!(Limit::find(1 << 40, root.path()), free, "more than there is");
        assert!(free.who.contains("system"));
    }
}
