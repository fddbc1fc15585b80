//! Which file of the archive holds which tasks, and which files of the spool were read already.
//!
//! Owns the tables `archive` and `source`. Knows the names of files, and touches none of them.

use rusqlite::{OptionalExtension, params};

use super::tasks::stored;
use super::{Ledger, LedgerError, NewTask};

/// A file of the spool that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name, as the file system has it.
    pub(crate) name: Vec<u8>,
    /// What tells it from a later file of that name.
    pub(crate) identity: String,
    /// When its tasks went into the ledger, in unix seconds.
    pub(crate) taken_at: i64,
}

impl Ledger {
    /// Whether the archive file is accounted for.
    pub(crate) fn knows_archive(&self, name: &str) -> Result<bool, LedgerError> {
        let mut query = self.connection.prepare("SELECT 1 FROM archive WHERE name = ?1")?;
        Ok(query.exists([name])?)
    }

    /// The number of an archive file, which gets one if it has none.
    pub(super) fn archive_id(&self, name: &str) -> Result<i64, LedgerError> {
        let id = self
            .connection
            .prepare(
                "INSERT INTO archive (name) VALUES (?1) \
                 ON CONFLICT (name) DO UPDATE SET name = name RETURNING id",
            )?
            .query_row([name], |row| row.get(0))?;
        Ok(id)
    }

    /// The archive files of which no task is left.
    pub(crate) fn empty_archives(&self) -> Result<Vec<String>, LedgerError> {
        let mut query =
            self.connection.prepare("SELECT name FROM archive WHERE tasks_left <= 0")?;
        let names = query.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Forgets an archive file of which no task is left.
    pub(crate) fn drop_archive(&self, name: &str) -> Result<(), LedgerError> {
        self.connection
            .prepare("DELETE FROM archive WHERE name = ?1 AND tasks_left <= 0")?
            .execute([name])?;
        Ok(())
    }

    /// The oldest archive files with fewer than `tasks` tasks, at most `limit`.
    pub(crate) fn small_archives(
        &self,
        tasks: u32,
        limit: u32,
    ) -> Result<Vec<String>, LedgerError> {
        let mut query = self
            .connection
            .prepare("SELECT name FROM archive WHERE tasks_left < ?1 ORDER BY id LIMIT ?2")?;
        let names = query.query_map([tasks, limit], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Hands the tasks of an archive file that are still there to `each`, in order.
    pub(crate) fn for_each_archived<E: From<LedgerError>>(
        &self,
        name: &str,
        mut each: impl FnMut(NewTask) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = self
            .connection
            .prepare(
                "SELECT sequence, tasks.id, question, answer, kind, held_out FROM tasks \
                 JOIN archive ON archive.id = tasks.archive \
                 LEFT JOIN answer_kind ON task = sequence WHERE name = ?1 ORDER BY sequence",
            )
            .map_err(LedgerError::from)?;
        let mut rows = query.query([name]).map_err(LedgerError::from)?;
        while let Some(row) = rows.next().map_err(LedgerError::from)? {
            let task = stored(row)?;
            let held_out = row.get(5).map_err(LedgerError::from)?;
            each(NewTask { task: task.task, sequence: task.sequence, held_out })?;
        }
        Ok(())
    }

    /// Records that all tasks of the archive files `old` are now in the file `new`.
    pub(crate) fn merge_archives(&self, old: &[String], new: &str) -> Result<(), LedgerError> {
        let id = self.archive_id(new)?;
        let mut update = self.connection.prepare(
            "UPDATE tasks SET archive = ?1 \
             WHERE archive = (SELECT id FROM archive WHERE name = ?2)",
        )?;
        old.iter().try_for_each(|name| update.execute(params![id, name]).map(drop))?;
        Ok(())
    }

    /// Remembers that the file was read. Where that is known of the very same file, the earlier
    /// entry stays. Returns when it was read first.
    pub(crate) fn add_source(&self, source: &Source) -> Result<i64, LedgerError> {
        let known = self
            .connection
            .prepare("SELECT taken_at FROM source WHERE name = ?1 AND identity = ?2")?
            .query_row(params![source.name, source.identity], |row| row.get(0))
            .optional()?;
        if let Some(taken_at) = known {
            return Ok(taken_at);
        }
        self.connection
            .prepare(
                "INSERT OR REPLACE INTO source (name, identity, taken_at) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![source.name, source.identity, source.taken_at])?;
        Ok(source.taken_at)
    }

    /// Remembers that the file could not be removed and is not to be read again.
    pub(crate) fn keep_source(&self, name: &[u8]) -> Result<(), LedgerError> {
        self.connection.prepare("UPDATE source SET kept = 1 WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    /// Forgets a file that is gone.
    pub(crate) fn drop_source(&self, name: &[u8]) -> Result<(), LedgerError> {
        self.connection.prepare("DELETE FROM source WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    /// The files that could not be removed.
    pub(crate) fn kept_sources(&self) -> Result<Vec<Source>, LedgerError> {
        let mut query = self
            .connection
            .prepare("SELECT name, identity, taken_at FROM source WHERE kept = 1")?;
        let sources = query.query_map([], |row| {
            Ok(Source { name: row.get(0)?, identity: row.get(1)?, taken_at: row.get(2)? })
        })?;
        Ok(sources.collect::<Result<_, _>>()?)
    }

    /// Forgets files that were read before, except those that could not be removed: their names
    /// are gone from the spool, or they will be read once more without harm.
    pub(crate) fn drop_pending_sources(&self) -> Result<(), LedgerError> {
        self.connection.execute("DELETE FROM source WHERE kept = 0", [])?;
        Ok(())
    }
}
