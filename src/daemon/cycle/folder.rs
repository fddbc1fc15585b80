//! A cycle on disk: what it works on, where it began and how far it is.
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

use super::record::{CycleState, Record};
use crate::data::Task;
use crate::store::durable::{create_folder, sync_folder};
use crate::store::{StoreError, load_json, save_json, write_atomic};

const RECORD: &str = "cycle.json";

/// The cycle in progress.
#[derive(Debug)]
pub struct Cycle {
    dir: PathBuf,
    /// How far it is.
    pub record: Record,
}

/// What a cycle begins with.
#[derive(Debug)]
pub struct Snapshot {
    /// To learn from.
    pub tasks: Vec<Task>,
    /// To compare with.
    pub held_out: Vec<Task>,
    /// The newest task of the ledger.
    pub newest: i64,
}

impl Cycle {
    /// The cycle in `training`, if one is in progress. What an interrupted beginning has left is removed.
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
            state: CycleState::Training { basis: None },
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

    /// Moves on to another state, durably.
    ///
    /// # Errors
    /// If it cannot be written; the record is then as it was.
    pub fn change(&mut self, state: CycleState) -> Result<(), StoreError> {
        let record = Record { state, ..self.record.clone() };
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
            let mut line = serde_json::json!({ "question": task.question, "answer": task.answer });
            if let Some(kind) = task.answer_kind {
                line["answer_kind"] = kind.name().into();
            }
            writeln!(w, "{line}")
        })
    })
}

/// Removes a folder with all that is in it; it may be absent.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_folder(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", dir)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::cycle::Basis;
    use crate::data::{TaskLimits, read_tasks};

    fn snapshot() -> Snapshot {
        let task = |n: usize| Task::new(format!("{n} + 1?\n\"{n}\""), "1".into());
        Snapshot { tasks: (0..5).map(task).collect(), held_out: vec![task(9)], newest: 6 }
    }

    #[test]
    fn a_cycle_is_found_again_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Cycle::open(dir.path()).unwrap().is_none());
        let mut cycle = Cycle::begin(dir.path(), 3, 1000, &snapshot()).unwrap();
        let basis = Basis { base_sha256: "b".into(), start: None };
        cycle.change(CycleState::Evaluating { basis, baseline: None }).unwrap();

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
