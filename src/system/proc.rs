//! The one reader of `/proc`: memory, pressure and processor time as plain numbers.
//!
//! Every function takes the [`Root`] that the files lie under, so that tests and copies of other
//! devices' files are read alike. Only what is asked for has to be there: a kernel, or a container's
//! file system, that leaves other lines out is read all the same.

use std::io;

use super::files::Root;

/// What `/proc/meminfo` says, in bytes; `None` where it doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`: all memory that the kernel uses.
    pub total: Option<u64>,
    /// `MemAvailable`: what programs can get without swapping.
    pub available: Option<u64>,
}

/// Reads `/proc/meminfo`.
///
/// # Errors
/// Those of the operating system.
pub fn meminfo(root: &Root) -> io::Result<MemInfo> {
    let text = root.text("/proc/meminfo")?;
    Ok(MemInfo { total: bytes_of(&text, "MemTotal"), available: bytes_of(&text, "MemAvailable") })
}

/// The most memory that this process has had resident so far, in bytes (`VmHWM` of
/// `/proc/self/status`).
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidData`] if it doesn't say.
pub fn peak_resident(root: &Root) -> io::Result<u64> {
    bytes_of(&root.text("/proc/self/status")?, "VmHWM").ok_or_else(|| invalid("it has no `VmHWM`"))
}

/// The value of a line `name:   123 kB`, in bytes.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// A resource with pressure information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Processors.
    Cpu,
    /// Disks.
    Io,
    /// Memory.
    Memory,
}

/// The share of the last 10 s in which some process waited for `resource`, in percent (`some avg10`
/// of `/proc/pressure`).
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidData`] if there is no such number.
pub fn pressure(root: &Root, resource: Resource) -> io::Result<f64> {
    let file = match resource {
        Resource::Cpu => "/proc/pressure/cpu",
        Resource::Io => "/proc/pressure/io",
        Resource::Memory => "/proc/pressure/memory",
    };
    parse_pressure(&root.text(file)?).ok_or_else(|| invalid("it has no `some avg10=`"))
}

fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let avg10 = some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    avg10.parse().ok().filter(|value: &f64| (0.0..=100.0).contains(value))
}

/// Processor time since the system's start, in clock ticks (10 ms each on most systems).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Of all cores, while something ran.
    pub busy: u64,
    /// Of all cores.
    pub total: u64,
    /// Cores that are listed.
    pub cores: u64,
}

/// Reads `/proc/stat`.
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidData`] if it begins with something else.
pub fn cpu_times(root: &Root) -> io::Result<CpuTimes> {
    let stat = root.text("/proc/stat")?;
    let all = stat.lines().next().and_then(parse_cpu_line);
    let (busy, total) = all.ok_or_else(|| invalid("/proc/stat does not begin with `cpu`"))?;
    // The file may be cut after some hundred cores; a shortest interval is then a little shorter.
    let cores = stat.lines().skip(1).filter(|line| line.starts_with("cpu")).count().max(1);
    Ok(CpuTimes { busy, total, cores: cores as u64 })
}

/// (busy, total) of a line `cpu  user nice system idle iowait irq softirq steal guest guest_nice`.
/// Guests' time is in `user` and `nice` already. Stolen time is neither busy nor idle: someone
/// else's machine took it.
fn parse_cpu_line(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("cpu") {
        return None;
    }
    let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
    if ticks.len() < 4 {
        return None;
    }
    let busy = [0, 1, 2, 5, 6].into_iter().map(at).fold(0, u64::saturating_add);
    let total = [3, 4, 7].into_iter().map(at).fold(busy, u64::saturating_add);
    Some((busy, total))
}

/// A process's times, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessTimes {
    /// When it started, since the system's start: tells it from a later process with its id.
    pub started: u64,
    /// User and system time that it has used, without that of children that have ended.
    pub used: u64,
}

/// Reads `/proc/<pid>/stat`.
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidData`] for a text of another form.
pub fn process_times(root: &Root, pid: u32) -> io::Result<ProcessTimes> {
    let stat = root.text(format!("/proc/{pid}/stat"))?;
    parse_process(&stat).ok_or_else(|| invalid("it has too few fields"))
}

/// `proc(5)`, fields 14, 15 and 22. The name in brackets may hold anything, so counting begins behind
/// its last bracket. Times of ended children (fields 16 and 17) stay out: they would be counted twice.
fn parse_process(stat: &str) -> Option<ProcessTimes> {
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| -> Option<u64> {
        fields.split_ascii_whitespace().nth(number - 3)?.parse().ok()
    };
    Some(ProcessTimes { started: field(22)?, used: field(14)?.saturating_add(field(15)?) })
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_whatever_else_is_missing() {
        let text = "MemTotal: 9 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(bytes_of(text, "MemTotal"), Some(9 << 10));
        assert_eq!(bytes_of(text, "MemAvailable"), Some(2 << 20));
        assert_eq!(bytes_of(text, "Mem"), None, "part of a name");
    }

    #[test]
    fn the_share_of_the_last_ten_seconds_is_read() {
        let text = "some avg10=8.70 avg60=3.11 avg300=2.20 total=7759398092\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0";
        assert_eq!(parse_pressure(text), Some(8.7));
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 3 0 100 9 9";
        assert_eq!(parse_process(stat), Some(ProcessTimes { started: 100, used: 42 }));
        assert_eq!(parse_process("7 (cut off) R 1"), None);
        assert_eq!(parse_process(""), None);
    }

    #[test]
    fn nonsense_is_no_number() {
        for text in ["", "some", "some avg10=", "some avg10=nan", "some avg10=101", "full avg10=1"]
        {
            assert_eq!(parse_pressure(text), None, "{text}");
        }
        for text in ["", "MemAvailable:", "MemAvailable: -1 kB", "MemFree: 1 kB"] {
            assert_eq!(bytes_of(text, "MemAvailable"), None, "{text}");
        }
        for line in ["", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4 5", "cpu a b c d"] {
            assert_eq!(parse_cpu_line(line), None, "{line}");
        }
        for stat in ["77 (a", "77 (a) S 1 2", "77 (a) S 1 2 3 4 5 6 7 8 9 10 x 12 13"] {
            assert_eq!(parse_process(stat), None, "{stat}");
        }
    }
}
