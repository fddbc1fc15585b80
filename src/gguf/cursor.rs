//! Reading little-endian values from a stream whose end is known.
//!
//! Every length that the file claims is compared with the bytes that are left before anything is
//! allocated for it, so a damaged count is an error and does not exhaust the machine's memory.

use std::io::{self, Read};
use std::path::Path;

use crate::gguf::{GgufError, printable};

/// Where a string may come from decides how long it may be.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// A metadata key: the specification allows 65535 bytes.
    Key,
    /// A tensor's name: the specification allows 64 bytes; some files use more.
    TensorName,
    /// A metadata value, for example a chat template.
    Value,
}

impl Text {
    const fn longest(self) -> u64 {
        match self {
            Self::Key => 65_535,
            Self::TensorName => 256,
            Self::Value => 16 << 20,
        }
    }
}

/// A position in the header of a file of known length.
pub(super) struct Cursor<'a, R> {
    reader: R,
    position: u64,
    end: u64,
    /// Whether `end` is our limit and not the file's end.
    limited: bool,
    path: &'a Path,
    /// What is being read, for messages: "the value of metadata key x".
    pub(super) place: String,
}

impl<'a, R: Read> Cursor<'a, R> {
    /// `reader` is at byte 0 of a file of `file_len` bytes; at most `limit` of them are read.
    pub(super) fn new(reader: R, file_len: u64, limit: u64, path: &'a Path) -> Self {
        let (end, limited) = (file_len.min(limit), file_len > limit);
        Self { reader, position: 0, end, limited, path, place: "the header".into() }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    const fn left(&self) -> u64 {
        self.end - self.position
    }

    pub(super) fn malformed(&self, problem: impl Into<String>) -> GgufError {
        GgufError::Malformed { path: self.path.into(), problem: problem.into() }
    }

    pub(super) fn tensor_error(&self, name: &str, problem: &str) -> GgufError {
        GgufError::Tensor {
            path: self.path.into(),
            name: printable(name),
            problem: problem.to_owned(),
        }
    }

    fn truncated(&self) -> GgufError {
        let (place, position) = (&self.place, self.position);
        self.malformed(if self.limited {
            format!(
                "{place} (byte {position}) goes beyond the {} bytes of header accepted",
                self.end
            )
        } else {
            format!("it ends inside {place} (byte {position}); copy or download it again")
        })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), GgufError> {
        if buffer.len() as u64 > self.left() {
            return Err(self.truncated());
        }
        self.reader.read_exact(buffer).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                self.truncated()
            } else {
                GgufError::Io { path: self.path.into(), source: e }
            }
        })?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        self.fill(&mut buffer)?;
        Ok(buffer)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A count of things that take at least `least_bytes` each; `limit` is the most we accept.
    pub(super) fn count(&mut self, least_bytes: u64, limit: u64) -> Result<usize, GgufError> {
        let n = self.u64()?;
        let possible = self.left() / least_bytes;
        if n > possible || n > limit {
            return Err(self.malformed(format!(
                "{} claims {n} entries, but at most {} are possible; the file is damaged or cut off",
                self.place,
                possible.min(limit)
            )));
        }
        usize::try_from(n).map_err(|_| self.truncated())
    }

    /// A string of UTF-8 with its length before it.
    pub(super) fn string(&mut self, text: Text) -> Result<String, GgufError> {
        let n = self.u64()?;
        if n > self.left() {
            return Err(self.malformed(format!(
                "{} claims a string of {n} bytes where {} are left; the file is damaged or cut off",
                self.place,
                self.left()
            )));
        }
        if n > text.longest() {
            return Err(self.malformed(format!(
                "{} has a string of {n} bytes, but at most {} are accepted there",
                self.place,
                text.longest()
            )));
        }
        let mut buffer = vec![0; usize::try_from(n).map_err(|_| self.truncated())?];
        self.fill(&mut buffer)?;
        String::from_utf8(buffer)
            .map_err(|_| self.malformed(format!("{} is not valid UTF-8", self.place)))
    }

    /// `n` values of `N` bytes each, whose room was checked by [`Self::count`].
    pub(super) fn values<T, const N: usize>(
        &mut self,
        n: usize,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let mut values = Vec::with_capacity(n);
        for _ in 0..n {
            values.push(convert(self.bytes()?));
        }
        Ok(values)
    }
}
