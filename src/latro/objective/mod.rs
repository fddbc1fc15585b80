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
use crate::latro::settings::{RewardKind, TrainSettings, Truncation};
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
    /// What a guess without a rationale earns, if that was scored.
    pub guess: Option<f64>,
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

/// The rewards of rationales whose answers were scored while they were sampled, without a KL term.
/// `[K]`
///
/// # Errors
/// If there is nothing to reward.
pub fn sampled_rewards(
    rollout: &RolloutGroup,
    settings: &TrainSettings,
) -> Result<Vec<RewardParts>, ObjectiveError> {
    let scored = rollout.scores.iter().enumerate().map(|(k, logps)| ScoredBranch {
        answer_logps: logps,
        answer: rollout.span(k),
        ..ScoredBranch::default()
    });
    let mut rewards = scored
        .map(|branch| rewarded(rollout, settings, &branch, 0.0))
        .collect::<Result<Vec<_>, _>>()?;
    let guess = sampled_guess(rollout, settings)?;
    settle(&mut rewards, guess, &rollout.truncation(), settings, 0.0);
    Ok(rewards)
}

/// What the guess earns, if it was scored while the rationales were sampled.
///
/// # Errors
/// If there is nothing to reward.
pub fn sampled_guess(
    rollout: &RolloutGroup,
    settings: &TrainSettings,
) -> Result<Option<f64>, ObjectiveError> {
    match rollout.guess_scores.as_slice() {
        [] => Ok(None),
        logps => guessed(rollout, settings, logps).map(Some),
    }
}

/// The likelihood of the answer behind the guess.
fn guessed(
    rollout: &RolloutGroup,
    settings: &TrainSettings,
    answer_logps: &[f32],
) -> Result<f64, ObjectiveError> {
    let answer = rollout.answer_span.clone().unwrap_or(0..answer_logps.len());
    let branch = ScoredBranch { answer_logps, answer, ..ScoredBranch::default() };
    Ok(reward(settings.reward, settings.reward_span, &branch, 0.0)?.likelihood)
}

/// The reward of one rationale, before anything is taken off.
fn rewarded(
    rollout: &RolloutGroup,
    settings: &TrainSettings,
    branch: &ScoredBranch,
    beta: f64,
) -> Result<RewardParts, RewardError> {
    match branch.answer_logps {
        [] if !rollout.answers.is_empty() => Ok(RewardParts::of_nothing(branch, beta)),
        _ => reward(settings.reward, settings.reward_span, branch, beta),
    }
}

/// What a step makes of a task's rationales.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    pub settings: &'a TrainSettings,
    /// Apart from the settings, because a sentinel may have raised it.
    pub beta: f64,
    /// Tasks of the step.
    pub prompts: usize,
    /// Whether every token of the branches is to become more likely, instead of LaTRO's objective.
    pub supervised: bool,
}

/// Judges a task from its tokens' log-probabilities under the policy and the reference, both
/// `[predictions]` of `tree`.
///
/// # Errors
/// If the answer is empty, or LaTRO has fewer than two rationales to compare.
pub fn judge(
    rollout: &RolloutGroup,
    tree: &Tree,
    policy: &[f32],
    reference: &[f32],
    lesson: Lesson<'_>,
) -> Result<Judged, ObjectiveError> {
    let Lesson { settings, beta, prompts, supervised } = lesson;
    let sums = |log_p: &[f32]| -> Vec<f64> {
        let own = &tree.branches[..rollout.rationales.len()];
        own.iter().map(|b| total(log_p, b.rationale.clone())).collect()
    };
    let (log_p_rationale, ref_log_p_rationale) = (sums(policy), sums(reference));
    let branches = scored(rollout, tree, policy, &log_p_rationale, &ref_log_p_rationale);
    let guess = match tree.branches.get(rollout.rationales.len()) {
        Some(guess) => Some(guessed(rollout, settings, &policy[guess.answer.clone()])?),
        None => None,
    };
    let rewards = branches
        .iter()
        .map(|branch| rewarded(rollout, settings, branch, beta))
        .collect::<Result<Vec<_>, _>>()?;
    let mut judged = Judged {
        log_p_rationale,
        ref_log_p_rationale,
        rewards,
        guess,
        advantages: Vec::new(),
        coefficients: vec![0.0; tree.targets.len()],
        loss: 0.0,
    };
    if supervised {
        judged.supervised(tree, prompts);
    } else {
        judged.latro(rollout, &branches, tree, lesson)?;
    }
    Ok(judged)
}

