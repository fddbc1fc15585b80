//! What goes into a pass.

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
