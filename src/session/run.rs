//! The steps of a learning run.

use std::path::Path;
use std::time::Instant;

use super::folder::Saved;
use super::{Best, Evaluations, Folder, RunIdentity, SessionError};
use crate::data::Task;
use crate::engine::{Engine, ModelError};
use crate::latro::learner::{LearnError, Learner, LearnerState, Sampled};
use crate::latro::metrics::{EvalMetrics, MetricLine, StepMetrics};
use crate::latro::sentinel::{Response, Sentinel, SentinelSettings, Trip, TripKind};
use crate::store::AdapterShape;
use crate::system::memory::peak_memory_mib;

/// What a step is doing, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Decoding; this many tokens more.
    Sampling { tokens: usize },
    /// Scoring and the backward pass.
    Updating,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum StepOutcome {
    /// The adapter was updated (or every prompt skipped).
    Learned(Box<StepMetrics>),
    /// A sentinel tripped; the run has gone back to an earlier state. `metrics` are those of the
    /// step that tripped it, if it was a step.
    SteppedBack { trip: Trip, metrics: Option<Box<StepMetrics>> },
}

/// A learning run.
pub struct Session<'a, E: Engine> {
    folder: Folder,
    learner: Learner<'a, E>,
    sentinel: Sentinel,
    tasks: &'a [Task],
    evaluations: Evaluations,
    shape: AdapterShape,
    /// Seconds of saving that no step's line has reported yet.
    saving_s: f64,
}

impl<'a, E: Engine> Session<'a, E> {
    /// Starts the run in `dir`, or resumes it. `learner` brings the state before the first
    /// step, a fresh one or that of the adapter to start from (see [`super::start_from`]).
    ///
    /// # Errors
    /// As [`Folder::open`]; [`SessionError::GaveUp`] if the run has ended so.
    pub fn open(
        dir: &Path,
        identity: RunIdentity,
        mut learner: Learner<'a, E>,
        tasks: &'a [Task],
    ) -> Result<Self, SessionError> {
        let (folder, saved) = Folder::open(dir, identity)?;
        let rationale_tokens = learner.settings.collapse_tokens;
        let limits = SentinelSettings { rationale_tokens, ..SentinelSettings::default() };
        let (mut sentinel, mut evaluations) = (Sentinel::new(limits), Evaluations::default());
        let fresh = saved.is_none();
        if let Some(saved) = saved {
            let Saved { state, sentinel: watched, evaluations: remembered } = saved;
            (learner.state, sentinel, evaluations) = (state, watched, remembered);
        }
        if sentinel.stopped() {
            let sentence = "as metrics.jsonl tells".to_owned();
            return Err(SessionError::GaveUp { dir: dir.to_owned(), sentence });
        }
        let shape = AdapterShape::from(learner.model.spec());
        let session = Self { folder, learner, sentinel, tasks, evaluations, shape, saving_s: 0.0 };
        if fresh {
            // From here on an adapter in the folder is this run's. A start that cannot be repeated
            // from the settings is kept to go back to.
            session.save(session.folder.began_with_adapter())?;
        }
        Ok(session)
    }

