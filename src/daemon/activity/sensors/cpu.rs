//! CPU time that is not ours, between two samples.
//!
//! The busy time of all cores, less that of the daemon and of the worker, is what others did. Waiting
//! says less than this: the kernel's pressure information counts the worker's own waiting too.

use std::collections::BTreeMap;
use std::io;

use crate::system::files::Root;
use crate::system::proc::{self, CpuTimes, ProcessTimes};

/// Of the processes that the caller names, how many are looked at.
const MAX_PIDS: usize = 64;
/// The shortest interval that gives a number, in clock ticks per core (10 ms each on Linux):
/// shorter ones are all rounding.
const MIN_TICKS_PER_CORE: u64 = 10;

/// A running difference of busy times.
#[derive(Debug, Default)]
pub struct CpuMeter {
    last: Option<Times>,
    percent: Option<f64>,
}

#[derive(Debug)]
struct Times {
    all: CpuTimes,
    own: BTreeMap<u32, ProcessTimes>,
}

impl CpuMeter {
    /// CPU time of all processes but `pids` since the last call, in percent of all cores; none
    /// until two calls lie at least 100 ms apart. A call that comes too soon repeats the last value.
    ///
    /// A process that was not among the last call's `pids` counts with all of its time, so name
    /// each one from its start. What a process did between the last call and its end counts as
    /// others' work.
    pub fn others(&mut self, root: &Root, pids: &[u32]) -> io::Result<Option<f64>> {
        let now = Times::read(root, pids)?;
        match &self.last {
            None => self.last = Some(now),
            Some(last) => {
                let total = now.all.total.saturating_sub(last.all.total);
                let backwards = now.all.total < last.all.total;
                if backwards || total >= MIN_TICKS_PER_CORE * now.all.cores {
                    if !backwards {
                        self.percent = Some(now.others_since(last, total));
                    }
                    self.last = Some(now);
                }
            }
        }
        Ok(self.percent)
    }
}

impl Times {
    fn read(root: &Root, pids: &[u32]) -> io::Result<Self> {
        let own = pids.iter().take(MAX_PIDS);
        let own = own.filter_map(|&pid| Some((pid, proc::process_times(root, pid).ok()?)));
        Ok(Self { all: proc::cpu_times(root)?, own: own.collect() })
    }

    /// `total` is above zero.
    fn others_since(&self, last: &Self, total: u64) -> f64 {
        let own: u64 = self
            .own
            .iter()
            .map(|(pid, now)| match last.own.get(pid) {
                Some(before) if before.started == now.started => {
                    now.used.saturating_sub(before.used)
                }
                _ => now.used,
            })
            .sum();
        let others = self.all.busy.saturating_sub(last.all.busy).saturating_sub(own);
        (100.0 * others as f64 / total as f64).min(100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A device of 4 cores that has run for `total` ticks, `busy` of them busy, with a process 77
    /// named to confuse.
    fn write(dir: &Path, busy: u64, total: u64, own: Option<(u64, u64)>) {
        let proc = dir.join("proc");
        fs::create_dir_all(proc.join("77")).expect("a folder");
        let idle = total - busy;
        let cpus = "cpu0 1 1 1 1\ncpu1 1 1 1 1\ncpu2 1 1 1 1\ncpu3 1 1 1 1\nintr 5\n";
        fs::write(proc.join("stat"), format!("cpu  {busy} 0 0 {idle} 0 0 0 0 9 9\n{cpus}"))
            .expect("a file");
        let path = proc.join("77/stat");
        match own {
            None => drop(fs::remove_file(path)),
            Some((start, ticks)) => {
                let half = ticks / 2;
                let rest = ticks - half;
                let stat = format!(
                    "77 (a) R 1 (b)) S 1 77 77 0 -1 4194304 1 2 3 4 {half} {rest} 999 999 20 0 1 0 \
                     {start} 1000 10 0"
                );
                fs::write(path, stat).expect("a file");
            }
        }
    }

    #[test]
    fn our_own_time_is_taken_off() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root::new(dir.path());
        let mut meter = CpuMeter::default();
        let mut sample = |busy, total, own| {
            write(dir.path(), busy, total, own);
            meter.others(&root, &[77]).expect("both files")
        };
        assert_eq!(sample(1000, 10_000, Some((5, 300))), None);
        // 400 ticks went by: 200 busy, 120 of them ours.
        assert_eq!(sample(1200, 10_400, Some((5, 420))), Some(20.0));
        // Too soon for a new number.
        assert_eq!(sample(1239, 10_439, Some((5, 420))), Some(20.0));
        // Another process with our id, which began since: all of its time is ours.
        assert_eq!(sample(1400, 10_800, Some((900, 100))), Some(25.0));
        // It ended: what is busy is others' work.
        assert_eq!(sample(1600, 11_200, None), Some(50.0));
    }

    #[test]
    fn rounding_never_gives_less_than_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root::new(dir.path());
        let mut meter = CpuMeter::default();
        write(dir.path(), 100, 1000, Some((5, 10)));
        meter.others(&root, &[77]).expect("both files");
        write(dir.path(), 300, 1400, Some((5, 230)));
        assert_eq!(meter.others(&root, &[77]).expect("both files"), Some(0.0));
        // Counters that went back (a container moved to another host) start the interval anew.
        write(dir.path(), 10, 100, Some((5, 230)));
        assert_eq!(meter.others(&root, &[77]).expect("both files"), Some(0.0));
        write(dir.path(), 110, 500, Some((5, 230)));
        assert_eq!(meter.others(&root, &[77]).expect("both files"), Some(25.0));
    }
}
