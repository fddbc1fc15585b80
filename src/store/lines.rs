//! An append-only file of JSON lines that a resumed run continues from its checkpoint.
//!
//! Lines after the checkpoint are cut off on opening, since the resumed run writes them again.
//! Doesn't know what the lines mean.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::StoreError;

/// How durable a line must be before [`JsonLines::append`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Handed to the operating system: survives the death of the process.
    Flush,
    /// On the disk: survives a power cut.
    Disk,
}

/// A file of JSON lines, open for appending.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    /// Whole lines in the file.
    lines: usize,
    /// Bytes of whole lines; a failed append is cut back to here.
    length: u64,
}

impl JsonLines {
    /// Opens (or creates) `path` and cuts it after its first `keep_lines` lines.
    ///
    /// A line without its newline was being written when the power went, and does not count. Where
    /// the file holds fewer whole lines than that, all are kept and [`Self::lines`] says how many:
    /// vouch for that number in the next checkpoint, not for a count of one's own.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file cannot be opened, read or cut.
    pub fn open_truncated(path: &Path, keep_lines: usize) -> Result<Self, StoreError> {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            // A device may have no end to look for.
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            let (lines, length) = measure(&file, keep_lines)?;
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok((file, lines, length))
        };
        let (file, lines, length) = open().map_err(StoreError::io("continue", path))?;
        if lines < keep_lines {
            log::warn!("{} has {lines} lines, expected {keep_lines}", path.display());
        }
        Ok(Self { path: path.to_owned(), file, lines, length })
    }

    /// How many whole lines the file has.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Appends `value` as one line.
    ///
    /// # Errors
    /// [`StoreError::Unstorable`] if `value` has no JSON form, [`StoreError::Io`] if it cannot be
    /// written; the file then still ends with its last whole line.
    pub fn append<T: Serialize>(&mut self, value: &T, sync: Sync) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(value).map_err(|error| StoreError::Unstorable {
            what: format!("a line of {}", self.path.display()),
            reason: error.to_string(),
        })?;
        line.push(b'\n');
        self.append_bytes(&line, sync).map_err(StoreError::io("append to", &self.path))
    }

    fn append_bytes(&mut self, line: &[u8], sync: Sync) -> io::Result<()> {
        // If an earlier append failed halfway, its remains are beyond `length`.
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(line).and_then(|()| match sync {
            Sync::Flush => self.file.flush(),
            Sync::Disk => self.file.sync_data(),
        });
        if let Err(error) = written {
            // The write's own error is the one to report; opening the file cuts remains as well.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        self.lines += 1;
        Ok(())
    }
}

/// The number and bytes of whole lines at the start of `file`, at most `limit` lines.
fn measure(file: &File, limit: usize) -> io::Result<(usize, u64)> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut lines, mut length, mut position) = (0, 0, 0);
    while lines < limit {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        for (at, _) in buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines += 1;
            length = position + at as u64 + 1;
            if lines == limit {
                break;
            }
        }
        let seen = buffer.len();
        position += seen as u64;
        reader.consume(seen);
    }
    Ok((lines, length))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_resumed_run_continues_after_the_lines_its_checkpoint_vouches_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut lines = JsonLines::open_truncated(&path, 0).unwrap();
        for step in 1..=3 {
            lines.append(&serde_json::json!({ "step": step }), Sync::Flush).unwrap();
        }
        drop(lines);

        let mut lines = JsonLines::open_truncated(&path, 2).unwrap();
        assert_eq!(lines.lines(), 2);
        lines.append(&serde_json::json!({"step": 3, "again": true}), Sync::Disk).unwrap();

        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":true}\n");
    }

    #[test]
    fn a_half_written_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "1\n2\n{\"ste").unwrap();

        let mut lines = JsonLines::open_truncated(&path, 5).unwrap();
        lines.append(&3, Sync::Flush).unwrap();

        assert_eq!(lines.lines(), 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
    }

    #[test]
    fn lines_longer_than_the_buffer_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let long = "x".repeat(200_000);
        fs::write(&path, format!("{long}\n{long}\nshort\n")).unwrap();

        let lines = JsonLines::open_truncated(&path, 2).unwrap();

        assert_eq!(lines.lines(), 2);
        assert_eq!(fs::metadata(&path).unwrap().len(), 400_002);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_refused() {
        assert!(JsonLines::open_truncated(Path::new("/dev/full"), 1).is_err());
    }

    #[test]
    fn a_new_run_starts_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "1\n2\n").unwrap();

        assert_eq!(JsonLines::open_truncated(&path, 0).unwrap().lines(), 0);

        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}
