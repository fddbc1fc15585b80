//! The archive: accepted tasks as files of JSON lines in the state folder, written before the ledger
//! knows them, so that a lost ledger can be rebuilt.
//!
//! A line is a task with its number and its side. A file is never changed; its name is
//! `<unix seconds, 12 digits>-<16 hexadecimal digits of the content's SHA-256>.jsonl`. Small files
//! are merged into larger ones, and files of which every task was forgotten are removed.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::lines::{Line, Lines};
use crate::data::split::is_held_out;
use crate::data::{AnswerKind, Task, TaskId, question_key};
use crate::intake::IntakeError;
use crate::store::durable::open_regular;
use crate::store::ledger::{Ledger, NewTask};
use crate::store::{StoreError, write_atomic};

/// Ids of the tasks set aside, one in a line; not a part of any archive file, since those never
/// change.
const SET_ASIDE_FILE: &str = "set-aside";
/// Tasks that are held in memory at a time.
pub(super) const CHUNK_TASKS: usize = 4096;
/// Text that is held in memory at a time, in bytes; a single task may be more.
pub(super) const CHUNK_BYTES: usize = 2 << 20;
/// An archive file with fewer tasks is small.
const SMALL_TASKS: u32 = 512;
/// So many small files are merged into one.
const MERGED_FILES: u32 = 64;
/// Longest line. JSON takes up to six bytes for one of a text, which [`crate::intake::SpoolSettings`]
/// limits to 16 MiB.
const MAX_LINE: usize = 100 << 20;

#[derive(Serialize)]
struct LineOut<'a> {
    question: &'a str,
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_kind: Option<AnswerKind>,
    sequence: i64,
    held_out: bool,
}

#[derive(Deserialize)]
struct LineIn {
    question: String,
    answer: String,
    #[serde(default)]
    answer_kind: Option<AnswerKind>,
    sequence: Option<i64>,
    held_out: Option<bool>,
}

/// Writes a file of the archive. Returns its name.
pub(super) fn write(dir: &Path, tasks: &[NewTask], unix_s: i64) -> Result<String, IntakeError> {
    write_named(dir, unix_s, |to| tasks.iter().try_for_each(|task| write_line(to, task)))
}

/// Loads one archive file that the ledger doesn't know yet, and says how many tasks were missing.
/// `None` if there is none.
///
/// Those are files of a ledger that was lost, or one that was written just before a kill.
pub(super) fn restore_one(
    dir: &Path,
    ledger: &Ledger,
    held_out_share: f64,
) -> Result<Option<u64>, IntakeError> {
    let Some(name) = first_unknown(dir, ledger)? else { return Ok(None) };
    let path = dir.join(&name);
    let aside = read_set_aside(dir)?;
    let (file, _) = open_regular(&path)?;
    let mut lines = Lines::new(BufReader::with_capacity(1 << 16, file), MAX_LINE);
    let mut read = || -> Result<Vec<NewTask>, IntakeError> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < CHUNK_TASKS && bytes < CHUNK_BYTES {
            match lines.next().map_err(StoreError::io("read", &path))? {
                None => break,
                Some(Line::TooLong(_)) => {}
                Some(Line::Whole(line)) => {
                    bytes += line.len();
                    chunk.extend(parse(line, held_out_share));
                }
            }
        }
        Ok(chunk)
    };
    let restored = ledger.transaction(|_| {
        let mut restored = 0;
        loop {
            let mut chunk = read()?;
            renumber(&mut chunk, ledger)?;
            let (train, held_out) = ledger.add_tasks(&name, &chunk)?;
            restored += train + held_out;
            let ids: Vec<_> = chunk.iter().map(|new| new.task.id()).collect();
            let marked: Vec<_> = ids.into_iter().filter(|id| aside.contains(id)).collect();
            ledger.mark_set_aside(&marked, true)?;
            if chunk.is_empty() {
                return Ok::<_, IntakeError>(restored);
            }
        }
    })?;
    Ok(Some(restored))
}

/// Removes files without tasks, and merges small ones once there are many.
pub(super) fn tidy(dir: &Path, ledger: &Ledger, unix_s: i64) -> Result<(), IntakeError> {
    let small = ledger.small_archives(SMALL_TASKS, MERGED_FILES)?;
    if small.len() == MERGED_FILES as usize {
        let each = |to: &mut dyn Write| {
            small.iter().try_for_each(|name| {
                ledger.for_each_archived(name, |task| {
                    write_line(to, &task).map_err(StoreError::io("write", dir))?;
                    Ok::<_, IntakeError>(())
                })
            })
        };
        let merged = merge(dir, unix_s, each)?;
        ledger.transaction(|_| ledger.merge_archives(&small, &merged))?;
    }
    let empty = ledger.empty_archives()?;
    if empty.is_empty() {
        return Ok(());
    }
    for name in &empty {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(error).into());
            }
            _ => {}
        }
    }
    ledger.transaction(|_| empty.iter().try_for_each(|name| ledger.drop_archive(name)))?;
    ledger.tidy()?;
    Ok(())
}

