//! Puts a run together: the learner, its first state, and what the run is known by. `latrod train` and
//! the daemon's worker open their runs here.

use std::path::Path;

use super::{RunIdentity, Session, SessionError, start_from};
use crate::data::Task;
use crate::engine::Engine;
use crate::engine::interrupt::Interrupt;
use crate::latro::learner::{Learner, LearnerState};
use crate::latro::prompt::Prompter;
use crate::latro::settings::TrainSettings;

/// Everything that decides a run, apart from the folder that it is kept in.
pub struct SessionBuilder<'a, E: Engine> {
    pub engine: &'a E,
    pub prompter: &'a Prompter,
    pub settings: &'a TrainSettings,
    /// The tasks to learn from.
    pub tasks: &'a [Task],
    /// Rationales sampled together, at most.
    pub batch: usize,
    /// The model's file, for its name.
    pub model: &'a Path,
    /// The SHA-256 of that file.
    pub model_sha256: &'a str,
    /// The PEFT folder to start from; a fresh adapter if there is none.
    pub start: Option<&'a Path>,
    pub interrupt: &'a Interrupt,
}

impl<'a, E: Engine> SessionBuilder<'a, E> {
    /// Starts the run in `dir`, or resumes it.
    ///
    /// # Errors
    /// Those of [`Session::open`] and [`start_from`].
    pub fn open(self, dir: &Path) -> Result<Session<'a, E>, SessionError> {
        let Self { engine, prompter, settings, tasks, batch, interrupt, .. } = self;
        let (state, start_sha256) = match self.start {
            None => (LearnerState::fresh(engine.spec(), settings), None),
            Some(start) => {
                let spec = engine.spec();
                let (state, sha256) = start_from(start, settings, spec, self.model_sha256)?;
                (state, Some(sha256))
            }
        };
        let sha256 = self.model_sha256.to_owned();
        let identity =
            RunIdentity::new(settings, engine.compute(), batch, self.model, sha256, tasks);
        let identity = RunIdentity { start_sha256, device: engine.device(), ..identity };
        let learner = Learner { model: engine, prompter, settings, batch, interrupt, state };
        Session::open(dir, identity, learner, tasks)
    }
}
