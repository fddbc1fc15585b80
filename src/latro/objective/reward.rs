//! The reward of a rationale: how likely the right answer is after it (LaTRO, arXiv 2411.04282,
//! eq. 4; the mean probability of RLPR, arXiv 2506.18254).
//!
//! Works on log-probabilities that somebody else has computed; knows no tokens and no model.
//! Log-probabilities are natural (nats); sums are taken in f64.

use std::ops::Range;

use crate::latro::settings::{RewardKind, Span};

/// The log-probabilities of one branch: a rationale and the answer text after it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoredBranch<'a> {
    /// Of every token after the rationale: phrase, answer, end of turn. `[T_y]`, nats.
    pub answer_logps: &'a [f32],
    /// Which of them are the answer's own tokens.
    pub answer: Range<usize>,
    /// Of the rationale's last token, if it has one.
    pub last_logp: Option<f32>,
    /// log p(z|x) under the policy: the sum over the rationale's tokens, 0 for an empty one.
    pub rationale_logp: f64,
    /// The same under the reference, the model without the adapter.
    pub ref_rationale_logp: f64,
}

/// A reward and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardParts {
    /// log p(y | x ⊕ z), summed over all tokens after the rationale, whatever the reward kind.
    pub log_p_answer: f64,
    /// The answer's likelihood as the reward kind and span see it.
    pub likelihood: f64,
    /// `log p(z|x) − log p_ref(z|x)`: one sample's estimate of the KL divergence, in nats.
    pub kl: f64,
    /// `likelihood − β · kl`.
    pub reward: f64,
}

impl RewardParts {
    /// Of a rationale that announced no answer: it earns nothing.
    #[must_use]
    pub fn of_nothing(branch: &ScoredBranch, beta: f64) -> Self {
        let kl = branch.rationale_logp - branch.ref_rationale_logp;
        Self { log_p_answer: 0.0, likelihood: 0.0, kl, reward: -beta * kl }
    }
}

/// A branch whose reward is undefined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewardError {
    /// The span that the reward looks at holds no token.
    #[error("the answer has no tokens to reward: give every task an answer of at least one token")]
    EmptySpan,
    /// The answer's own tokens lie outside the answer text.
    #[error("the answer's tokens {start}..{end} lie outside the answer text of {tokens} tokens")]
    OutOfRange {
        /// First token of the answer.
        start: usize,
        /// One past its last token.
        end: usize,
        /// Tokens of the text.
        tokens: usize,
    },
}

/// The reward of a branch: `r = likelihood − β · [log p(z|x) − log p_ref(z|x)]` (eq. 4).
///
/// # Errors
/// If the span is empty or reaches beyond the log-probabilities.
pub fn reward(
    kind: RewardKind,
    span: Span,
    branch: &ScoredBranch,
    beta: f64,
) -> Result<RewardParts, RewardError> {
    let seen = rewarded(span, branch)?;
    let before = branch.last_logp.filter(|_| span == Span::Released);
    let logps = before.iter().chain(&branch.answer_logps[seen]).map(|&logp| f64::from(logp));
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    let n = logps.clone().count() as f64;
    let likelihood = match kind {
        RewardKind::LogProb => logps.sum(),
        RewardKind::MeanLogProb => logps.sum::<f64>() / n,
        RewardKind::MeanProb => logps.map(f64::exp).sum::<f64>() / n,
        RewardKind::Prob | RewardKind::Jepo => logps.sum::<f64>().exp(),
    };
    let kl = branch.rationale_logp - branch.ref_rationale_logp;
    let log_p_answer = branch.answer_logps.iter().map(|&logp| f64::from(logp)).sum();
    Ok(RewardParts { log_p_answer, likelihood, kl, reward: likelihood - beta * kl })
}

/// The derivative of a branch's likelihood by each token's log-probability: what the likelihood
/// term of eq. 5 multiplies ∇ log p of the token with. `[T_y]`, 0 outside the span.
///
/// A sum gives each token 1, a mean 1/n, a mean of probabilities p/n, because ∇p = p ∇ log p, and a
/// product of them that product. For `jepo`, whose likelihood term knows the whole group, it is the
/// numerator of `p_k/Σp` (arXiv 2503.19618).
///
/// With [`Span::Released`] the rationale's last token is left out: it belongs to log p(z|x).
///
/// # Errors
/// As [`reward`].
pub fn token_weights(
    kind: RewardKind,
    span: Span,
    branch: &ScoredBranch,
) -> Result<Vec<f32>, RewardError> {
    let seen = rewarded(span, branch)?;
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    let share = 1.0 / seen.len() as f32;
    let whole = branch.answer_logps[seen.clone()].iter().sum::<f32>().exp();
    let mut weights = vec![0.0; branch.answer_logps.len()];
    for (weight, logp) in weights[seen.clone()].iter_mut().zip(&branch.answer_logps[seen]) {
        *weight = match kind {
            RewardKind::LogProb => 1.0,
            RewardKind::MeanLogProb => share,
            RewardKind::MeanProb => share * logp.exp(),
            RewardKind::Prob | RewardKind::Jepo => whole,
        };
    }
    Ok(weights)
}

