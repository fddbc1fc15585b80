//! What the process occupies.

/// The most memory that the process has had resident so far, in MiB. NaN where the system doesn't
/// say (it does on Linux, in `/proc/self/status`).
#[must_use]
pub fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn grows_with_what_the_process_touches() {
        let before = super::peak_memory_mib();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(super::peak_memory_mib() >= before.max(60.0));
        drop(touched);
    }
}
