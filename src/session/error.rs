//! What can stop a training run.

use std::path::PathBuf;

use crate::latro::learner::LearnError;
use crate::store::StoreError;

/// An error of a training run. Everything up to the last finished phase is saved.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{} holds a run with {what}: use the same settings, or another folder",
        dir.display()
    )]
    OtherRun { dir: PathBuf, what: String },
    #[error(
        "{} holds an adapter, but no run to resume: use another folder, or move the adapter \
         away to start over",
        dir.display()
    )]
    OtherAdapter { dir: PathBuf },
    #[error(
        "a run with {wanted} cannot start from the adapter in {}, which has {found}: use the same, or \
         start without it",
        dir.display()
    )]
    OtherStart { dir: PathBuf, wanted: String, found: String },
    #[error("{}: the state that the run started from is gone; remove the folder to start over", dir.display())]
    StartGone { dir: PathBuf },
    #[error(
        "{}: the sentinels gave up on this run, {sentence}; look at the tasks, lower the learning \
         rate, and start again in another folder",
        dir.display()
    )]
    GaveUp { dir: PathBuf, sentence: String },
    #[error(
        "{} cannot be used as general prompts{}: {reason}; each line is {{\"text\": …}} or \
         {{\"prompt\": …, \"text\": …}}",
        path.display(),
        if *line > 0 { format!(" in line {line}") } else { String::new() }
    )]
    GeneralPrompts { path: PathBuf, line: usize, reason: String },
}

impl SessionError {
    /// Whether the run was only asked to stop.
    #[must_use]
    pub const fn is_interrupted(&self) -> bool {
        matches!(self, Self::Learn(error) if error.is_interrupted())
    }
}
