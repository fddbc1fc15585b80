//! The learner: samples rationales for tasks and turns them into an update of the adapter.
//!
//! A step has two halves, [`Learner::sample`] and [`Learner::update`], so that whoever drives it can
//! save what was sampled in between. The learner knows nothing of files: its state goes in and out
//! as plain values.
//!
//! ```text
//!   sample ──► [Sampled] ──► update ──► StepMetrics ──► sample (next step) …
//! ```

use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::log_prob::{Forward, score};
use super::metrics::StepMetrics;
use super::objective::{Judged, ObjectiveError, judge};
use super::optimizer::{AdamW, OptimizerError, clip, global_norm, learning_rate};
use super::prompt::{Finish, PromptError, Prompter, StopWatch};
use super::rollout::RolloutGroup;
use super::settings::{Method, TrainSettings};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, zeros_like};
use crate::arch::spec::ModelSpec;
use crate::data::Task;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, ModelError};
use crate::latro::metrics::tally::Tally;
use crate::latro::objective::advantage::{FlatFilter, spread};
use crate::latro::sampling::generate::{Limits, Policy, Stop, generate};
use crate::latro::sampling::sampler::{Pick, stream, uniform};

/// Why a step could not be done. The learner's state is then as it was before the step.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

impl LearnError {
    /// Whether the step was only asked to stop.
    #[must_use]
    pub const fn is_interrupted(&self) -> bool {
        matches!(self, Self::Model(ModelError::Interrupted))
    }
}

/// The part of the state that is not tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrainerState {
    /// Steps done.
    pub step: u64,
    pub flat: FlatFilter,
    /// What sentinels have made of the learning rate: a factor, 1 at first.
    pub learning_rate_factor: f64,
    /// What sentinels have made of β: a factor, 1 at first.
    pub beta_factor: f64,
    /// Sentinel trips so far; part of every random stream, so that a repeated step samples anew.
    pub trips: u64,
    /// Seconds of training so far, without evaluations.
    pub elapsed_s: f64,
}

/// Everything that changes while learning.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    pub progress: TrainerState,
    /// The adapter.
    pub params: LoraTensors,
    pub optimizer: AdamW,
}

impl LearnerState {
    /// The state before the first step: a fresh adapter as PEFT makes it (A uniform in ±1/√in,
    /// that is Kaiming's with a = √5; B zero), so that policy and reference are the same.
    #[must_use]
    pub fn fresh(spec: &ModelSpec, settings: &TrainSettings) -> Self {
        let mut params = LoraTensors::new();
        for layer in 0..spec.layers {
            for &target in &settings.target_modules {
                let (out, width) = spec.target_dims(target);
                let bound = (width as f64).sqrt().recip();
                let mut rng = stream(settings.seed, u64::MAX, layer as u64, target as u64);
                let mut draw = || ((2.0 * uniform(&mut rng) - 1.0) * bound) as f32;
                let (a, b) = (settings.rank * width, out * settings.rank);
                let a = Matrix {
                    rows: settings.rank,
                    cols: width,
                    data: (0..a).map(|_| draw()).collect(),
                };
                let b = Matrix { rows: out, cols: settings.rank, data: vec![0.0; b] };
                params.insert(LoraKey { layer, target, factor: Factor::A }, a);
                params.insert(LoraKey { layer, target, factor: Factor::B }, b);
            }
        }
        Self::beginning_with(params)
    }

    /// The state before the first step of a run that begins with the given adapter.
    #[must_use]
    pub fn beginning_with(params: LoraTensors) -> Self {
        let optimizer = AdamW::new(&params);
        let progress =
            TrainerState { learning_rate_factor: 1.0, beta_factor: 1.0, ..TrainerState::default() };
        Self { progress, params, optimizer }
    }
}

/// The first half of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The step that it belongs to, counted from 1.
    pub step: u64,
    /// The sentinel trips at that time.
    pub trips: u64,
    pub rollouts: Vec<RolloutGroup>,
    /// Tokens that were sampled, those that ended a rationale included.
    pub tokens: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The learner with what it works on.
