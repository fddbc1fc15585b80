//! A cycle of learning on disk: what it works on, where it began and how far it is.
//!
//! ```text
//!   training/cycle/
//!     cycle.json        this record; its stage says what comes next
//!     tasks.jsonl       the tasks to learn from, as they were when the cycle began
//!     held_out.jsonl    the questions to compare with
//!     candidate/        the run: checkpoint and adapter
//!     comparison.*      the comparison with the active adapter
//!
//!   training ──► evaluating ──► judging ──► (promoted or rejected: the folder goes)
//! ```
//!
//! A cycle's folder is whole or absent. Knows nothing of workers, idleness or adapters' versions.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Task;
use crate::store::durable::{create_folder, sync_folder};
use crate::store::{StoreError, load_json, save_json, write_atomic};

const RECORD: &str = "cycle.json";

/// What a cycle waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Steps are left.
    Training,
    /// The candidate is complete.
    Evaluating,
    /// The comparison is complete.
    Judging,
}

impl Stage {
    /// The name in `latrod status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Judging => "judging",
        }
    }
}

/// On what a cycle builds; known once the model has been loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// SHA-256 of the model's file.
    pub base_sha256: String,
    /// The version of the adapter that training starts from; none: a fresh one.
    pub start: Option<String>,
}

/// A cycle's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counted from 1 over the life of the state folder; also the seed of the run.
    pub number: u64,
    pub stage: Stage,
    /// Set when the first job is given.
    pub basis: Option<Basis>,
    /// The version that the candidate was last compared with, the base model if there was none; set
    /// when the comparison begins.
    pub baseline: Option<Option<String>>,
    /// The version that the candidate was published as, once it was found better.
    pub published: Option<String>,
    /// Tasks to learn from.
    pub train: usize,
    /// Questions to compare with.
    pub held_out: usize,
    /// The newest task of the ledger when the cycle began.
    pub newest: i64,
    /// Unix seconds.
    pub began: i64,
}

/// The cycle in progress.
#[derive(Debug)]
pub struct Cycle {
    dir: PathBuf,
    pub record: Record,
}

/// What a cycle is begun with.
#[derive(Debug)]
pub struct Snapshot {
    pub tasks: Vec<Task>,
    pub held_out: Vec<Task>,
    /// The newest task of the ledger.
    pub newest: i64,
}

impl Cycle {
    /// The cycle in `training`, if one is in progress. What a killed beginning left is removed.
    ///
    /// # Errors
    /// If the folder cannot be read, or its record is damaged.
    pub fn open(training: &Path) -> Result<Option<Self>, StoreError> {
        create_folder(training)?;
        for left in [beginning(training), ending(training)] {
            remove_folder(&left)?;
        }
        let dir = training.join("cycle");
        if !dir.try_exists().map_err(StoreError::io("read", &dir))? {
            return Ok(None);
        }
        let record = load_json(&dir.join(RECORD))?;
        Ok(Some(Self { dir, record }))
    }

    /// Begins cycle `number`.
    ///
    /// # Errors
    /// If it cannot be written; there is none then.
    pub fn begin(
        training: &Path,
        number: u64,
        began: i64,
        snapshot: &Snapshot,
    ) -> Result<Self, StoreError> {
        let new = beginning(training);
        remove_folder(&new)?;
        create_folder(&new)?;
        write_tasks(&new.join("tasks.jsonl"), &snapshot.tasks)?;
        write_tasks(&new.join("held_out.jsonl"), &snapshot.held_out)?;
        let record = Record {
            number,
            stage: Stage::Training,
            basis: None,
            baseline: None,
            published: None,
            train: snapshot.tasks.len(),
            held_out: snapshot.held_out.len(),
            newest: snapshot.newest,
            began,
        };
        save_json(&new.join(RECORD), &record)?;
        let dir = training.join("cycle");
        fs::rename(&new, &dir).map_err(StoreError::io("write", &dir))?;
        sync_folder(training).map_err(StoreError::io("write", training))?;
        Ok(Self { dir, record })
    }

    /// Changes the record, durably.
    ///
    /// # Errors
    /// If it cannot be written; the record is then as it was.
    pub fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let mut record = self.record.clone();
        change(&mut record);
        save_json(&self.dir.join(RECORD), &record)?;
        self.record = record;
        Ok(())
    }

    /// Ends the cycle: its folder goes.
    ///
    /// # Errors
    /// If it cannot be moved away; it is then still in progress. What cannot be deleted after that
    /// is deleted at the next opening.
    pub fn end(self, training: &Path) -> Result<(), StoreError> {
        let old = ending(training);
        remove_folder(&old)?;
        fs::rename(&self.dir, &old).map_err(StoreError::io("remove", &self.dir))?;
        sync_folder(training).map_err(StoreError::io("write", training))?;
        remove_folder(&old)
    }

    /// The tasks to learn from.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.dir.join("tasks.jsonl")
    }

    /// The questions to compare with.
    #[must_use]
    pub fn held_out(&self) -> PathBuf {
        self.dir.join("held_out.jsonl")
    }

    /// The run's folder, and the candidate's.
    #[must_use]
    pub fn candidate(&self) -> PathBuf {
        self.dir.join("candidate")
    }

    /// The comparison's result.
    #[must_use]
    pub fn comparison(&self) -> PathBuf {
        self.dir.join("comparison.json")
    }
}

fn beginning(training: &Path) -> PathBuf {
    training.join(".beginning")
}

fn ending(training: &Path) -> PathBuf {
    training.join(".ending")
}

/// Writes tasks as JSON lines.
///
/// # Errors
/// If the file cannot be written.
pub fn write_tasks(path: &Path, tasks: &[Task]) -> Result<(), StoreError> {
    write_atomic(path, |w: &mut dyn Write| {
        tasks.iter().try_for_each(|task| {
            let line = serde_json::json!({ "question": task.question, "answer": task.answer });
            writeln!(w, "{line}")
        })
    })
}

/// Removes a folder with all that is in it; it may be absent.
///
/// # Errors
/// If it cannot be removed.
pub(super) fn remove_folder(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", dir)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{TaskLimits, read_tasks};

    fn snapshot() -> Snapshot {
        let task = |n: usize| Task { question: format!("{n} + 1?\n\"{n}\""), answer: "1".into() };
        Snapshot { tasks: (0..5).map(task).collect(), held_out: vec![task(9)], newest: 6 }
    }

    #[test]
    fn a_cycle_is_found_again_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Cycle::open(dir.path()).unwrap().is_none());
        let mut cycle = Cycle::begin(dir.path(), 3, 1000, &snapshot()).unwrap();
        cycle.change(|record| record.stage = Stage::Evaluating).unwrap();

        let found = Cycle::open(dir.path()).unwrap().unwrap();

        assert_eq!(found.record, cycle.record);
        let tasks = read_tasks(&found.tasks(), &TaskLimits::default()).unwrap().tasks;
        assert_eq!(tasks, snapshot().tasks);
        found.end(dir.path()).unwrap();
        assert!(Cycle::open(dir.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_beginning_that_was_killed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(beginning(dir.path())).unwrap();
        fs::write(beginning(dir.path()).join("tasks.jsonl"), "{").unwrap();

        assert!(Cycle::open(dir.path()).unwrap().is_none());

        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
