//! One task as one packed sequence: the prompt once, then each branch (rationale and answer).
//!
//! A branch's tokens see the prompt and their own branch; positions go on from the prompt's end in
//! every branch. Nothing is padded.

use std::ops::Range;

use crate::ops::attention::{AttentionPlan, Segment};

/// A prompt with its branches, ready for the transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Where each branch's predictions stand in `targets`.
    pub branches: Vec<BranchSpan>,
}

/// The predictions of one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSpan {
    pub rationale: Range<usize>,
    pub answer: Range<usize>,
}

impl Tree {
    /// Packs a prompt and its branches, each a rationale (perhaps empty) and an answer.
    ///
    /// # Panics
    /// If the prompt is empty.
    #[must_use]
    pub fn new<'a>(
        prompt: &[u32],
        branches: impl IntoIterator<Item = (&'a [u32], &'a [u32])>,
    ) -> Self {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let end = prompt.len();
        let mut tree = Self {
            tokens: prompt.to_vec(),
            positions: (0..end as u32).collect(),
            plan: AttentionPlan {
                segments: vec![Segment { rows: end, seen: vec![], own: Some(0) }],
            },
            rows: Vec::new(),
            targets: Vec::new(),
            branches: Vec::new(),
        };
        for (rationale, answer) in branches {
            tree.push(end, rationale, answer);
        }
        tree
    }

    fn push(&mut self, end: usize, rationale: &[u32], answer: &[u32]) {
        let (start, first) = (self.tokens.len(), self.targets.len());
        self.targets.extend(rationale.iter().chain(answer));
        let inputs = (rationale.len() + answer.len()).saturating_sub(1);
        self.tokens.extend(&self.targets[first..first + inputs]);
        self.positions.extend((end..end + inputs).map(|p| p as u32));
        if !(rationale.is_empty() && answer.is_empty()) {
            self.rows.push(end - 1);
            self.rows.extend(start..start + inputs);
        }
        if inputs > 0 {
            let seen = std::iter::once(0..end).collect();
            self.plan.segments.push(Segment { rows: inputs, seen, own: Some(start) });
        }
        let middle = first + rationale.len();
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

        let tree = Tree::new(&[1, 2, 3], [(&[4u32, 5][..], answer), (&[][..], answer)]);

        assert_eq!(tree.tokens, [1, 2, 3, 4, 5, 8, 8]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 4, 5, 3]);
        assert_eq!(tree.targets, [4, 5, 8, 9, 8, 9]);
        assert_eq!(tree.rows, [2, 3, 4, 5, 2, 6]);
        assert_eq!(tree.branches[0], BranchSpan { rationale: 0..2, answer: 2..4 });
        assert_eq!(tree.branches[1], BranchSpan { rationale: 4..4, answer: 4..6 });
        assert_eq!(tree.plan.segments[1], Segment { rows: 3, seen: vec![0..3], own: Some(3) });
        assert_eq!(tree.plan.segments[2], Segment { rows: 1, seen: vec![0..3], own: Some(6) });
        assert_eq!(tree.plan.rows(), tree.tokens.len());
    }
}