    /// Steps done.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.learner.state.progress.step
    }

    /// Seconds of training so far, over all restarts.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.learner.state.progress.elapsed_s
    }

    /// The step of the last evaluation on record.
    #[must_use]
    pub fn evaluated(&self) -> Option<u64> {
        self.evaluations.last
    }

    /// The best evaluation on record, the untouched model's left out.
    #[must_use]
    pub fn best(&self) -> Option<Best> {
        self.evaluations.best
    }

    /// The learner, for evaluating what it has learned so far.
    #[must_use]
    pub fn learner(&self) -> &Learner<'a, E> {
        &self.learner
    }

    /// Does one step and saves it; `watch` is told what it is doing.
    ///
    /// # Errors
    /// [`SessionError`]; open the run again to resume after the last finished phase.
    pub fn step(&mut self, mut watch: impl FnMut(Phase)) -> Result<StepOutcome, SessionError> {
        let sampled = match self.sample(&mut watch) {
            Err(SessionError::Learn(LearnError::Model(ModelError::NonFinite { what }))) => {
                return self.not_finite(what);
            }
            other => other?,
        };
        watch(Phase::Updating);
        let start = Instant::now();
        let mut metrics = self.learner.update(&sampled)?;
        metrics.checkpoint_s = std::mem::take(&mut self.saving_s);
        metrics.total_s = sampled.seconds + start.elapsed().as_secs_f64() + metrics.checkpoint_s;
        let progress = &mut self.learner.state.progress;
        progress.elapsed_s += metrics.total_s;
        metrics.elapsed_s = progress.elapsed_s;
        metrics.peak_memory_mib = peak_memory_mib();
        let trip = self.sentinel.observe(&metrics);
        self.folder.record(&MetricLine::Step(metrics.clone()))?;
        if let Some(trip) = trip {
            return self.go_back(trip, Some(Box::new(metrics)));
        }
        let before = Instant::now();
        self.save(sampled.step.is_multiple_of(self.sentinel.window()))?;
        self.write_adapter()?;
        self.saving_s += before.elapsed().as_secs_f64();
        Ok(StepOutcome::Learned(Box::new(metrics)))
    }

    /// What the next step has sampled, before the last stop or now.
    fn sample(&mut self, watch: &mut impl FnMut(Phase)) -> Result<Sampled, SessionError> {
        let progress = &self.learner.state.progress;
        let (step, trips) = (progress.step + 1, progress.trips);
        if let Some(sampled) = self.folder.rollouts(step, trips)? {
            return Ok(sampled);
        }
        let sampled =
            self.learner.sample(self.tasks, |tokens| watch(Phase::Sampling { tokens }))?;
        let before = Instant::now();
        self.folder.save_rollouts(&sampled)?;
        self.saving_s += before.elapsed().as_secs_f64();
        Ok(sampled)
    }

    /// Goes back because the model computes `what` that are not numbers.
    ///
    /// # Errors
    /// As [`Self::step`]; [`ModelError::NonFinite`] before the first step, when the adapter changes
    /// nothing yet and the model itself is to blame.
    pub fn not_finite(&mut self, what: &'static str) -> Result<StepOutcome, SessionError> {
        let step = self.steps_done();
        if step == 0 && self.learner.state.progress.trips == 0 {
            return Err(LearnError::Model(ModelError::NonFinite { what }).into());
        }
        let sentence = format!("the model's {what} after step {step} are not finite numbers");
        let trip = self.sentinel.trip(step, TripKind::NotFinite, sentence);
        self.go_back(trip, None)
    }

    /// Responds to a sentinel: returns to a state from before the steps that it has judged, with a
    /// lower learning rate and a higher β.
    fn go_back(
        &mut self,
        trip: Trip,
        metrics: Option<Box<StepMetrics>>,
    ) -> Result<StepOutcome, SessionError> {
        self.folder.record(&MetricLine::Sentinel(trip.clone()))?;
        let judged = match trip.kind {
            TripKind::NotFinite => 1,
            _ => self.sentinel.window(),
        };
        let now = self.learner.state.progress.clone();
        let learner = &mut self.learner;
        learner.state = match self.folder.good_at(trip.step.saturating_sub(judged))? {
            Some(good) => good,
            None if self.folder.began_with_adapter() => {
                return Err(SessionError::StartGone { dir: self.folder.dir().to_owned() });
            }
            None => LearnerState::fresh(learner.model.spec(), learner.settings),
        };
        let progress = &mut learner.state.progress;
        progress.trips = now.trips + 1;
        progress.elapsed_s = now.elapsed_s;
        if let Response::StepBack { learning_rate_factor, beta_factor } = trip.response {
            progress.learning_rate_factor = now.learning_rate_factor * learning_rate_factor;
            progress.beta_factor = now.beta_factor * beta_factor;
        }
        let step = progress.step;
        self.save(false)?;
        self.folder.forget_after(step)?;
        self.write_adapter()?;
        if trip.response == Response::GiveUp {
            let dir = self.folder.dir().to_owned();
            return Err(SessionError::GaveUp { dir, sentence: trip.sentence });
        }
        Ok(StepOutcome::SteppedBack { trip, metrics })
    }

    fn save(&self, good: bool) -> Result<(), SessionError> {
        Ok(self.folder.save(&self.learner.state, &self.sentinel, self.evaluations, good)?)
    }

    /// Records an evaluation of the present state.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&mut self, eval: EvalMetrics) -> Result<(), SessionError> {
        self.evaluations.last = Some(eval.step);
        let EvalMetrics { step, accuracy, log_p_answer_per_token, .. } = eval;
        if step > 0 && self.best().is_none_or(|best| best.is_surpassed_by(&eval)) {
            self.evaluations.best = Some(Best { step, accuracy, log_p_answer_per_token });
            self.folder.save_best(&self.learner.state.params)?;
        }
        self.folder.record(&MetricLine::Eval(eval))?;
        self.save(false)
    }

    /// Writes the adapter that did best on held-out questions, in PEFT's form; the run itself stays where
    /// it is. Says whether there is one other than the present.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn write_best_adapter(&self) -> Result<bool, SessionError> {
        let other = self.best().is_some_and(|best| best.step != self.steps_done());
        let Some(best) = (if other { self.folder.best()? } else { None }) else {
            return Ok(false);
        };
        self.folder.write_adapter(&best, &self.shape)?;
        Ok(true)
    }

    /// Writes the adapter as it is now, in PEFT's form.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_adapter(&self) -> Result<(), SessionError> {
        Ok(self.folder.write_adapter(&self.learner.state.params, &self.shape)?)
    }
}
