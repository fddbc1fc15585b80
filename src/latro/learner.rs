//! The learner: samples rationales for tasks and turns them into an update of the adapter.
//!
//! A step has two halves, [`Learner::sample`] and [`Learner::update`], so that whoever drives it can
//! save what was sampled in between. The learner knows nothing of files: its state goes in and out
//! as plain values.
//!
//! ```text
//!   sample ──► [Sampled] ──► update ──► StepMetrics ──► sample (next step) …
//! ```

use std::borrow::Cow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::log_prob::{Forward, score};
use super::metrics::StepMetrics;
use super::objective::{Lesson, ObjectiveError, judge, sampled_guess, sampled_rewards};
use super::optimizer::{AdamW, OptimizerError, clip, global_norm, learning_rate};
use super::prompt::{PromptError, Prompter};
use super::rollout::RolloutGroup;
use super::settings::{TaskOrder, TrainSettings};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, zeros_like};
use crate::arch::spec::ModelSpec;
use crate::data::Task;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, ModelError};
use crate::latro::metrics::tally::Tally;
use crate::latro::objective::advantage::{FlatFilter, max_variance, spread};
use crate::latro::objective::reward::RewardParts;
use crate::latro::sampling::curriculum::{Curriculum, shuffled};
use crate::latro::sampling::length::Lengths;
use crate::latro::sampling::sampler::{stream, uniform};

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
    /// What is known of the tasks.
    #[serde(default)]
    pub curriculum: Curriculum,
    /// What is known of the lengths of rationales.
    #[serde(default)]
    pub lengths: Lengths,
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
    /// The place of each one's task in the run's list.
    #[serde(default)]
    pub tasks: Vec<usize>,
    /// Tokens that were sampled, those that ended a rationale included.
    pub tokens: u64,
    /// Tokens after which rationales were cut off.
    #[serde(default)]
    pub length_limit: usize,
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

    /// Samples the next step's rationales for some of the run's `tasks`; `progress` is told the tokens
    /// of each decoding step.
    ///
    /// # Errors
    /// [`LearnError`]; a task that does not fit the model's context is one.
    ///
    /// # Panics
    /// If there are no tasks.
    pub fn sample(
        &self,
        tasks: &[Task],
        mut progress: impl FnMut(usize),
    ) -> Result<Sampled, LearnError> {
        let start = Instant::now();
        let (step, trips) = (self.state.progress.step + 1, self.state.progress.trips);
        let chosen = self.order(tasks);
        let mut sampled = Sampled {
            step,
            trips,
            rollouts: vec![],
            tasks: vec![],
            tokens: 0,
            length_limit: self.length_limit(),
            seconds: 0.0,
        };
        for more in chosen.chunks(self.settings.prompts_per_step) {
            let asked: Vec<&Task> = more.iter().map(|i| &tasks[*i]).collect();
            let rollouts = self.rollouts(&asked, sampled.rollouts.len(), &mut progress)?;
            for (rollout, tokens) in rollouts {
                sampled.rollouts.push(rollout);
                sampled.tokens += tokens;
            }
            sampled.tasks.extend(more);
            if self.is_enough(&sampled.rollouts)? {
                break;
            }
        }
        sampled.seconds = start.elapsed().as_secs_f64();
        Ok(sampled)
    }

    /// Tokens after which the next step's rationales are cut off.
    pub(in crate::latro) fn length_limit(&self) -> usize {
        let most = self.settings.max_new_tokens;
        match self.settings.adapt_length {
            true => self.state.progress.lengths.limit(most),
            false => most,
        }
    }

    /// The tasks that the next step may ask, in their order.
    fn order(&self, tasks: &[Task]) -> Vec<usize> {
        let &TrainSettings { prompts_per_step, seed, method, task_order, .. } = self.settings;
        let curriculum = &self.state.progress.curriculum;
        let count = prompts_per_step.max(tasks.len().min(MOST_ROUNDS * prompts_per_step));
        match (task_order, method) {
            (TaskOrder::Success, method) if method.samples() => {
                let lengths: Vec<usize> = tasks.iter().map(|task| task.question.len()).collect();
                curriculum.draw(self.state.progress.step + 1, &lengths, count, seed)
            }
            _ => shuffled(curriculum.asked(), tasks.len(), count, seed),
        }
    }

    /// Whether enough of what was sampled has something to teach, as far as sampling knows.
    fn is_enough(&self, rollouts: &[RolloutGroup]) -> Result<bool, LearnError> {
        let settings = self.settings;
        let wanted = settings.teaching_prompts.min(settings.prompts_per_step);
        let mut teaching = 0;
        for rollout in rollouts {
            let rewards = totals(&sampled_rewards(rollout, settings)?);
            let teaches = match self.warms_up() {
                true => rollout.worked || rollout.shortest_right().is_some(),
                false => !self.is_level(&rewards),
            };
            teaching += usize::from(rewards.is_empty() || teaches);
        }
        Ok(teaching >= wanted)
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
        for (i, rollout) in sampled.rollouts.iter().enumerate() {
            let prompts = sampled.rollouts.len();
            // Where β is 0 the reference only informs the sentinel: one prompt is enough.
            let with_reference = i == 0 || self.beta() > 0.0;
            let work = Work { rollout, prompts, with_reference };
            self.learn_from(work, &adapter, &mut progress.flat, &mut sums, &mut tally)?;
        }
        for (task, (rationales, earned)) in sampled.tasks.iter().zip(&tally.earned) {
            progress.curriculum.note(*task, *rationales, *earned);
        }
        tally.rewarded.iter().for_each(|tokens| progress.lengths.note(*tokens));
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
        if progress.step == self.settings.warm_start_steps {
            // What follows has another objective, whose gradients are many times shorter.
            self.state.optimizer = AdamW::new(&self.state.params);
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
        work: Work<'_>,
        adapter: &E::Adapter,
        flat: &mut FlatFilter,
        sums: &mut LoraTensors,
        tally: &mut Tally,
    ) -> Result<(), LearnError> {
        let Work { rollout, prompts, with_reference } = work;
        let (model, interrupt, settings) = (self.model, self.interrupt, self.settings);
        // Where sampling has left the rewards, only what teaches something is computed at all.
        let known = (self.beta() == 0.0 || self.warms_up()) && !rollout.scores.is_empty();
        let rewards = if known { sampled_rewards(rollout, settings)? } else { Vec::new() };
        if known {
            tally.add_rewards(rollout, &rewards, sampled_guess(rollout, settings)?);
        }
        let Part { rollout: part, mut is_flat } = match (self.warms_up(), known) {
            (true, _) if !rollout.worked => right_part(rollout),
            (_, true) => self.part_of(rollout, &totals(&rewards), flat),
            (_, false) => Part { rollout: Cow::Borrowed(rollout), is_flat: false },
        };
        if is_flat && !with_reference {
            tally.skip(known);
            return Ok(());
        }
        let rollout = part.as_ref();
        let supervised = !settings.method.samples() || self.warms_up();
        let temperature = if supervised { 1.0 } else { settings.temperature };
        let tree = rollout.tree().tempered(temperature);
        let start = Instant::now();
        let forward = Forward::new(model, adapter, &tree, interrupt)?;
        tally.forward_s += start.elapsed().as_secs_f64();

        let start = Instant::now();
        let reference = match settings.method.samples() && with_reference {
            true => score(model, None, &tree, interrupt)?.log_p,
            false => forward.scores().log_p.clone(),
        };
        tally.reference_s += start.elapsed().as_secs_f64();

        let policy = forward.scores();
        let lesson = Lesson { settings, beta: self.beta(), prompts, supervised };
        let judged = judge(rollout, &tree, &policy.log_p, &reference, lesson)?;
        tally.add_pass(rollout, &tree, policy, &judged, with_reference);
        if !known {
            tally.add_rewards(rollout, &judged.rewards, judged.guess);
            is_flat |=
                !supervised && settings.skip_flat && self.is_flat(&totals(&judged.rewards), flat);
        }
        if is_flat {
            tally.skipped += 1;
            return Ok(());
        }
        tally.learned += 1;
        let start = Instant::now();
        forward.backward(model, adapter, &tree, &judged.coefficients, sums, interrupt)?;
        tally.backward_s += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Whether the next step belongs to the warm start.
    pub(in crate::latro) fn warms_up(&self) -> bool {
        let settings = self.settings;
        settings.method.samples() && self.state.progress.step < settings.warm_start_steps
    }

    /// What is worth computing of a task whose rewards are known.
    fn part_of<'r>(
        &self,
        rollout: &'r RolloutGroup,
        rewards: &[f64],
        flat: &mut FlatFilter,
    ) -> Part<'r> {
        let settings = self.settings;
        let is_flat = settings.skip_flat && self.is_flat(rewards, flat);
        let most = settings.update_generations;
        let part = match (1..rewards.len()).contains(&most) {
            true => Cow::Owned(rollout.only(&max_variance(rewards, most))),
            false => Cow::Borrowed(rollout),
        };
        Part { rollout: part, is_flat }
    }

    fn is_flat(&self, rewards: &[f64], flat: &mut FlatFilter) -> bool {
        flat.is_flat(spread(rewards), self.settings.flat_share) || self.is_level(rewards)
    }

    /// Whether rewards differ too little in any case.
    fn is_level(&self, rewards: &[f64]) -> bool {
        spread(rewards) < self.settings.flat_spread
    }
}

/// How many times as many tasks as usual a step asks at most, to find some that teach something.
const MOST_ROUNDS: usize = 3;

/// The rationales of a task that pass through the model.
struct Part<'r> {
    rollout: Cow<'r, RolloutGroup>,
    /// Whether they teach nothing.
    is_flat: bool,
}

/// What is compared of rewards.
fn totals(rewards: &[RewardParts]) -> Vec<f64> {
    rewards.iter().map(|parts| parts.reward).collect()
}

/// What a warm start learns from: the shortest right rationale.
fn right_part(rollout: &RolloutGroup) -> Part<'_> {
    let right = rollout.shortest_right();
    Part { rollout: Cow::Owned(rollout.only(&[right.unwrap_or(0)])), is_flat: right.is_none() }
}

/// A task's part in a step.
struct Work<'a> {
    rollout: &'a RolloutGroup,
    /// Prompts of the step.
    prompts: usize,
    /// Whether the reference is computed, too.
    with_reference: bool,
}
