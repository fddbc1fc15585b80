//! From the log-probabilities of a task's tokens to rewards, advantages and the numbers that
//! multiply each token's gradient.

pub mod advantage;
pub mod reward;

use crate::latro::objective::advantage::{
    AdvantageError, AdvantageRule, advantages, gradient_coefficients, loss, supervised_coefficients,
};
use crate::latro::objective::reward::{
    RewardError, RewardParts, ScoredBranch, reward, token_weights,
};
use crate::latro::rollout::RolloutGroup;
use crate::latro::settings::{Method, TrainSettings};
use crate::latro::tree::{BranchSpan, Tree};

/// Why a task has no objective.
#[derive(Debug, thiserror::Error)]
pub enum ObjectiveError {
    #[error(transparent)]
    Reward(#[from] RewardError),
    #[error(transparent)]
    Advantage(#[from] AdvantageError),
}

/// A task's rationales, judged. All lists `[K]`; log-probabilities in nats, summed over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub log_p_rationale: Vec<f64>,
    pub ref_log_p_rationale: Vec<f64>,
    pub rewards: Vec<RewardParts>,
    /// Empty for supervised training.
    pub advantages: Vec<f64>,
    /// What each predicted token's ∇ log p is multiplied with, uphill: `[predictions]`.
    pub coefficients: Vec<f32>,
    /// The task's loss.
    pub loss: f64,
}

fn total(log_p: &[f32], range: std::ops::Range<usize>) -> f64 {
    log_p[range].iter().map(|l| f64::from(*l)).sum()
}

/// Judges a task from its tokens' log-probabilities under the policy and the reference, both
/// `[predictions]` of `tree`, in a step over `prompts` tasks. β is given apart from the settings,
/// because a sentinel may have raised it.
///
/// # Errors
/// If the answer is empty, or LaTRO has fewer than two rationales to compare.
pub fn judge(
    rollout: &RolloutGroup,
    tree: &Tree,
    policy: &[f32],
    reference: &[f32],
    settings: &TrainSettings,
    beta: f64,
    prompts: usize,
) -> Result<Judged, ObjectiveError> {
    let sums = |log_p: &[f32]| -> Vec<f64> {
        tree.branches.iter().map(|b| total(log_p, b.rationale.clone())).collect()
    };
    let (log_p_rationale, ref_log_p_rationale) = (sums(policy), sums(reference));
    let branches: Vec<ScoredBranch> = tree
        .branches
        .iter()
        .zip(log_p_rationale.iter().zip(&ref_log_p_rationale))
        .map(|(span, (&rationale_logp, &ref_rationale_logp))| ScoredBranch {
            answer_logps: &policy[span.answer.clone()],
            answer: rollout.span(),
            rationale_logp,
            ref_rationale_logp,
        })
        .collect();
    let (kind, span) = (settings.reward, settings.reward_span);
    let rewards =
        branches.iter().map(|b| reward(kind, span, b, beta)).collect::<Result<Vec<_>, _>>()?;
    let mut judged = Judged {
        log_p_rationale,
        ref_log_p_rationale,
        rewards,
        advantages: Vec::new(),
        coefficients: vec![0.0; tree.targets.len()],
        loss: 0.0,
    };
    match settings.method {
        Method::Latro => judged.latro(rollout, &branches, tree, settings, prompts)?,
        Method::Sft => judged.supervised(tree, prompts),
    }
    Ok(judged)
}

impl Judged {
    fn latro(
        &mut self,
        rollout: &RolloutGroup,
        branches: &[ScoredBranch],
        tree: &Tree,
        settings: &TrainSettings,
        prompts: usize,
    ) -> Result<(), ObjectiveError> {
        let rule =
            AdvantageRule { truncation: settings.truncation, normalize: settings.scale_rewards };
        let rewards: Vec<f64> = self.rewards.iter().map(|r| r.reward).collect();
        let never_pays: Vec<bool> = rollout
            .truncation()
            .iter()
            .zip(&rollout.rationales)
            .map(|(truncated, z)| *truncated || z.len() < settings.min_rationale_tokens)
            .collect();
        self.advantages = advantages(&rewards, &never_pays, rule)?;
        let weights = branches
            .iter()
            .map(|b| token_weights(settings.reward, settings.reward_span, b))
            .collect::<Result<Vec<_>, _>>()?;
        let w = settings.likelihood_weight;
        let coefficients = gradient_coefficients(&self.advantages, &weights, w, prompts);
        for (span, c) in tree.branches.iter().zip(coefficients) {
            self.set(span, c.rationale, &c.answer);
        }
        let likelihoods: Vec<f64> = self.rewards.iter().map(|r| r.likelihood).collect();
        self.loss = loss(&self.advantages, &self.log_p_rationale, &likelihoods, w);
        Ok(())
    }

    fn supervised(&mut self, tree: &Tree, prompts: usize) {
        for span in &tree.branches {
            let c = supervised_coefficients(span.answer.len(), prompts);
            self.set(span, c.rationale, &c.answer);
        }
        self.loss = -self.rewards.iter().map(|r| r.log_p_answer).sum::<f64>();
    }

    fn set(&mut self, span: &BranchSpan, rationale: f32, answer: &[f32]) {
        self.coefficients[span.rationale.clone()].fill(rationale);
        self.coefficients[span.answer.clone()].copy_from_slice(answer);
    }
}