/// The tokens that the reward looks at: a valid, non-empty range of `answer_logps`.
fn rewarded(span: Span, branch: &ScoredBranch) -> Result<Range<usize>, RewardError> {
    let (answer, tokens) = (&branch.answer, branch.answer_logps.len());
    let seen = match span {
        Span::Full | Span::Released => 0..tokens,
        Span::Answer if answer.end > tokens => {
            return Err(RewardError::OutOfRange { start: answer.start, end: answer.end, tokens });
        }
        Span::Answer => answer.clone(),
    };
    if seen.is_empty() { Err(RewardError::EmptySpan) } else { Ok(seen) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [RewardKind; 4] =
        [RewardKind::LogProb, RewardKind::MeanLogProb, RewardKind::MeanProb, RewardKind::Prob];

    fn branch(answer_logps: &[f32], answer: Range<usize>) -> ScoredBranch<'_> {
        ScoredBranch {
            answer_logps,
            answer,
            last_logp: Some(-0.125),
            rationale_logp: -10.0,
            ref_rationale_logp: -14.0,
        }
    }

    #[test]
    fn the_paper_sums_log_probabilities_and_takes_off_the_kl() {
        let parts =
            reward(RewardKind::LogProb, Span::Full, &branch(&[-0.5, -1.5, -0.25], 1..2), 0.05)
                .unwrap();

        assert_eq!(
            parts,
            RewardParts { log_p_answer: -2.25, likelihood: -2.25, kl: 4.0, reward: -2.25 - 0.2 }
        );
    }

    #[test]
    fn the_answer_span_leaves_the_phrase_out() {
        let scored = branch(&[-0.5, -1.5, -2.5, -0.25], 1..3);

        let sum = reward(RewardKind::LogProb, Span::Answer, &scored, 0.0).unwrap();
        let mean = reward(RewardKind::MeanLogProb, Span::Answer, &scored, 0.0).unwrap();

        assert_eq!((sum.reward, mean.reward), (-4.0, -2.0));
        assert_eq!(sum.log_p_answer, -4.75, "reported over the whole text all the same");
    }

    #[test]
    fn mean_probability_is_between_0_and_1_even_for_hopeless_tokens() {
        let logps = [0.5f32.ln(), f32::NEG_INFINITY];

        let parts = reward(RewardKind::MeanProb, Span::Full, &branch(&logps, 0..1), 0.0).unwrap();

        assert!((parts.reward - 0.25).abs() < 1e-7, "{parts:?}");
    }

    #[test]
    fn a_span_without_tokens_or_beyond_them_is_an_error() {
        let empty = reward(RewardKind::LogProb, Span::Full, &branch(&[], 0..0), 0.0);
        let nothing = reward(RewardKind::LogProb, Span::Answer, &branch(&[-1.0], 1..1), 0.0);
        let beyond = token_weights(RewardKind::LogProb, Span::Answer, &branch(&[-1.0], 0..2));

        assert_eq!(empty, Err(RewardError::EmptySpan));
        assert_eq!(nothing, Err(RewardError::EmptySpan));
        assert_eq!(beyond, Err(RewardError::OutOfRange { start: 0, end: 2, tokens: 1 }));
    }

    proptest! {
        /// The weights are the derivative of the likelihood: checked by finite differences.
        #[test]
        fn weights_are_the_gradient(logps in prop::collection::vec(-6.0f32..0.0, 3..9)) {
            for kind in KINDS {
                for span in [Span::Full, Span::Answer] {
                    let weights = token_weights(kind, span, &branch(&logps, 1..3)).unwrap();
                    let at = |i: usize, step: f32| {
                        let mut moved = logps.clone();
                        moved[i] += step;
                        let change = f64::from(moved[i]) - f64::from(logps[i]);
                        let scored = branch(&moved, 1..3);
                        (reward(kind, span, &scored, 0.1).unwrap().likelihood, change)
                    };
                    for (i, &weight) in weights.iter().enumerate() {
                        let ((high, up), (low, down)) = (at(i, 1e-3), at(i, -1e-3));
                        let slope = (high - low) / (up - down);
                        prop_assert!((slope - f64::from(weight)).abs() < 1e-5, "{kind:?} {span:?}");
                    }
                }
            }
        }
    }
}
