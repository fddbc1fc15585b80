//! Adds up the numbers of a step while its tasks are worked on.

use crate::latro::learner::Sampled;
use crate::latro::metrics::{SHORT, StepMetrics};
use crate::latro::objective::Judged;
use crate::latro::objective::advantage::spread;
use crate::latro::objective::reward::RewardParts;
use crate::latro::rollout::RolloutGroup;
use crate::latro::settings::TrainSettings;
use crate::latro::tree::Tree;
use crate::ops::head::TokenScores;

/// Sums over a step's tasks and branches.
#[derive(Debug, Default)]
pub struct Tally {
    tasks: usize,
    branches: usize,
    reward: f64,
    log_p_answer: f64,
    answers: usize,
    answer_tokens: usize,
    /// Whether rationales announce answers of their own.
    reads: bool,
    right: usize,
    passed: usize,
    short: usize,
    guess: Option<f64>,
    /// How many rationales each task has and their mean reward.
    pub earned: Vec<(usize, f64)>,
    /// Lengths of the rationales that have earned something.
    pub rewarded: Vec<usize>,
    /// Of the prompts with a reference.
    kl: f64,
    kl_branches: usize,
    kl_tokens: usize,
    rationale_tokens: usize,
    /// Of the tasks that passed through the model.
    entropy: f64,
    passed_tokens: usize,
    passes: usize,
    truncated: usize,
    advantages: Vec<f64>,
    loss: f64,
    /// Tasks whose rewards hardly differed.
    pub skipped: usize,
    /// Tasks that gave a gradient.
    pub learned: usize,
    /// Seconds of each phase.
    pub forward_s: f64,
    pub reference_s: f64,
    pub backward_s: f64,
    pub update_s: f64,
}

impl Tally {
    /// Takes note of a task's rationales and what they earn.
    pub fn add_rewards(
        &mut self,
        rollout: &RolloutGroup,
        rewards: &[RewardParts],
        guess: Option<f64>,
    ) {
        let k = rollout.rationales.len();
        self.tasks += 1;
        self.branches += k;
        let sum: f64 = rewards.iter().map(|r| r.reward).sum();
        self.reward += sum;
        // What others have written says nothing of what the model can do.
        let own = if rollout.worked { 0 } else { k };
        self.earned.push((own, sum / k.max(1) as f64));
        let earned =
            rollout.rationales.iter().take(own).zip(rewards).filter(|(_, r)| r.reward > 0.0);
        self.rewarded.extend(earned.map(|(rationale, _)| rationale.len()));
        self.log_p_answer += rewards.iter().map(|r| r.log_p_answer).sum::<f64>();
        let ids = |k: usize| match rollout.answers.get(k) {
            Some(answer) => answer.ids.len(),
            None => rollout.answer.len(),
        };
        self.answers += (0..k).filter(|k| rollout.has_answer(*k)).count();
        self.answer_tokens += (0..k).map(ids).sum::<usize>();
        self.reads |= !rollout.answers.is_empty();
        self.right += rollout.answers.iter().filter(|answer| answer.right).count();
        self.passed += usize::from(rollout.answers.iter().any(|answer| answer.right));
        self.short += rollout.rationales.iter().filter(|z| z.len() < SHORT).count();
        if let Some(guess) = guess {
            *self.guess.get_or_insert_default() += guess;
        }
        self.rationale_tokens += rollout.rationale_tokens();
        self.truncated += rollout.truncated.iter().filter(|t| **t).count();
    }

    /// Takes note of a task that teaches nothing and never passed through the model; `known` are its
    /// rewards if they were added.
    pub fn skip(&mut self, known: bool) {
        self.skipped += 1;
        if !known {
            self.earned.push((0, f64::NAN));
        }
    }

    /// Takes note of a pass over a task, or over some of its rationales.
    pub fn add_pass(
        &mut self,
        rollout: &RolloutGroup,
        tree: &Tree,
        policy: &TokenScores,
        judged: &Judged,
        with_reference: bool,
    ) {
        let own = &tree.branches[..rollout.rationales.len()];
        if with_reference {
            self.kl += judged.rewards.iter().map(|r| r.kl).sum::<f64>();
            self.kl_branches += own.len();
            self.kl_tokens += rollout.rationale_tokens();
        }
        let rationales = own.iter().map(|b| &policy.entropy[b.rationale.clone()]);
        self.entropy += rationales.flatten().map(|e| f64::from(*e)).sum::<f64>();
        self.passed_tokens += rollout.rationale_tokens();
        self.advantages.extend(&judged.advantages);
        self.loss += judged.loss;
        self.passes += 1;
    }

    /// The step's numbers; those that the tally doesn't know are 0.
    #[must_use]
    pub fn metrics(&self, sampled: &Sampled, settings: &TrainSettings) -> StepMetrics {
        let share = |sum: f64, n: usize| sum / n.max(1) as f64;
        let clipped_ratio = share(self.truncated as f64, self.branches);
        StepMetrics {
            step: sampled.step,
            method: settings.method,
            prompts_per_step: self.tasks,
            reward: share(self.reward, self.branches),
            log_p_answer: share(self.log_p_answer, self.answers),
            log_p_answer_per_token: share(self.log_p_answer, self.answer_tokens),
            kl: share(self.kl, self.kl_branches),
            kl_per_token: share(self.kl, self.kl_tokens),
            entropy: share(self.entropy, self.passed_tokens),
            rationale_tokens: share(self.rationale_tokens as f64, self.branches),
            finished_share: 1.0 - clipped_ratio,
            clipped_ratio,
            announced_share: share(self.answers as f64, self.branches),
            short_share: share(self.short as f64, self.branches),
            right_share: self.reads.then(|| share(self.right as f64, self.branches)),
            pass_at_k: self.reads.then(|| share(self.passed as f64, self.tasks)),
            guess: self.guess.map(|sum| share(sum, self.tasks)),
            advantage_spread: spread(&self.advantages),
            skipped_prompts: self.skipped,
            loss: share(self.loss, self.passes),
            length_limit: sampled.length_limit,
            rollout_tokens: sampled.tokens,
            rollout_tokens_per_s: match sampled.seconds > 0.0 {
                true => sampled.tokens as f64 / sampled.seconds,
                false => 0.0,
            },
            rollout_s: sampled.seconds,
            reference_s: self.reference_s,
            forward_s: self.forward_s,
            backward_s: self.backward_s,
            update_s: self.update_s,
            grad_norm: 0.0,
            parameter_norm: 0.0,
            learning_rate: 0.0,
            beta: 0.0,
            checkpoint_s: 0.0,
            total_s: 0.0,
            elapsed_s: 0.0,
            peak_memory_mib: 0.0,
        }
    }
}
