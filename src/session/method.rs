//! Method `auto`: whether a run lets the model think or teaches it to answer at once.
//!
//! Before anything is learned, the model answers some of the run's tasks: how probable is the right
//! answer after what it wrote, and how probable without? Mean probabilities decide, not mean log
//! likelihoods: a rationale that goes wrong makes the right answer all but impossible, and a few of
//! these would outweigh any number that are right.

use std::path::Path;

use super::{Folder, SessionBuilder, SessionError, start_from};
use crate::engine::Engine;
use crate::latro::learner::LearnError;
use crate::latro::sampling::curriculum::shuffled;
use crate::latro::sampling::generate::Policy;
use crate::latro::settings::{Method, TrainSettings};
use crate::promotion::evaluate::{EvalSettings, evaluate};
use crate::promotion::thinking::Thinking;

/// Tasks that are answered to decide, at most.
const QUESTIONS: usize = 64;

impl<E: Engine> SessionBuilder<'_, E> {
    /// The settings with method `auto` decided, and what was measured for that: nothing where the
    /// settings name a method, or where the run in `dir` has begun with one.
    ///
    /// # Errors
    /// If the folder of the run or of the adapter to start from cannot be read, or the model cannot
    /// answer.
    pub fn decided(&self, dir: &Path) -> Result<(TrainSettings, Option<Thinking>), SessionError> {
        let of = |method| TrainSettings { method, ..self.settings.clone() };
        if self.settings.method != Method::Auto {
            return Ok((self.settings.clone(), None));
        }
        if let Some(begun) = Folder::identity_of_run_in(dir)? {
            return Ok((of(begun.settings.method), None));
        }
        let thinking = self.measured()?;
        let method = if thinking.helps() { Method::Latro } else { Method::Sft };
        Ok((of(method), Some(thinking)))
    }

    fn measured(&self) -> Result<Thinking, SessionError> {
        let Self { engine, prompter, settings, tasks, batch, interrupt, .. } = *self;
        let count = tasks.len().min(QUESTIONS);
        let asked: Vec<_> = shuffled(0, tasks.len(), count, settings.seed)
            .iter()
            .map(|i| tasks[*i].clone())
            .collect();
        let adapter = match self.start {
            None => None,
            Some(start) => {
                let (state, _) = start_from(start, settings, engine.spec(), self.model_sha256)?;
                let scale = settings.alpha / settings.rank as f32;
                Some(engine.adapter(&state.params, scale).map_err(LearnError::from)?)
            }
        };
        let policy = Policy { model: engine, lora: adapter.as_ref(), interrupt };
        // As many prompts at a time as sampling has room for.
        let at_once = (batch / settings.num_generations.max(1)).max(1);
        let of_run = EvalSettings::of_run(settings, at_once);
        Ok(Thinking::of(&evaluate(policy, prompter, &asked, of_run, |_| {})?))
    }
}
