//! Free space on the disk of the state folder.

use std::io;
use std::path::Path;

/// Space on a disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Space {
    /// Free to ordinary users, in MiB.
    pub free_mib: f64,
    /// The whole disk, in MiB.
    pub total_mib: f64,
}

/// Space on the disk that holds `folder`. Asks the file system, so on a network disk it may wait.
pub fn space(folder: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(folder)?;
    let mib = |blocks: u64| blocks as f64 * found.f_frsize as f64 / f64::from(1 << 20);
    Ok(Space { free_mib: mib(found.f_bavail), total_mib: mib(found.f_blocks) })
}
