//! Pressure (`/proc/pressure`) and available memory (`/proc/meminfo`).
//!
//! Pressure is the share of time in which at least one process waited for the resource (`some
//! avg10`). The worker counts in it like every process, so while it trains the figure cannot tell
//! others' need from its own: on CPUs the worker, at `SCHED_IDLE`, is the first to wait, and with as
//! many threads as cores it waits whenever anything else runs at all. The load of others (`cpu`)
//! is exact then, so CPU and disk pressure are judged before training alone. Memory pressure is
//! judged always: whoever causes it, the worker is what can give memory back.

use std::io;

use super::files::Root;

/// A resource with pressure information.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resource {
    Cpu,
    Io,
    Memory,
}

/// The share of the last 10 s in which some process waited for `resource`, in percent.
pub(super) fn pressure(root: &Root, resource: Resource) -> io::Result<f64> {
    let file = match resource {
        Resource::Cpu => "/proc/pressure/cpu",
        Resource::Io => "/proc/pressure/io",
        Resource::Memory => "/proc/pressure/memory",
    };
    parse_pressure(&root.text(file)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no `some avg10=`"))
}

/// Memory that programs can get without swapping, in MiB.
pub(super) fn available_mib(root: &Root) -> io::Result<f64> {
    parse_available(&root.text("/proc/meminfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no `MemAvailable`"))
}

fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let avg10 = some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    avg10.parse().ok().filter(|value: &f64| (0.0..=100.0).contains(value))
}

fn parse_available(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_last_ten_seconds_is_read() {
        let text = "some avg10=8.70 avg60=3.11 avg300=2.20 total=7759398092\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0";
        assert_eq!(parse_pressure(text), Some(8.7));
    }

    #[test]
    fn nonsense_is_no_number() {
        for text in ["", "some", "some avg10=", "some avg10=nan", "some avg10=101", "full avg10=1"]
        {
            assert_eq!(parse_pressure(text), None, "{text}");
        }
        for text in ["", "MemAvailable:", "MemAvailable: -1 kB", "MemFree: 1 kB"] {
            assert_eq!(parse_available(text), None, "{text}");
        }
    }
}