/// The rationales' branches with their log-probabilities; those of the guess are not among them.
fn scored<'a>(
    rollout: &RolloutGroup,
    tree: &Tree,
    policy: &'a [f32],
    rationale: &[f64],
    reference: &[f64],
) -> Vec<ScoredBranch<'a>> {
    let sums = rationale.iter().zip(reference);
    let branches = tree.branches.iter().zip(sums).enumerate();
    let scored =
        |(k, (span, (own, reference))): (usize, (&BranchSpan, (&f64, &f64)))| ScoredBranch {
            answer_logps: &policy[span.answer.clone()],
            answer: rollout.span(k),
            last_logp: policy[span.rationale.clone()].last().copied(),
            rationale_logp: *own,
            ref_rationale_logp: *reference,
        };
    branches.map(scored).collect()
}

impl Judged {
    fn latro(
        &mut self,
        rollout: &RolloutGroup,
        branches: &[ScoredBranch],
        tree: &Tree,
        lesson: Lesson<'_>,
    ) -> Result<(), ObjectiveError> {
        let Lesson { settings, beta, prompts, .. } = lesson;
        let truncated = rollout.truncation();
        let shares = settle(&mut self.rewards, self.guess, &truncated, settings, beta);
        let jepo = settings.reward == RewardKind::Jepo;
        let rule = AdvantageRule {
            truncation: settings.truncation,
            normalize: settings.scale_rewards,
            jepo,
        };
        let rewards: Vec<f64> = self.rewards.iter().map(|r| r.reward).collect();
        let never_pays: Vec<bool> = truncated
            .iter()
            .zip(&rollout.rationales)
            .map(|(truncated, z)| *truncated || z.len() < settings.min_rationale_tokens)
            .collect();
        self.advantages = advantages(&rewards, &never_pays, rule)?;
        let group: f64 = match jepo {
            true => shares.iter().zip(&self.rewards).map(|(s, r)| s * r.likelihood).sum::<f64>(),
            false => 1.0,
        };
        let scale = if jepo && group > 0.0 { branches.len() as f64 / group } else { 1.0 };
        let weights = branches
            .iter()
            .zip(&shares)
            .map(|(branch, share)| match branch.answer_logps {
                [] => Ok(Vec::new()),
                _ => {
                    let mut weights = token_weights(settings.reward, settings.reward_span, branch)?;
                    weights.iter_mut().for_each(|w| *w *= (share * scale) as f32);
                    Ok(weights)
                }
            })
            .collect::<Result<Vec<_>, RewardError>>()?;
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
        for span in &tree.branches[..self.rewards.len()] {
            let c = supervised_coefficients(span.answer.len(), prompts);
            self.set(span, c.rationale, &c.answer);
        }
        let answers = self.rewards.iter().map(|r| r.log_p_answer);
        self.loss = -answers.chain(self.log_p_rationale.iter().copied()).sum::<f64>();
    }

    fn set(&mut self, span: &BranchSpan, rationale: f32, answer: &[f32]) {
        self.coefficients[span.rationale.clone()].fill(rationale);
        self.coefficients[span.answer.clone()].copy_from_slice(answer);
    }
}

/// Takes off what a guess earns and judges what ran out of tokens. Says which share of each likelihood
/// is left, which is what its gradient counts for. `[K]`
fn settle(
    rewards: &mut [RewardParts],
    guess: Option<f64>,
    truncated: &[bool],
    settings: &TrainSettings,
    beta: f64,
) -> Vec<f64> {
    let mean = rewards.iter().map(|r| r.likelihood).sum::<f64>() / rewards.len().max(1) as f64;
    let taken_off = settings.guess_weight * guess.unwrap_or(0.0);
    let settle = |(parts, cut): (&mut RewardParts, &bool)| {
        let (likelihood, share) = match (settings.truncation, cut) {
            (Truncation::Zero, true) => (0.0, 0.0),
            (Truncation::DoubleMean, true) => (2.0 * mean, 1.0),
            _ if guess.is_none() => (parts.likelihood, 1.0),
            _ => {
                let left = (parts.likelihood - taken_off).max(0.0);
                (left, if left > 0.0 { left / parts.likelihood } else { 0.0 })
            }
        };
        parts.reward = likelihood - beta * parts.kl;
        share
    };
    rewards.iter_mut().zip(truncated).map(settle).collect()
}
