//! Log-probabilities of a tree's tokens, and their gradient.

use super::tree::Tree;
use crate::arch::lora::LoraTensors;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, Input, ModelError, Predictions};
use crate::ops::head::TokenScores;

/// Log-probability and entropy of every predicted token of `tree`, without gradients.
///
/// # Errors
/// [`ModelError::Interrupted`] between blocks; [`ModelError::Token`] on foreign tokens; a failing
/// device.
pub fn score<E: Engine>(
    model: &E,
    lora: Option<&E::Adapter>,
    tree: &Tree,
    interrupt: &Interrupt,
) -> Result<TokenScores, ModelError> {
    let hidden = model.hidden(checked(model, tree)?, None, lora, interrupt)?;
    head_scores(model, tree, &hidden, false)
}

/// A forward pass of the policy whose gradient can be taken.
#[derive(Debug)]
pub struct Forward<E: Engine> {
    trace: E::Trace,
    scores: TokenScores,
}

impl<E: Engine> Forward<E> {
    /// Runs the policy over `tree`.
    ///
    /// # Errors
    /// As [`score`].
    pub fn new(
        model: &E,
        adapter: &E::Adapter,
        tree: &Tree,
        interrupt: &Interrupt,
    ) -> Result<Self, ModelError> {
        let trace = model.trace(checked(model, tree)?, adapter, interrupt)?;
        let hidden = model.traced(&trace)?;
        let scores = head_scores(model, tree, &hidden, true)?;
        Ok(Self { trace, scores })
    }

    /// Log-probability and entropy of every predicted token.
    #[must_use]
    pub fn scores(&self) -> &TokenScores {
        &self.scores
    }

    /// Adds the gradient of Σᵢ `coefficients[i]` · log p(target i) to `sums`.
    ///
    /// # Errors
    /// As [`score`].
    ///
    /// # Panics
    /// If there is not one coefficient for each predicted token of the same `tree`.
    pub fn backward(
        mut self,
        model: &E,
        adapter: &E::Adapter,
        tree: &Tree,
        coefficients: &[f32],
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        assert_eq!(coefficients.len(), tree.targets.len(), "one coefficient a prediction");
        let per_token = self.scores.gradient.take().expect("a forward pass keeps the gradient");
        let gradient = hidden_gradient(model.spec().hidden, tree, coefficients, &per_token);
        drop(per_token);
        model.backward(self.trace, gradient, adapter, sums, interrupt)
    }
}

/// The gradient with respect to the hidden states behind the output norm, `[rows, hidden]`.
fn hidden_gradient(width: usize, tree: &Tree, coefficients: &[f32], per_token: &[f32]) -> Vec<f32> {
    let mut at_head = vec![0.0; tree.tokens.len() * width];
    let factors = coefficients.iter().zip(&tree.scales).map(|(c, scale)| c * scale);
    let tokens = per_token.chunks_exact(width).zip(factors).zip(&tree.rows);
    for ((gradient, factor), row) in tokens {
        let sum = &mut at_head[row * width..(row + 1) * width];
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += factor * g);
    }
    at_head
}

/// A tree that fits the model's context, as its input.
fn checked<'a>(model: &impl Engine, tree: &'a Tree) -> Result<Input<'a>, ModelError> {
    let (tokens, context) = (tree.longest(), model.spec().context_length);
    if tokens > context {
        let what = "a prompt with a rationale and an answer".to_owned();
        return Err(ModelError::Context { what, tokens, context });
    }
    let vocabulary = model.spec().vocab;
    if let Some(&id) = tree.targets.iter().find(|id| **id as usize >= vocabulary) {
        return Err(ModelError::Token { id, vocabulary });
    }
    Ok(Input { tokens: &tree.tokens, positions: &tree.positions, plan: tree.plan.clone() })
}

/// Scores of the predicted tokens from the hidden states of all rows.
fn head_scores<E: Engine>(
    model: &E,
    tree: &Tree,
    hidden: &E::Hidden,
    with_gradient: bool,
) -> Result<TokenScores, ModelError> {
    let Tree { rows, targets, scales, .. } = tree;
    model.token_scores(hidden, Predictions { rows, targets, scales }, with_gradient)
}
