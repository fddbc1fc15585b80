//! Reads one file of the spool, in pieces, and gathers what is to go into the ledger.
//!
//! Doesn't know how either is made durable.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::data::records::{Format, Records};
use crate::data::split::is_held_out;
use crate::data::{RejectReason, Task, TaskId, question_key};
use crate::intake::IntakeError;
use crate::intake::archive::{CHUNK_BYTES, CHUNK_TASKS};
use crate::intake::quarantine::Rejects;
use crate::intake::watch::{FileIdentity, Ready};
use crate::store::ledger::{Lookup, NewTask};

/// Files whose end was read, at most, before they are committed.
const MAX_FINISHED: usize = 256;

/// How much more one scan may do, so that the daemon stays responsive.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) records: usize,
}

impl Budget {
    pub(super) fn is_spent(&self) -> bool {
        self.files == 0 || self.bytes == 0 || self.records == 0
    }
}

/// A file that was read to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) name: OsString,
    pub(super) identity: FileIdentity,
    pub(super) rejects: Rejects,
}

/// What is to go into the ledger together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) tasks: Vec<NewTask>,
    pub(super) finished: Vec<Finished>,
    ids: HashSet<TaskId>,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() >= CHUNK_TASKS
            || self.bytes >= CHUNK_BYTES
            || self.finished.len() >= MAX_FINISHED
    }

    /// Adds a task unless it is known. Says whether it was new.
    fn add(
        &mut self,
        task: Task,
        lookup: &mut Lookup<'_>,
        held_out_share: f64,
    ) -> Result<bool, IntakeError> {
        let id = task.id();
        if self.ids.contains(&id) || lookup.knows(&id)? {
            return Ok(false);
        }
        let side = lookup.side_of(question_key(&task.question))?;
        let held_out = side.unwrap_or_else(|| is_held_out(&task, held_out_share));
        self.bytes += task.bytes();
        self.ids.insert(id);
        // The number is given when the batch is written.
        self.tasks.push(NewTask { task, sequence: 0, held_out });
        Ok(true)
    }
}

/// How reading a piece of a file went.
pub(super) enum ReadOutcome {
    /// The batch is full or the budget spent: to be continued.
    Paused,
    /// The file's end was reached.
    End { torn: bool },
    /// Nothing in the file can be used; a person must change it.
    Refused(RejectReason),
    /// The file could not be read on.
    Failed(io::Error),
}

/// A file that is being read.
pub(super) struct Reading {
    pub(super) name: OsString,
    pub(super) identity: FileIdentity,
    pub(super) duplicates: u64,
    pub(super) rejects: Rejects,
    records: Records<BufReader<Counting>>,
}

impl Reading {
    /// Opens the file without following links or waiting for pipes. `None` if it is not the file
    /// any more that was looked at.
    pub(super) fn open(folder: &Path, file: Ready, max_line: usize) -> io::Result<Option<Self>> {
        let path = folder.join(&file.name);
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let meta = opened.metadata()?;
        if !meta.is_file() || FileIdentity::of(&meta) != file.identity {
            return Ok(None);
        }
        // What is appended from now on is left for another time.
        let reader = Counting { inner: opened.take(file.size), read: 0 };
        let format = Format::of(&path).unwrap_or(Format::JsonLines);
        let records = Records::new(BufReader::with_capacity(1 << 16, reader), format, max_line)?;
        let Ready { name, identity, .. } = file;
        Ok(Some(Self { name, identity, duplicates: 0, rejects: Rejects::default(), records }))
    }

    /// Reads on until the end of the file, of the budget, or of the room in the batch.
    pub(super) fn advance(
        &mut self,
        batch: &mut Batch,
        lookup: &mut Lookup<'_>,
        held_out_share: f64,
        budget: &mut Budget,
    ) -> Result<ReadOutcome, IntakeError> {
        while !batch.is_full() && !budget.is_spent() {
            let before = self.bytes_read();
            let record = match self.records.next() {
                Err(error) => return Ok(ReadOutcome::Failed(error)),
                Ok(None) => return Ok(ReadOutcome::End { torn: self.records.is_torn() }),
                Ok(Some(record)) => record,
            };
            match record.task {
                None => {}
                Some(Ok(task)) => {
                    let is_new = batch.add(task, lookup, held_out_share)?;
                    self.duplicates += u64::from(!is_new);
                }
                Some(Err(reason)) if reason.is_of_file() => {
                    return Ok(ReadOutcome::Refused(reason));
                }
                Some(Err(reason)) => self.rejects.add(record.line, reason, record.text),
            }
            budget.records -= 1;
            budget.bytes = budget.bytes.saturating_sub(self.bytes_read() - before);
        }
        Ok(ReadOutcome::Paused)
    }

    fn bytes_read(&self) -> u64 {
        self.records.get_ref().get_ref().read
    }
}

/// Counts the bytes that are read.
struct Counting {
    inner: io::Take<File>,
    read: u64,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}
