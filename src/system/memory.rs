//! What the process occupies, and what the system could still give it.
//!
//! The readers take the root folder that the system's files lie under, so that tests bring their own.

use std::path::{Path, PathBuf};

use super::files::{self, Root};
use super::proc;

/// The most memory that the process has had resident so far, in MiB. NaN where the system doesn't say
/// (it does on Linux).
#[must_use]
pub fn peak_memory_mib() -> f64 {
    let peak = proc::peak_resident(&Root::new("/"));
    peak.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20))
}

/// The bytes that the system could still hand out without swapping; `None` where it does not say.
#[must_use]
pub fn available_memory(root: &Path) -> Option<u64> {
    proc::meminfo(&Root::new(root)).ok()?.available
}

/// The bytes that the process's control groups (version 2) leave it, the least of all from its own
/// up to the root: `memory.max` or `memory.high`, whichever is lower, less what is in use and not
/// cache that can be dropped. `None` if no group has a limit.
#[must_use]
pub fn cgroup_memory(root: &Path) -> Option<u64> {
    let groups = files::text(&root.join("proc/self/cgroup")).ok()?;
    let group = groups.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let top = root.join("sys/fs/cgroup");
    let mut dir: PathBuf = top.join(group);
    let mut least = None;
    while dir.starts_with(&top) {
        if let Some(left) = left_in_group(&dir) {
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        if !dir.pop() {
            break;
        }
    }
    least
}

fn left_in_group(dir: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        files::text(&dir.join(name)).ok()?.parse().ok() // "max" is not a number
    };
    let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
    let stat = files::text(&dir.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    let used = number("memory.current").unwrap_or(0).saturating_sub(cache.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn grows_with_what_the_process_touches() {
        let before = peak_memory_mib();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_memory_mib() >= before.max(60.0));
        drop(touched);
    }

    #[test]
    fn the_system_says_what_it_has_left() {
        let root = system(&[("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    2048 kB\n")]);

        assert_eq!(available_memory(root.path()), Some(2 << 20));
        assert_eq!(available_memory(&root.path().join("nowhere")), None);
    }

    #[test]
    fn the_tightest_group_counts_and_cache_does_not() {
        let root = system(&[
            ("proc/self/cgroup", "1:name=old:/x\n0::/system.slice/latrod.service\n"),
            ("sys/fs/cgroup/system.slice/latrod.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/latrod.service/memory.high", "1000\n"),
            ("sys/fs/cgroup/system.slice/latrod.service/memory.current", "600\n"),
            (
                "sys/fs/cgroup/system.slice/latrod.service/memory.stat",
                "anon 1\ninactive_file 200\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "700\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "300\n"),
        ]);

        assert_eq!(cgroup_memory(root.path()), Some(400), "of the slice; the service has 600");
    }

    #[test]
    fn without_limits_there_is_no_number() {
        let root = system(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max")]);

        assert_eq!(cgroup_memory(root.path()), None);
        assert_eq!(cgroup_memory(&root.path().join("nowhere")), None);
    }
}