pub struct Learner<'a, E: Engine> {
    pub model: &'a E,
    pub prompter: &'a Prompter,
    pub settings: &'a TrainSettings,
    /// Branches that are sampled together.
    pub batch: usize,
    pub interrupt: &'a Interrupt,
    pub state: LearnerState,
}

impl Stop for StopWatch<'_> {
    fn push(&mut self, token: u32) -> bool {
        Self::push(self, token).is_some()
    }
}

impl<E: Engine> Learner<'_, E> {
    /// What has been learned so far, ready to compute with.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn adapter(&self) -> Result<E::Adapter, ModelError> {
        let scale = self.settings.alpha / self.settings.rank as f32;
        self.model.adapter(&self.state.params, scale)
    }

    /// The weight of the KL term, as sentinels have left it.
    fn beta(&self) -> f64 {
        self.settings.beta * self.state.progress.beta_factor
    }

    /// Samples the next step's rationales for `tasks`; `progress` is told the tokens of each
    /// decoding step.
    ///
    /// # Errors
    /// [`LearnError`]; a task that does not fit the model's context is one.
    pub fn sample(
        &self,
        tasks: &[&Task],
        progress: impl FnMut(usize),
    ) -> Result<Sampled, LearnError> {
        let start = Instant::now();
        let (step, trips) = (self.state.progress.step + 1, self.state.progress.trips);
        let think = self.settings.method == Method::Latro;
        let mut rollouts = Vec::with_capacity(tasks.len());
        for task in tasks {
            rollouts.push(RolloutGroup {
                prompt: self.prompter.prompt(&task.question, think)?,
                answer: self.prompter.answer(&task.answer)?,
                answer_span: Some(self.prompter.answer_span(&task.answer)?),
                rationales: vec![Vec::new()],
                truncated: Vec::new(),
                stops: Vec::new(),
            });
        }
        let mut tokens = 0;
        if think {
            let prompts: Vec<Vec<u32>> = rollouts.iter().map(|r| r.prompt.clone()).collect();
            let generated = self.generate(&prompts, step, trips, progress)?;
            for (rollout, branches) in rollouts.iter_mut().zip(generated) {
                tokens += branches.iter().map(Vec::len).sum::<usize>() as u64;
                let cuts: Vec<_> = branches.iter().map(|b| self.prompter.cut(b)).collect();
                if self.settings.stop_counts {
                    rollout.stops = branches
                        .iter()
                        .zip(&cuts)
                        .map(|(b, cut)| b.get(cut.len).copied())
                        .collect();
                }
                rollout.truncated = cuts.iter().map(|c| c.finish == Finish::Truncated).collect();
                rollout.rationales =
                    branches.iter().zip(cuts).map(|(b, cut)| b[..cut.len].to_vec()).collect();
            }
        }
        Ok(Sampled { step, trips, rollouts, tokens, seconds: start.elapsed().as_secs_f64() })
    }

    fn generate(
        &self,
        prompts: &[Vec<u32>],
        step: u64,
        trips: u64,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Vec<u32>>>, LearnError> {
        let adapter = self.adapter()?;
        let policy = Policy { model: self.model, lora: Some(&adapter), interrupt: self.interrupt };
        let limits = Limits {
            branches: self.settings.num_generations,
            max_new_tokens: self.settings.max_new_tokens,
            batch: self.batch,
            pick: Pick::Sample { temperature: self.settings.temperature },
        };
        let seed = self.settings.seed;
        let rng = |task: usize, branch: usize| -> ChaCha8Rng {
            stream(seed, step | trips << 48, task as u64, branch as u64)
        };
        Ok(generate(policy, prompts, limits, rng, |_| self.prompter.watch(), progress)?)
    }

    /// Turns what was sampled into an update of the adapter.
    ///
    /// The times of sampling and of checkpoints in the result, the memory and the training time are
    /// left for the caller to fill in.
    ///
    /// # Errors
    /// [`LearnError`]; the state is then unchanged.
    pub fn update(&mut self, sampled: &Sampled) -> Result<StepMetrics, LearnError> {
        let start = Instant::now();
        let adapter = self.adapter()?;
        let mut progress = self.state.progress.clone();
        let mut sums = zeros_like(&self.state.params);
        let mut tally = Tally::default();
        for rollout in &sampled.rollouts {
            let prompts = sampled.rollouts.len();
            self.learn_from(rollout, prompts, &adapter, &mut progress.flat, &mut sums, &mut tally)?;
        }
        let update = Instant::now();
        // Coefficients point uphill; AdamW goes down the gradient of the loss.
        sums.values_mut().flat_map(|m| &mut m.data).for_each(|g| *g = -*g);
        let norm = match self.settings.max_grad_norm {
            0.0 => global_norm(&sums),
            max => clip(&mut sums, max),
        };
        progress.step += 1;
        let mut rate = 0.0;
        // A gradient that is not finite changes nothing: the sentinel sees its norm.
        if norm.is_finite() && tally.learned > 0 {
            let factor = progress.learning_rate_factor as f32;
            rate = learning_rate(progress.step, self.settings) * factor;
            let LearnerState { params, optimizer, .. } = &mut self.state;
            optimizer.update(params, &sums, rate, &self.settings.adam())?;
        }
        self.state.progress = progress;
        tally.update_s = update.elapsed().as_secs_f64();
        let mut metrics = tally.metrics(sampled, self.settings);
        metrics.grad_norm = norm;
        metrics.parameter_norm = global_norm(&self.state.params);
        metrics.learning_rate = f64::from(rate);
        metrics.beta = self.beta();
        metrics.total_s = sampled.seconds + start.elapsed().as_secs_f64();
        Ok(metrics)
    }

    /// One task's share of the gradient.
    fn learn_from(
        &self,
        rollout: &RolloutGroup,
        prompts: usize,
        adapter: &E::Adapter,
        flat: &mut FlatFilter,
        sums: &mut LoraTensors,
        tally: &mut Tally,
    ) -> Result<(), LearnError> {
        let (model, interrupt) = (self.model, self.interrupt);
        let tree = rollout.tree();
        let start = Instant::now();
        let forward = Forward::new(model, adapter, &tree, interrupt)?;
        tally.forward_s += start.elapsed().as_secs_f64();

        let start = Instant::now();
        let latro = self.settings.method == Method::Latro;
        let reference = match latro {
            true => score(model, None, &tree, interrupt)?.log_p,
            false => forward.scores().log_p.clone(),
        };
        tally.reference_s += start.elapsed().as_secs_f64();

        let policy = forward.scores();
        let judged =
            judge(rollout, &tree, &policy.log_p, &reference, self.settings, self.beta(), prompts)?;
        tally.add(rollout, &tree, policy, &judged);
        if latro && self.settings.skip_flat && self.is_flat(&judged, flat) {
            tally.skipped += 1;
            return Ok(());
        }
        tally.learned += 1;
        let start = Instant::now();
        forward.backward(model, adapter, &tree, &judged.coefficients, sums, interrupt)?;
        tally.backward_s += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn is_flat(&self, judged: &Judged, flat: &mut FlatFilter) -> bool {
        let rewards: Vec<f64> = judged.rewards.iter().map(|r| r.reward).collect();
        flat.is_flat(spread(&rewards), self.settings.flat_share)
    }
}

/// Which tasks step `step` (from 1) works on: the tasks in a new random order in every pass.
///
/// A function of its arguments alone, so that a resumed run goes on with the right ones.
#[must_use]
pub fn tasks_of_step(step: u64, tasks: usize, per_step: usize, seed: u64) -> Vec<usize> {
    let first = (step - 1) * per_step as u64;
    (first..first + per_step as u64)
        .map(|i| {
            let (pass, place) = (i / tasks as u64, (i % tasks as u64) as usize);
            shuffled(tasks, seed, pass)[place]
        })
        .collect()
}

/// The numbers below `n` in random order (Fisher & Yates).
fn shuffled(n: usize, seed: u64, pass: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = stream(seed, u64::MAX - 1, pass, 0);
    for i in (1..n).rev() {
        let j = (uniform(&mut rng) * (i + 1) as f64) as usize;
        order.swap(i, j.min(i));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_works_on_every_task_once_in_another_order() {
        let per_step = 3;
        let order: Vec<usize> =
            (1..=8).flat_map(|step| tasks_of_step(step, 8, per_step, 5)).collect();

        for pass in order.chunks(8) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert_ne!(order[..8], order[8..16]);
    }
}
