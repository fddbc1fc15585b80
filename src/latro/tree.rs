//! One task as one packed sequence: the prompt once, then each branch (rationale and answer).
//!
//! A branch's tokens see the prompt and their own branch; positions go on from the prompt's end in
//! every branch. Nothing is padded.

use std::ops::Range;

use crate::ops::attention_plan::{AttentionPlan, Segment};
use crate::ops::key_values::aligned;

/// A prompt with its branches, ready for the transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Tokens that go into the model. A branch's last token is only predicted, so it is not here.
    pub tokens: Vec<u32>,
    /// The position of each token.
    pub positions: Vec<u32>,
    /// Which token sees which.
    pub plan: AttentionPlan,
    /// For each predicted token, the row whose hidden state predicts it.
    pub rows: Vec<usize>,
    /// The predicted tokens, branch after branch.
    pub targets: Vec<u32>,
    /// For each predicted token, what its logits are multiplied by: 1, or 1/T in a rationale that was
    /// sampled at a temperature T.
    pub scales: Vec<f32>,
    /// Where each branch's predictions stand in `targets`.
    pub branches: Vec<BranchSpan>,
}

/// One line of thought and the answer after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch<'a> {
    /// Perhaps empty.
    pub rationale: &'a [u32],
    /// The token with which the model ended the rationale, if it did: the choice to stop is part of
    /// log p(z|x), though the answer follows in the token's place.
    pub stop: Option<u32>,
    pub answer: &'a [u32],
}

/// The predictions of one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSpan {
    /// The rationale's tokens and, if it has one, its stop.
    pub rationale: Range<usize>,
    pub answer: Range<usize>,
}

impl Tree {
    /// Packs a prompt and its branches.
    ///
    /// # Panics
    /// If the prompt is empty.
    #[must_use]
    pub fn new<'a>(prompt: &[u32], branches: impl IntoIterator<Item = Branch<'a>>) -> Self {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let end = prompt.len();
        let mut tree = Self {
            tokens: prompt.to_vec(),
            positions: (0..end as u32).collect(),
            plan: AttentionPlan::causal(end),
            rows: Vec::new(),
            targets: Vec::new(),
            scales: Vec::new(),
            branches: Vec::new(),
        };
        for branch in branches {
            tree.push(end, branch);
        }
        tree
    }

    /// The same for rationales of the policy at a temperature: softmax(logits / temperature) is what they
    /// were sampled from, and so what their log-probabilities and gradients are those of. Answers keep
    /// the model's own.
    #[must_use]
    pub fn tempered(mut self, temperature: f32) -> Self {
        for BranchSpan { rationale, .. } in &self.branches {
            self.scales[rationale.clone()].fill(temperature.recip());
        }
        self
    }

    fn push(&mut self, end: usize, branch: Branch<'_>) {
        let Branch { rationale, stop, answer } = branch;
        let (start, first) = (self.tokens.len(), self.targets.len());
        let inputs = (rationale.len() + answer.len()).saturating_sub(1);
        self.tokens.extend(rationale.iter().chain(answer).take(inputs));
        self.positions.extend((end..end + inputs).map(|p| p as u32));
        if inputs > 0 {
            let seen = std::iter::once(0..end).collect();
            let own = aligned(self.plan.slots());
            self.plan.segments.push(Segment { rows: inputs, seen, own, past: 0 });
        }
        // The row that predicts the branch's i-th token.
        let row = |i: usize| if i == 0 { end - 1 } else { start + i - 1 };
        self.targets.extend(rationale.iter().chain(&stop));
        self.rows.extend((0..rationale.len() + usize::from(stop.is_some())).map(row));
        let middle = self.targets.len();
        self.targets.extend(answer);
        self.rows.extend((rationale.len()..rationale.len() + answer.len()).map(row));
        self.scales.resize(self.targets.len(), 1.0);
        let span = BranchSpan { rationale: first..middle, answer: middle..middle + answer.len() };
        self.branches.push(span);
    }

    /// The longest sequence of positions that a branch covers, with its last, predicted token.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |p| *p as usize + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_branches_behind_the_prompt() {
        let answer: &[u32] = &[8, 9];
        let branches = [
            Branch { rationale: &[4, 5], stop: Some(7), answer },
            Branch { rationale: &[], stop: None, answer },
        ];

        let tree = Tree::new(&[1, 2, 3], branches);

        assert_eq!(tree.tokens, [1, 2, 3, 4, 5, 8, 8]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 4, 5, 3]);
        assert_eq!(tree.targets, [4, 5, 7, 8, 9, 8, 9]);
        assert_eq!(tree.rows, [2, 3, 4, 4, 5, 2, 6]);
        assert_eq!(tree.branches[0], BranchSpan { rationale: 0..3, answer: 3..5 });
        assert_eq!(tree.branches[1], BranchSpan { rationale: 5..5, answer: 5..7 });
        assert_eq!(tree.plan.segments[1].rows, 3);
        assert_eq!(tree.plan.segments[1].own, 32);
        assert_eq!(tree.plan.segments[2].rows, 1);
        assert_eq!(tree.plan.segments[2].own, 64);
        assert_eq!(tree.plan.rows(), tree.tokens.len());
        assert_eq!(tree.scales, [1.0; 7]);
        assert_eq!(tree.tempered(0.5).scales, [2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn an_empty_rationale_still_has_its_stop() {
        let tree = Tree::new(&[1], [Branch { rationale: &[], stop: Some(7), answer: &[8] }]);

        assert_eq!((tree.tokens, tree.targets, tree.rows), (vec![1], vec![7, 8], vec![0, 0]));
        assert_eq!(tree.plan.segments.len(), 1);
    }
}