/// Writes down which tasks are set aside, so that a rebuilt ledger has them set aside as well.
pub(super) fn write_set_aside(dir: &Path, ids: &[TaskId]) -> Result<(), StoreError> {
    write_atomic(&dir.join(SET_ASIDE_FILE), |to| ids.iter().try_for_each(|id| writeln!(to, "{id}")))
}

fn read_set_aside(dir: &Path) -> Result<HashSet<TaskId>, IntakeError> {
    let path = dir.join(SET_ASIDE_FILE);
    let file = match open_regular(&path) {
        Ok((file, _)) => file,
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(HashSet::new());
        }
        Err(error) => return Err(error.into()),
    };
    let mut lines = Lines::new(BufReader::new(file), 64);
    let mut ids = HashSet::new();
    while let Some(line) = lines.next().map_err(StoreError::io("read", &path))? {
        if let Line::Whole(hex) = line {
            ids.extend(std::str::from_utf8(hex).ok().and_then(TaskId::from_hex));
        }
    }
    Ok(ids)
}

/// Gives a fresh number to each task whose number is missing or another task's, and the side of
/// its question to each whose question is known: files may be copies of one another.
fn renumber(tasks: &mut [NewTask], ledger: &Ledger) -> Result<(), IntakeError> {
    let mut lookup = ledger.lookup()?;
    let mut next = 1 + tasks.iter().map(|t| t.sequence).fold(ledger.newest_sequence()?, i64::max);
    let mut given = HashSet::new();
    for new in tasks {
        let is_free =
            new.sequence > 0 && given.insert(new.sequence) && !lookup.is_given(new.sequence)?;
        if !is_free {
            new.sequence = next;
            next += 1;
        }
        if let Some(side) = lookup.side_of(question_key(&new.task.question))? {
            new.held_out = side;
        }
    }
    Ok(())
}

fn parse(line: &[u8], held_out_share: f64) -> Option<NewTask> {
    let LineIn { question, answer, answer_kind, sequence, held_out } =
        serde_json::from_slice(line).ok()?;
    let task = Task { answer_kind, ..Task::new(question, answer) };
    let held_out = held_out.unwrap_or_else(|| is_held_out(&task, held_out_share));
    // Numbers near the end of their range would leave none for later tasks.
    let sequence = sequence.filter(|number| (1..1 << 48).contains(number)).unwrap_or(0);
    let is_task = !task.question.is_empty() && !task.answer.is_empty();
    is_task.then_some(NewTask { task, sequence, held_out })
}

fn write_line(to: &mut dyn Write, new: &NewTask) -> io::Result<()> {
    let NewTask { task: Task { question, answer, answer_kind, .. }, sequence, held_out } = new;
    let (answer_kind, sequence, held_out) = (*answer_kind, *sequence, *held_out);
    let line = LineOut { question, answer, answer_kind, sequence, held_out };
    serde_json::to_writer(&mut *to, &line)?;
    to.write_all(b"\n")
}

/// Hashes what is written.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a file whose name holds the hash of its content: `content` is asked for it twice.
pub(super) fn write_named(
    dir: &Path,
    unix_s: i64,
    content: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<String, IntakeError> {
    let mut hash = Hashing(Sha256::new());
    content(&mut hash).map_err(StoreError::io("write", dir))?;
    let digest = hash.0.finalize();
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{:012}-{hex}.jsonl", unix_s.clamp(0, 999_999_999_999));
    write_atomic(&dir.join(&name), |to| content(to))?;
    Ok(name)
}

/// [`write_named`] for a content that can fail for other reasons than writing.
fn merge(
    dir: &Path,
    unix_s: i64,
    content: impl Fn(&mut dyn Write) -> Result<(), IntakeError>,
) -> Result<String, IntakeError> {
    let failed = std::cell::Cell::new(None);
    let written = write_named(dir, unix_s, |to| {
        content(to).map_err(|error| {
            failed.set(Some(error));
            io::Error::other("the ledger failed")
        })
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => written,
    }
}

fn first_unknown(dir: &Path, ledger: &Ledger) -> Result<Option<String>, IntakeError> {
    let mut names = names(dir)?;
    names.sort();
    for name in names {
        if !ledger.knows_archive(&name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The names of all files in the folder that are named as [`write_named`] does.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, IntakeError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        names.extend(entry.file_name().into_string().ok().filter(|name| is_ours(name)));
    }
    Ok(names)
}

fn is_ours(name: &str) -> bool {
    let parts = name.strip_suffix(".jsonl").and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(time, hash)| {
        time.len() == 12
            && time.bytes().all(|byte| byte.is_ascii_digit())
            && hash.len() == 16
            && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Creates a folder that only its owner can read: it holds task text.
pub(super) fn private_folder(path: &Path) -> Result<(), IntakeError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.and_then(|()| path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all()))
        .map_err(StoreError::io("create the folder", path))?;
    Ok(())
}
