//! The check of the active adapter on disk: fresh questions, and how far it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::daemon::cycle::{remove_folder, write_tasks};
use crate::data::Task;
use crate::store::durable::create_folder;
use crate::store::{StoreError, load_json, save_json};

/// A check's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// The version that is checked.
    pub version: String,
    /// What it is checked against; `None` for the base model.
    pub parent: Option<String>,
    /// The newest task of the ledger when the check began.
    pub newest: i64,
    /// It was found to be worse and is being rolled back.
    pub rolling_back: bool,
}

/// The check in progress.
#[derive(Debug)]
pub struct CheckFolder {
    dir: PathBuf,
    /// How far it is.
    pub record: CheckRecord,
}

impl CheckFolder {
    /// The check in `dir`, if one is in progress. One that cannot be read counts as none.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join("check.json");
        if !path.try_exists().map_err(StoreError::io("read", &path))? {
            return Ok(None);
        }
        match load_json(&path) {
            Ok(record) => Ok(Some(Self { dir: dir.to_owned(), record })),
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a check of `version` on `tasks`, in place of any other.
    ///
    /// # Errors
    /// If it cannot be written; there is none then.
    pub fn begin(
        dir: &Path,
        version: &str,
        parent: Option<&str>,
        newest: i64,
        tasks: &[Task],
    ) -> Result<Self, StoreError> {
        remove_folder(dir)?;
        create_folder(dir)?;
        write_tasks(&dir.join("held_out.jsonl"), tasks)?;
        let record = CheckRecord {
            version: version.to_owned(),
            parent: parent.map(str::to_owned),
            newest,
            rolling_back: false,
        };
        // Written last: a folder without it is none.
        save_json(&dir.join("check.json"), &record)?;
        Ok(Self { dir: dir.to_owned(), record })
    }

    /// Records durably that the version is to be rolled back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn mark_rolling_back(&mut self) -> Result<(), StoreError> {
        let record = CheckRecord { rolling_back: true, ..self.record.clone() };
        save_json(&self.dir.join("check.json"), &record)?;
        self.record = record;
        Ok(())
    }

    /// Ends the check.
    ///
    /// # Errors
    /// If its folder cannot be removed.
    pub fn end(self) -> Result<(), StoreError> {
        let path = self.dir.join("check.json");
        std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        remove_folder(&self.dir)
    }

    /// The questions.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.dir.join("held_out.jsonl")
    }

    /// The comparison's result.
    #[must_use]
    pub fn comparison(&self) -> PathBuf {
        self.dir.join("comparison.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_found_again_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("check");
        assert!(CheckFolder::open(&dir).unwrap().is_none());
        let task = Task::new("1 + 1?".into(), "2".into());
        let mut check =
            CheckFolder::begin(&dir, "00000002-0a1b2c3d", None, 7, std::slice::from_ref(&task))
                .unwrap();
        check.mark_rolling_back().unwrap();

        let found = CheckFolder::open(&dir).unwrap().unwrap();

        assert_eq!(found.record, check.record);
        assert!(found.record.rolling_back && found.tasks().exists());
        found.end().unwrap();
        assert!(CheckFolder::open(&dir).unwrap().is_none() && !dir.exists());
    }

    #[test]
    fn a_damaged_check_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("check.json"), "{").unwrap();

        assert!(CheckFolder::open(dir.path()).unwrap().is_none());
    }
}
