//! Log-probabilities of a tree's tokens, and their gradient block by block.
//!
//! The forward pass keeps only each block's input. The backward pass rebuilds one block's graph at a
//! time from that input, seeds it with the gradient from above, collects the LoRA gradients and
//! frees it, so that the memory of activations is one block's, not the model's.

use super::tree::Tree;
use crate::kernels::Floats;
use crate::model::ModelError;
use crate::model::adapter::Adapter;
use crate::model::interrupt::Interrupt;
use crate::model::lora::LoraTensors;
use crate::model::scratch::Scratch;
use crate::model::transformer::{Keys, Rows, Transformer};
use crate::ops::head::{TokenScores, token_scores};

/// Log-probability and entropy of every predicted token of `tree`, without gradients.
///
/// # Errors
/// [`ModelError::Interrupted`] between blocks; [`ModelError::Token`] on foreign tokens.
pub fn score(
    model: &Transformer,
    lora: Option<&Adapter>,
    tree: &Tree,
    interrupt: &Interrupt,
) -> Result<TokenScores, ModelError> {
    let rows = checked_rows(model, tree)?;
    let mut scratch = Scratch::default();
    let hidden = model.hidden(&tree.tokens, &rows, Keys::Pass, lora, &mut scratch, interrupt)?;
    drop(scratch);
    Ok(head_scores(model, tree, &hidden, false))
}

/// A forward pass of the policy whose gradient can be taken.
#[derive(Debug)]
pub struct Forward {
    rows: Rows,
    /// The input of each block and, last, of the output norm: `[rows, hidden]` each.
    inputs: Vec<Floats>,
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
        let mut scratch = Scratch::default();
        let mut x = Floats::default();
        model.embed(&tree.tokens, &mut x)?;
        let mut inputs = Vec::with_capacity(model.depth() + 1);
        for index in 0..model.depth() {
            interrupt.check()?;
            inputs.push(x.clone());
            let lora = Some(adapter.block(index));
            model.block(index, &mut x, &rows, &mut Keys::Pass, lora, &mut scratch);
        }
        drop(scratch); // room for logits
        let hidden = model.output_norm(&x);
        inputs.push(x);
        let scores = head_scores(model, tree, &hidden, true);
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
        let mut gradient = output_gradient(model, tree, coefficients, &per_token, &top);
        drop((per_token, top));
        let mut scratch = Scratch::default();
        for index in (0..model.depth()).rev() {
            interrupt.check()?;
            let input = self.inputs.pop().expect("an input a block");
            let (rows, scratch) = (&self.rows, &mut scratch);
            let (lora, x) = (adapter.block(index), (&input[..], &mut gradient[..]));
            model.block_backward(index, x, rows, lora, scratch, sums);
        }
        Ok(())
    }
}

/// The gradient with respect to the last block's output, `[rows, hidden]`.
fn output_gradient(
    model: &Transformer,
    tree: &Tree,
    coefficients: &[f32],
    per_token: &[f32],
    top: &[f32],
) -> Floats {
    let width = model.spec.hidden;
    let mut at_head = vec![0.0; tree.tokens.len() * width];
    let tokens = per_token.chunks_exact(width).zip(coefficients).zip(&tree.rows);
    for ((gradient, c), row) in tokens {
        let sum = &mut at_head[row * width..(row + 1) * width];
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += c * g);
    }
    model.output_norm_backward(top, &at_head)
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
    hidden: &[f32],
    with_gradient: bool,
) -> TokenScores {
    let width = model.spec.hidden;
    let mut predicting = Floats::zeroed(tree.rows.len() * width);
    for (to, row) in predicting.chunks_exact_mut(width).zip(&tree.rows) {
        to.copy_from_slice(&hidden[row * width..(row + 1) * width]);
    }
    let most_rows = model.pieces.head_rows;
    let head = model.head();
    token_scores(&predicting, &tree.targets, head, model.compute, most_rows, with_gradient)
}
