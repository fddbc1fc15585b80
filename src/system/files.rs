//! Reads the small files of `/proc`, `/sys` and `/run` below a root folder: never more than a few KiB,
//! never waiting.
//!
//! Doesn't know what they mean; [`proc`](super::proc) and the daemon's sensors do.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Bytes of a file that are looked at. Everything sought in `/proc/stat`, `/proc/meminfo` and the
/// like stands in their first lines.
const MAX_BYTES: u64 = 4096;
/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 256;

/// The folder below which the device's files are read: `/`, or a copy of another device's.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The files below `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// `absolute` below the root.
    #[must_use]
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.0.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The beginning of the file at `absolute`; see [`text`].
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn text(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        text(&self.path(absolute))
    }
}

/// The beginning of a small file, without white space around it. Bytes that aren't UTF-8 are
/// replaced.
///
/// A FIFO or a terminal in its place neither blocks nor becomes the process's own; a link in its
/// place is refused, since these files may lie in folders that others write to.
///
/// # Errors
/// Those of the operating system.
pub fn text(path: &Path) -> io::Result<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut bytes = Vec::with_capacity(256);
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The number that a file holds.
///
/// # Errors
/// Those of the operating system, and [`io::ErrorKind::InvalidData`] for anything but a finite number.
pub fn number(path: &Path) -> io::Result<f64> {
    let text = text(path)?;
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its content is not a number"))
}

/// The names in a folder, in order. Names that aren't UTF-8 are left out: no kernel or systemd
/// makes any.
///
/// # Errors
/// Those of the operating system.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)?.take(MAX_ENTRIES) {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The value of `key` in lines `KEY=value`, with quotes around the value taken off.
#[must_use]
pub fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim().trim_matches('"'))
}

/// Whether `error` means that the device has no such source: the file isn't there, or the kernel
/// was started without what fills it (pressure information with `psi=0`).
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || [Errno::OPNOTSUPP, Errno::NODEV, Errno::NXIO, Errno::NODATA]
            .iter()
            .any(|absent| error.raw_os_error() == Some(absent.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_fifo_or_an_endless_file_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let fifo = dir.path().join("temp");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a fifo");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let endless = text(Path::new("/dev/zero")).map(|text| text.len());
            sender.send((text(&fifo).ok(), endless.ok()))
        });
        let read = receiver.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(read, Ok((Some(String::new()), Some(4096))));
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let link = dir.path().join("online");
        std::os::unix::fs::symlink("/etc/hostname", &link).expect("a link");
        assert!(text(&link).is_err());
    }

    #[test]
    fn paths_stay_below_the_root() {
        let root = Root::new(PathBuf::from("/fixture"));
        assert_eq!(root.path("/proc/stat"), Path::new("/fixture/proc/stat"));
    }
}
