//! Turns the library's errors into what the daemon is told: what has to change before a retry.

use std::io;

use super::protocol::{Failure, FailureKind, FromWorker};
use crate::data::DataError;
use crate::engine::ModelError;
use crate::gguf::GgufError;
use crate::latro::learner::LearnError;
use crate::latro::prompt::PromptError;
use crate::memory::MemoryError;
use crate::session::{QuestionsError, SessionError};
use crate::store::StoreError;
use crate::text::TextError;

/// Why a job ended before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// It was interrupted; what is done of it is kept.
    Stopped,
    /// The sentinels gave up on the run.
    GaveUp(String),
    Failed(Failure),
}

impl From<Halt> for FromWorker {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Stopped => Self::Stopped,
            Halt::GaveUp(sentence) => Self::gave_up(&sentence),
            Halt::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SessionError> for Halt {
    fn from(error: SessionError) -> Self {
        let kind = match error {
            SessionError::Learn(error) => return error.into(),
            SessionError::Store(error) => return Self::Failed(error.into()),
            SessionError::GaveUp { sentence, .. } => return Self::GaveUp(sentence),
            SessionError::OtherRun { .. } | SessionError::OtherAdapter { .. } => {
                FailureKind::OtherRun
            }
            SessionError::OtherStart { .. } | SessionError::GeneralPrompts { .. } => {
                FailureKind::Settings
            }
            SessionError::StartGone { .. } => FailureKind::Damaged,
        };
        Self::Failed(Failure::new(kind, error))
    }
}

impl From<LearnError> for Halt {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::Model(error) => error.into(),
            LearnError::Prompt(error) => Self::Failed(Failure::new(FailureKind::Tasks, error)),
            error @ (LearnError::Objective(_) | LearnError::Optimizer(_)) => {
                Self::Failed(Failure::new(FailureKind::Other, error))
            }
        }
    }
}

impl From<MemoryError> for Halt {
    fn from(error: MemoryError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ModelError> for Halt {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Interrupted => Self::Stopped,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<QuestionsError> for Halt {
    fn from(error: QuestionsError) -> Self {
        match error {
            QuestionsError::NoneLeft(_) => Self::Failed(Failure::new(FailureKind::Tasks, error)),
            QuestionsError::Interrupted(error) => error.into(),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let kind = match error {
            ModelError::Gguf(error) => return error.into(),
            ModelError::Spec(_)
            | ModelError::Missing { .. }
            | ModelError::Weights { .. }
            | ModelError::NonFinite { .. } => FailureKind::Model,
            ModelError::Context { .. } | ModelError::Token { .. } => FailureKind::Tasks,
            ModelError::NoDevice(_) => FailureKind::Settings,
            ModelError::Device(_) | ModelError::Interrupted => FailureKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Self {
        Self::new(FailureKind::Model, error)
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::new(FailureKind::Model, error)
    }
}

impl From<PromptError> for Failure {
    /// Of making a [`crate::latro::prompt::Prompter`]: the model's template or its tokens.
    fn from(error: PromptError) -> Self {
        Self::new(FailureKind::Model, error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::new(FailureKind::Tasks, error)
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self::new(FailureKind::Memory, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(kind_of(&error), error)
    }
}

fn kind_of(error: &StoreError) -> FailureKind {
    match error {
        StoreError::Io { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                FailureKind::ReadOnly
            }
            _ => FailureKind::Other,
        },
        StoreError::Busy { .. } => FailureKind::Busy,
        StoreError::InFile { source, .. } => kind_of(source),
        StoreError::OtherModel { .. } => FailureKind::Settings,
        StoreError::OtherFormat { .. } => FailureKind::OtherRun,
        StoreError::Damaged { .. }
        | StoreError::Config { .. }
        | StoreError::Unsupported { .. }
        | StoreError::MissingTensor { .. }
        | StoreError::UnexpectedTensor { .. }
        | StoreError::Shape { .. }
        | StoreError::Dtype { .. } => FailureKind::Damaged,
        StoreError::Unstorable { .. } => FailureKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn on_disk(error: io::ErrorKind) -> FailureKind {
        let error = StoreError::io("write", Path::new("state"))(error.into());
        let nested = error.in_file(Path::new("other"));
        Failure::from(nested).kind
    }

    #[test]
    fn what_the_disk_says_is_told_apart() {
        assert_eq!(on_disk(io::ErrorKind::StorageFull), FailureKind::DiskFull);
        assert_eq!(on_disk(io::ErrorKind::ReadOnlyFilesystem), FailureKind::ReadOnly);
        assert_eq!(on_disk(io::ErrorKind::Other), FailureKind::Other);
    }

    #[test]
    fn an_interrupt_is_no_failure_wherever_it_comes_up() {
        let learning = SessionError::Learn(LearnError::Model(ModelError::Interrupted));
        let choosing = QuestionsError::Interrupted(ModelError::Interrupted);

        assert_eq!(Halt::from(learning), Halt::Stopped);
        assert_eq!(Halt::from(choosing), Halt::Stopped);
    }
}
