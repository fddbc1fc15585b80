//! A file or a folder of JSON lines or CSV to a set of tasks, accounting for every bad line.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::data::records::{Format, Records};
use crate::data::{RejectReason, Task, TaskId};

/// The file that bad lines are set aside in. Never read as a file of tasks.
pub const REJECTED_FILE: &str = "rejected.jsonl";
/// How many characters of a bad line are kept.
const EXCERPT_CHARS: usize = 200;

/// How much is read, so that no file can fill the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLimits {
    /// Longer lines are rejected unread. 1 MiB: far beyond any context window.
    pub max_line_bytes: usize,
    /// Further good lines are rejected.
    pub max_tasks: usize,
    /// Question and answer text in all; good lines beyond are rejected.
    pub max_text_bytes: usize,
    /// Bad lines beyond are counted but not described.
    pub max_rejected: usize,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            max_line_bytes: 1 << 20,
            max_tasks: 1_000_000,
            max_text_bytes: 256 << 20,
            max_rejected: 1000,
        }
    }
}

/// A bad line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The file that it is in.
    pub file: PathBuf,
    /// Counted from 1, blank lines included.
    pub line: usize,
    pub reason: RejectReason,
    /// Its first 200 characters, with a replacement for what is not UTF-8.
    pub text: String,
}

/// What a file or folder of tasks holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskSet {
    /// The good tasks in file order, without repeats.
    pub tasks: Vec<Task>,
    /// The first bad lines, at most [`TaskLimits::max_rejected`].
    pub rejected: Vec<Rejected>,
    /// How many bad lines there are.
    pub rejected_count: usize,
    /// How many good lines repeated an earlier task and were dropped.
    pub duplicates: usize,
}

/// Why there are no tasks.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("cannot read tasks from {}: {source}; check the path and its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the folder {} holds no *.jsonl, *.ndjson or *.csv file; put questions and answers there", path.display())]
    NoFiles { path: PathBuf },
    #[error(
        "{} holds no tasks; write one JSON object with \"question\" and \"answer\" on each line",
        path.display()
    )]
    Empty { path: PathBuf },
    #[error(
        "{} holds no good task: {count} bad lines, the first is line {} of {}: {}; write one JSON \
         object with \"question\" and \"answer\" on each line",
        path.display(), first.line, first.file.display(), first.reason
    )]
    NoGoodTask { path: PathBuf, count: usize, first: Box<Rejected> },
}

/// Reads the tasks of a file, or of all `*.jsonl`, `*.ndjson` and `*.csv` files of a folder in the
/// order of their names (except hidden ones and `rejected.jsonl`).
///
/// A line of JSON is `{"question": …, "answer": …}`, each a text or a number; or `question`,
/// `choices` and `answerKey` as in ARC; or a conversation as `messages`. CSV has a header that names
/// the columns question and answer. Other fields are ignored. Blank lines are skipped, bad ones
/// counted and described, repeated tasks dropped.
///
/// # Errors
/// [`DataError`] if a file cannot be read or is not a regular file, or if there is no good task.
pub fn read_tasks(path: &Path, limits: &TaskLimits) -> Result<TaskSet, DataError> {
    let read_error = |source| DataError::Read { path: path.to_owned(), source };
    let is_folder = fs::metadata(path).map_err(read_error)?.is_dir();
    let files = if is_folder { task_files(path)? } else { vec![path.to_owned()] };
    let mut reading = Reading { limits, set: TaskSet::default(), seen: HashSet::new(), text: 0 };
    for file in &files {
        reading.read_file(file).map_err(|source| DataError::Read { path: file.clone(), source })?;
    }
    let set = reading.set;
    let path = path.to_owned();
    match (set.tasks.is_empty(), set.rejected.first()) {
        (false, _) => Ok(set),
        (true, None) => Err(DataError::Empty { path }),
        (true, Some(first)) => Err(DataError::NoGoodTask {
            path,
            count: set.rejected_count,
            first: Box::new(first.clone()),
        }),
    }
}

/// The files of tasks in a folder, sorted by name.
fn task_files(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read_error = |source| DataError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let hidden_or_ours = path
            .file_name()
            .is_some_and(|name| name == REJECTED_FILE || name.as_encoded_bytes().starts_with(b"."));
        // Other programs keep settings and the like in `*.json`; such a file is read if named.
        let of_tasks = Format::of(&path).is_some_and(|format| format != Format::Json);
        if of_tasks && !hidden_or_ours && !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::NoFiles { path: dir.to_owned() });
    }
    files.sort();
    Ok(files)
}

/// The state while reading.
struct Reading<'a> {
    limits: &'a TaskLimits,
    set: TaskSet,
    seen: HashSet<TaskId>,
    /// Bytes of text in the tasks so far.
    text: usize,
}

impl Reading<'_> {
    fn read_file(&mut self, path: &Path) -> io::Result<()> {
        // Pipes and devices can hang or never end.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let format = Format::of(path).unwrap_or(Format::JsonLines);
        let mut records = Records::new(reader, format, self.limits.max_line_bytes)?;
        while let Some(record) = records.next()? {
            let Some(task) = record.task else { continue };
            if let Err(reason) = task.and_then(|task| self.add(task)) {
                self.reject(path, record.line, reason, record.text);
            }
        }
        Ok(())
    }

    fn add(&mut self, task: Task) -> Result<(), RejectReason> {
        let id = task.id();
        if self.seen.contains(&id) {
            self.set.duplicates += 1;
            return Ok(());
        }
        let TaskLimits { max_tasks, max_text_bytes, .. } = *self.limits;
        if self.set.tasks.len() >= max_tasks {
            return Err(RejectReason::TooManyTasks { limit: max_tasks });
        }
        let text = self.text.saturating_add(task.bytes());
        if text > max_text_bytes {
            return Err(RejectReason::TooMuchText { limit: max_text_bytes });
        }
        self.text = text;
        self.seen.insert(id);
        self.set.tasks.push(task);
        Ok(())
    }

    fn reject(&mut self, file: &Path, line: usize, reason: RejectReason, bytes: &[u8]) {
        self.set.rejected_count += 1;
        // The first is always kept: an error about a set without tasks shows it.
        if self.set.rejected.len() < self.limits.max_rejected.max(1) {
            let text = excerpt(bytes);
            self.set.rejected.push(Rejected { file: file.to_owned(), line, reason, text });
        }
    }
}

fn excerpt(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let head = &bytes[..bytes.len().min(4 * EXCERPT_CHARS)];
    String::from_utf8_lossy(head).chars().take(EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests;
