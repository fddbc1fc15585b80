//! What goes into a pass, and what is asked of it.

use crate::ops::attention_plan::AttentionPlan;

/// Rows of tokens that are computed in one pass.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub tokens: &'a [u32],
    /// The position of each token.
    pub positions: &'a [u32],
    /// Which token sees which.
    pub plan: AttentionPlan,
}

impl<'a> Input<'a> {
    /// Tokens of which each sees itself and those before it; `positions` count from 0.
    #[must_use]
    pub fn causal(tokens: &'a [u32], positions: &'a [u32]) -> Self {
        Self { tokens, positions, plan: AttentionPlan::causal(tokens.len()) }
    }
}

/// Tokens whose probabilities are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Predictions<'a> {
    /// The row behind which each token stands.
    pub rows: &'a [usize],
    pub targets: &'a [u32],
    /// What the logits of each are multiplied by: 1/T for softmax(logits / T).
    pub scales: &'a [f32],
}
