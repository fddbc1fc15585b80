//! Log-probabilities of a tree's tokens, and their gradient block by block.
//!
//! The forward pass keeps only each block's input. The backward pass rebuilds one block's graph at a
//! time from that input, seeds it with the gradient from above, collects the LoRA gradients and
//! frees it, so that the memory of activations is one block's, not the model's.

use candle_core::{Tensor, Var};

use super::tree::Tree;
use crate::model::ModelError;
use crate::model::adapter::Adapter;
use crate::model::interrupt::Interrupt;
use crate::model::lora::LoraTensors;
use crate::model::transformer::{BlockLora, Keys, Rows, Transformer};
use crate::ops::head::{TokenScores, token_scores};
use crate::ops::seed::seed;
use crate::ops::{tensor, with_values};

/// Log-probability and entropy of every predicted token of `tree`, without gradients.
///
/// # Errors
/// [`ModelError::Interrupted`] between blocks; [`ModelError::Token`] on foreign tokens.
pub fn score(
    model: &Transformer,
    lora: Option<&[BlockLora]>,
    tree: &Tree,
    interrupt: &Interrupt,
) -> Result<TokenScores, ModelError> {
    let rows = checked_rows(model, tree)?;
    let hidden = model.hidden(&tree.tokens, &rows, Keys::Pass, lora, interrupt)?;
    head_scores(model, tree, &hidden, false)
}

/// A forward pass of the policy whose gradient can be taken.
#[derive(Debug)]
pub struct Forward {
    rows: Rows,
    /// The input of each block and, last, of the output norm.
    inputs: Vec<Tensor>,
    scores: TokenScores,
}

impl Forward {
    /// Runs the policy over `tree`.
    ///
    /// # Errors
    /// As [`score`].
    pub fn new(
        model: &Transformer,
        adapter: &Adapter,
        tree: &Tree,
        interrupt: &Interrupt,
    ) -> Result<Self, ModelError> {
        let rows = checked_rows(model, tree)?;
        let mut inputs = vec![model.embed(&tree.tokens)?];
        for (index, lora) in adapter.frozen().iter().enumerate() {
            interrupt.check()?;
            inputs.push(model.block(index, &inputs[index], &rows, &mut Keys::Pass, Some(lora))?);
        }
        let hidden = model.output_norm(&inputs[adapter.frozen().len()])?;
        let scores = head_scores(model, tree, &hidden, true)?;
        Ok(Self { rows, inputs, scores })
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
        model: &Transformer,
        adapter: &Adapter,
        tree: &Tree,
        coefficients: &[f32],
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        assert_eq!(coefficients.len(), tree.targets.len(), "one coefficient a prediction");
        let per_token = self.scores.gradient.take().expect("a forward pass keeps the gradient");
        let top = self.inputs.pop().expect("the output norm has an input");
        let mut gradient = output_gradient(model, tree, coefficients, &per_token, &top)?;
        drop(per_token);
        for index in (0..model.depth()).rev() {
            interrupt.check()?;
            let input = Var::from_tensor(&self.inputs.pop().expect("an input a block"))?;
            let lora = adapter.trainable(index);
            let out =
                model.block(index, input.as_tensor(), &self.rows, &mut Keys::Pass, Some(lora))?;
            let mut grads = seed(&out, &gradient)?.backward()?;
            adapter.collect(index, &grads, sums)?;
            gradient = grads.remove(&input).expect("the residual stream carries a gradient");
        }
        Ok(())
    }
}

/// The gradient with respect to the last block's output.
fn output_gradient(
    model: &Transformer,
    tree: &Tree,
    coefficients: &[f32],
    per_token: &[f32],
    top: &Tensor,
) -> Result<Tensor, ModelError> {
    let width = model.spec.hidden;
    let mut at_head = vec![0.0; tree.tokens.len() * width];
    let tokens = per_token.chunks_exact(width).zip(coefficients).zip(&tree.rows);
    for ((gradient, c), row) in tokens {
        let sum = &mut at_head[row * width..(row + 1) * width];
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += c * g);
    }
    let var = Var::from_tensor(top)?;
    let normed = model.output_norm(var.as_tensor())?;
    let mut grads = seed(&normed, &tensor(at_head, (tree.tokens.len(), width))?)?.backward()?;
    Ok(grads.remove(&var).expect("the norm carries a gradient"))
}

fn checked_rows(model: &Transformer, tree: &Tree) -> Result<Rows, ModelError> {
    let (tokens, context) = (tree.longest(), model.spec.context_length);
    if tokens > context {
        let what = "a prompt with a rationale and an answer".to_owned();
        return Err(ModelError::Context { what, tokens, context });
    }
    let vocabulary = model.spec.vocab;
    if let Some(&id) = tree.targets.iter().find(|id| **id as usize >= vocabulary) {
        return Err(ModelError::Token { id, vocabulary });
    }
    Ok(model.rows(&tree.positions, tree.plan.clone()))
}

/// Scores of the predicted tokens from the normed hidden states of all rows.
fn head_scores(
    model: &Transformer,
    tree: &Tree,
    hidden: &Tensor,
    with_gradient: bool,
) -> Result<TokenScores, ModelError> {
    let width = model.spec.hidden;
    let predicting = with_values(hidden, |hidden| {
        let mut rows = Vec::with_capacity(tree.rows.len() * width);
        for row in &tree.rows {
            rows.extend_from_slice(&hidden[row * width..(row + 1) * width]);
        }
        rows
    })?;
    Ok(token_scores(&predicting, &tree.targets, model.head(), model.compute, with_gradient))
}
