//! The tasks in the ledger: adding, counting, choosing, setting aside, forgetting the oldest.
//!
//! Owns the tables `tasks`, `answer_kind`, `archive` (which file of the archive holds a task) and `tally`
//! (counts, kept by triggers). Doesn't know where tasks come from or what files look like.

use rusqlite::{OptionalExtension, Row, Statement, params};

use super::{Ledger, LedgerError};
use crate::data::{AnswerKind, Task, TaskId, question_key};

/// Creates the tables.
pub const SCHEMA: &str = include_str!("tasks.sql");

/// A task to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub task: Task,
    /// Its number, see [`Ledger::newest_sequence`]; not to be one that was ever given before.
    pub sequence: i64,
    pub held_out: bool,
}

/// A task in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// Grows with every task; no number is ever given twice.
    pub sequence: i64,
    pub task: Task,
}

/// How many tasks the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// To train on.
    pub train: u64,
    /// To evaluate on.
    pub held_out: u64,
    /// Set aside, of both kinds: used for nothing.
    pub set_aside: u64,
    /// Questions and answers of all of them, in bytes of UTF-8.
    pub text_bytes: u64,
}

/// Questions about tasks, see [`Ledger::lookup`].
#[derive(Debug)]
pub struct Lookup<'a> {
    by_id: Statement<'a>,
    by_question: Statement<'a>,
    by_sequence: Statement<'a>,
}

impl Lookup<'_> {
    /// Whether the ledger holds the task.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn knows(&mut self, id: &TaskId) -> Result<bool, LedgerError> {
        Ok(self.by_id.exists([id.0])?)
    }

    /// Whether the tasks with this [`question_key`] are held out, whatever their answers; `None`
    /// if there are none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn side_of(&mut self, question_key: u64) -> Result<Option<bool>, LedgerError> {
        let key = question_key.cast_signed();
        Ok(self.by_question.query_row([key], |row| row.get(0)).optional()?)
    }

    /// Whether a task has the number.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn is_given(&mut self, sequence: i64) -> Result<bool, LedgerError> {
        Ok(self.by_sequence.exists([sequence])?)
    }
}

