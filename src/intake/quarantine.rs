//! Rejected lines, set aside for people, with the reason for each.
//!
//! One file of JSON lines for each file of tasks that had any: `file`, `line`, `reason`, and the
//! beginning of the `text`. Bounded in lines, in bytes of each, and in all.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::data::RejectReason;
use crate::intake::IntakeError;
use crate::intake::archive::{names, write_named};
use crate::store::StoreError;

/// Most lines that are kept of one file; further ones are only counted.
const MAX_LINES: usize = 1000;
/// Most text that is kept of one file, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Most text that is kept of one line, in bytes.
const MAX_LINE_BYTES: usize = 4096;

/// The rejected lines of one file.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    /// How many there are.
    pub(super) count: u64,
    kept: Vec<(usize, RejectReason, String)>,
    bytes: usize,
}

impl Rejects {
    pub(super) fn add(&mut self, line: usize, reason: RejectReason, text: &[u8]) {
        self.count += 1;
        let text = &text[..text.len().min(MAX_LINE_BYTES)];
        if self.kept.len() < MAX_LINES && self.bytes + text.len() <= MAX_BYTES {
            self.bytes += text.len();
            self.kept.push((line, reason, String::from_utf8_lossy(text).into_owned()));
        }
    }

    /// Writes them to the folder, and removes the oldest files there beyond `max_bytes`.
    pub(super) fn write(
        &self,
        dir: &Path,
        file: &OsStr,
        unix_s: i64,
        max_bytes: u64,
    ) -> Result<(), IntakeError> {
        if self.count == 0 {
            return Ok(());
        }
        let file = file.to_string_lossy();
        write_named(dir, unix_s, |to| {
            self.kept.iter().try_for_each(|(line, reason, text)| {
                let reason = reason.to_string();
                let value = json!({"file": file, "line": line, "reason": reason, "text": text});
                writeln!(to, "{value}")
            })?;
            let left_out = self.count - self.kept.len() as u64;
            if left_out == 0 {
                return Ok(());
            }
            let reason = format!("{left_out} more rejected lines are not kept");
            writeln!(to, "{}", json!({ "file": file, "reason": reason }))
        })?;
        remove_oldest(dir, max_bytes)
    }
}

fn remove_oldest(dir: &Path, max_bytes: u64) -> Result<(), IntakeError> {
    let mut names = names(dir)?;
    names.sort();
    let mut bytes = 0;
    for name in names.iter().rev() {
        let path = dir.join(name);
        bytes += fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
        if bytes > max_bytes {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
