//! Adds up the numbers of a step while its tasks are worked on.

use crate::latro::learner::Sampled;
use crate::latro::metrics::StepMetrics;
use crate::latro::objective::Judged;
use crate::latro::objective::advantage::spread;
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
    answer_tokens: usize,
    kl: f64,
    entropy: f64,
    rationale_tokens: usize,
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
    /// Takes note of a judged task.
    pub fn add(
        &mut self,
        rollout: &RolloutGroup,
        tree: &Tree,
        policy: &TokenScores,
        judged: &Judged,
    ) {
        self.tasks += 1;
        self.branches += rollout.rationales.len();
        self.reward += judged.rewards.iter().map(|r| r.reward).sum::<f64>();
        self.log_p_answer += judged.rewards.iter().map(|r| r.log_p_answer).sum::<f64>();
        self.answer_tokens += rollout.answer.len() * rollout.rationales.len();
        self.kl += judged.rewards.iter().map(|r| r.kl).sum::<f64>();
        let rationales = tree.branches.iter().map(|b| &policy.entropy[b.rationale.clone()]);
        self.entropy += rationales.flatten().map(|e| f64::from(*e)).sum::<f64>();
        self.rationale_tokens += rollout.rationale_tokens();
        self.truncated += rollout.truncated.iter().filter(|t| **t).count();
        self.advantages.extend(&judged.advantages);
        self.loss += judged.loss;
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
            log_p_answer: share(self.log_p_answer, self.branches),
            log_p_answer_per_token: share(self.log_p_answer, self.answer_tokens),
            kl: share(self.kl, self.branches),
            kl_per_token: share(self.kl, self.rationale_tokens),
            entropy: share(self.entropy, self.rationale_tokens),
            rationale_tokens: share(self.rationale_tokens as f64, self.branches),
            finished_share: 1.0 - clipped_ratio,
            clipped_ratio,
            advantage_spread: spread(&self.advantages),
            skipped_prompts: self.skipped,
            loss: share(self.loss, self.tasks),
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