impl Ledger {
    /// How many tasks there are.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn task_counts(&self) -> Result<TaskCounts, LedgerError> {
        let mut query =
            self.connection.prepare("SELECT held_out, set_aside, count, text_bytes FROM tally")?;
        let mut rows = query.query([])?;
        let mut counts = TaskCounts::default();
        while let Some(row) = rows.next()? {
            let count = unsigned(row, 2)?;
            counts.text_bytes += unsigned(row, 3)?;
            match (row.get(1)?, row.get(0)?) {
                (true, _) => counts.set_aside += count,
                (false, true) => counts.held_out += count,
                (false, false) => counts.train += count,
            }
        }
        Ok(counts)
    }

    /// The greatest number given to a task so far; 0 before the first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn newest_sequence(&self) -> Result<i64, LedgerError> {
        let mut query =
            self.connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'tasks'")?;
        Ok(query.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// How many tasks to train on, and how many held-out ones, came after `sequence`.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn tasks_after(&self, sequence: i64) -> Result<(u64, u64), LedgerError> {
        let mut query = self.connection.prepare(
            "SELECT COUNT(*) FROM tasks WHERE held_out = ?1 AND set_aside = 0 AND sequence > ?2",
        )?;
        let mut count = |held_out| query.query_row((held_out, sequence), |row| unsigned(row, 0));
        Ok((count(false)?, count(true)?))
    }

    /// The newest tasks to train on, oldest of them first: at most `limit`, and as many of them as
    /// fit into `max_text_bytes`. The newest are those that fit the device's present work best.
    ///
    /// # Errors
    /// [`LedgerError`]; one that [`LedgerError::is_corrupt`] if a task's text isn't what was added.
    pub fn snapshot_train(
        &self,
        limit: usize,
        max_text_bytes: usize,
    ) -> Result<Vec<StoredTask>, LedgerError> {
        self.newest(false, limit, max_text_bytes, 0)
    }

    /// The newest held-out tasks, oldest of them first: at most `limit`, and as many of them as
    /// fit into `max_text_bytes`. With `after_sequence` only those that came after it.
    ///
    /// # Errors
    /// As [`Self::snapshot_train`].
    pub fn held_out(
        &self,
        limit: usize,
        max_text_bytes: usize,
        after_sequence: Option<i64>,
    ) -> Result<Vec<StoredTask>, LedgerError> {
        self.newest(true, limit, max_text_bytes, after_sequence.unwrap_or(0))
    }

    /// Sets the tasks aside (or, with `false`, takes them back): those are neither trained nor
    /// evaluated on. Returns how many changed. Unknown ids are skipped. Part of a transaction if
    /// called in one; else call [`crate::intake::Spool::set_aside`], which also survives the
    /// loss of the ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn mark_set_aside(&self, ids: &[TaskId], aside: bool) -> Result<usize, LedgerError> {
        let mut update = self
            .connection
            .prepare("UPDATE tasks SET set_aside = ?2 WHERE id = ?1 AND set_aside <> ?2")?;
        ids.iter().try_fold(0, |sum, id| Ok(sum + update.execute(params![id.0, aside])?))
    }

    /// The ids of all tasks set aside, in the order of their numbers.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn set_aside_ids(&self) -> Result<Vec<TaskId>, LedgerError> {
        let mut query = self
            .connection
            .prepare("SELECT id FROM tasks WHERE set_aside = 1 ORDER BY sequence")?;
        let ids = query.query_map([], |row| row.get(0).map(TaskId))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Questions about tasks, prepared once for many.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn lookup(&self) -> Result<Lookup<'_>, LedgerError> {
        let prepare = |sql| self.connection.prepare(sql);
        Ok(Lookup {
            by_id: prepare("SELECT 1 FROM tasks WHERE id = ?1")?,
            by_question: prepare("SELECT held_out FROM tasks WHERE question_key = ?1 LIMIT 1")?,
            by_sequence: prepare("SELECT 1 FROM tasks WHERE sequence = ?1")?,
        })
    }

    /// Adds tasks from the archive file `name`; those already present are left unchanged. Returns how many were added, to train on and held out. To be called in a transaction.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn add_tasks(&self, name: &str, tasks: &[NewTask]) -> Result<(u64, u64), LedgerError> {
        let archive = self.archive_id(name)?;
        let mut insert = self.connection.prepare(
            "INSERT INTO tasks (sequence, id, question_key, question, answer, text_bytes, \
             held_out, archive) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT (id) DO NOTHING",
        )?;
        let mut judge =
            self.connection.prepare("INSERT INTO answer_kind (task, kind) VALUES (?1, ?2)")?;
        let (mut train, mut held_out) = (0, 0);
        for NewTask { task, sequence, held_out: held } in tasks {
            let key = question_key(&task.question).cast_signed();
            let bytes = text_bytes(task).cast_signed();
            let (id, Task { question, answer, .. }) = (task.id().0, task);
            let values = params![sequence, id, key, question, answer, bytes, held, archive];
            let added = insert.execute(values)? as u64;
            if let Some(kind) = task.answer_kind.filter(|_| added > 0) {
                judge.execute(params![sequence, kind.name()])?;
            }
            *(if *held { &mut held_out } else { &mut train }) += added;
        }
        Ok((train, held_out))
    }

    /// Forgets the oldest tasks until no more than `max_tasks` and `max_text_bytes` are left.
    /// Returns how many were forgotten.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn forget_oldest(&self, max_tasks: u64, max_text_bytes: u64) -> Result<u64, LedgerError> {
        let counts = self.task_counts()?;
        let (mut tasks, mut bytes) =
            (counts.train + counts.held_out + counts.set_aside, counts.text_bytes);
        if tasks <= max_tasks && bytes <= max_text_bytes {
            return Ok(0);
        }
        let mut last = None;
        let mut forgotten = 0;
        let mut query =
            self.connection.prepare("SELECT sequence, text_bytes FROM tasks ORDER BY sequence")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if tasks <= max_tasks && bytes <= max_text_bytes {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
            bytes = bytes.saturating_sub(unsigned(row, 1)?);
            tasks = tasks.saturating_sub(1);
            forgotten += 1;
        }
        drop(rows);
        if let Some(last) = last {
            self.connection.execute("DELETE FROM tasks WHERE sequence <= ?1", [last])?;
        }
        Ok(forgotten)
    }

    fn newest(
        &self,
        held_out: bool,
        limit: usize,
        max_text_bytes: usize,
        after: i64,
    ) -> Result<Vec<StoredTask>, LedgerError> {
        let mut query = self.connection.prepare(
            "SELECT sequence, id, question, answer, kind FROM tasks \
             LEFT JOIN answer_kind ON task = sequence WHERE held_out = ?1 \
             AND set_aside = 0 AND sequence > ?2 ORDER BY sequence DESC LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = query.query(params![held_out, after, limit])?;
        let mut tasks = Vec::new();
        let mut room = max_text_bytes as u64;
        while let Some(row) = rows.next()? {
            let stored = stored(row)?;
            let Some(left) = room.checked_sub(text_bytes(&stored.task)) else { break };
            room = left;
            tasks.push(stored);
        }
        tasks.reverse();
        Ok(tasks)
    }
}

/// Reads a row, and compares its text with its id: SQLite itself has no checksums.
pub(super) fn stored(row: &Row<'_>) -> Result<StoredTask, LedgerError> {
    let damaged = |what: &str| LedgerError::Damaged { what: what.to_owned() };
    let kind = row.get::<_, Option<String>>(4)?.map(|word| {
        word.parse::<AnswerKind>().map_err(|_| damaged("a task's answer has no known kind"))
    });
    let task = Task { answer_kind: kind.transpose()?, ..Task::new(row.get(2)?, row.get(3)?) };
    if row.get::<_, [u8; 32]>(1)? != task.id().0 {
        return Err(damaged("a task's text is not what was added"));
    }
    Ok(StoredTask { sequence: row.get(0)?, task })
}

/// A count, which SQLite keeps with a sign.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).unsigned_abs())
}

fn text_bytes(task: &Task) -> u64 {
    (task.question.len() + task.answer.len()) as u64
}
