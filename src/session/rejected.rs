//! Bad lines of a task file, set aside in the run's folder for people to look at.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::data::{REJECTED_FILE, TaskSet};
use crate::store::durable::create_folder;
use crate::store::{StoreError, write_atomic};

/// Writes the bad lines that `set` describes to [`REJECTED_FILE`] in `dir`, which is created if it
/// is missing: one JSON object per line with file, line, reason and the beginning of the text.
/// Returns the file's path, or `None` (and writes nothing) if there are no bad lines.
///
/// # Errors
/// [`StoreError::Io`] if the file cannot be written.
pub fn write_rejected(set: &TaskSet, dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    if set.rejected.is_empty() {
        return Ok(None);
    }
    create_folder(dir)?;
    let path = dir.join(REJECTED_FILE);
    write_atomic(&path, |w| {
        set.rejected.iter().try_for_each(|bad| {
            let value = json!({
                "file": bad.file.to_string_lossy(),
                "line": bad.line,
                "reason": bad.reason.to_string(),
                "text": bad.text,
            });
            writeln!(w, "{value}")
        })
    })?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::{TaskLimits, read_tasks};

    const GOOD: &str = "{\"question\": \"q\", \"answer\": \"1\"}\n";

    fn read(dir: &Path, text: &str) -> TaskSet {
        let path = dir.join("tasks.jsonl");
        fs::write(&path, text).unwrap();
        read_tasks(&path, &TaskLimits::default()).unwrap()
    }

    #[test]
    fn bad_lines_are_set_aside_for_people() {
        let dir = tempfile::tempdir().unwrap();
        let set = read(dir.path(), &format!("{GOOD}oops\n"));

        let aside = write_rejected(&set, dir.path()).unwrap().unwrap();

        let text = fs::read_to_string(aside).unwrap();
        let written: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&written["line"], &written["text"]), (&json!(2), &json!("oops")));
        assert!(written["reason"].as_str().unwrap().contains("JSON"));
        assert!(write_rejected(&set, &dir.path().join("tasks.jsonl")).is_err());
    }

    #[test]
    fn nothing_is_written_without_bad_lines() {
        let dir = tempfile::tempdir().unwrap();
        let set = read(dir.path(), GOOD);

        assert_eq!(write_rejected(&set, dir.path()).unwrap(), None);

        assert!(!dir.path().join(REJECTED_FILE).exists());
    }
}
