//! What was sampled for one task: the unit that scoring and training work on, and that is saved in
//! the middle of a step.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::tree::{Branch, Tree};

/// A task's rationales, as tokens. Its JSON form is that of the PyTorch reference's rollout files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    #[serde(rename = "prompt_ids")]
    pub prompt: Vec<u32>,
    /// The right answer with its phrase and the end of the turn.
    #[serde(rename = "answer_ids")]
    pub answer: Vec<u32>,
    /// Which tokens of `answer` are the answer's own text; all of them if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_span: Option<Range<usize>>,
    /// `[K]` rationales; an empty one is allowed.
    pub rationales: Vec<Vec<u32>>,
    /// Which rationales ran out of tokens; none if the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<bool>,
    /// The token with which each rationale was ended, where the model ended it: the end of the turn,
    /// or the first token of the answer phrase as the model said it. If given, the choice to stop is
    /// part of log p(z|x); without it (an empty list) log p(z|x) covers the rationale's tokens alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Option<u32>>,
}

impl Rollout {
    /// The task as one packed sequence.
    ///
    /// # Panics
    /// If the prompt is empty.
    #[must_use]
    pub fn tree(&self) -> Tree {
        let branches = self.rationales.iter().enumerate().map(|(i, rationale)| Branch {
            rationale,
            stop: self.stops.get(i).copied().flatten(),
            answer: &self.answer,
        });
        Tree::new(&self.prompt, branches)
    }

    /// Which tokens of the answer are its own text.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.answer_span.clone().unwrap_or(0..self.answer.len())
    }

    /// Whether each rationale ran out of tokens. `[K]`
    #[must_use]
    pub fn truncation(&self) -> Vec<bool> {
        let mut flags = self.truncated.clone();
        flags.resize(self.rationales.len(), false);
        flags
    }

    /// Tokens of all rationales.
    #[must_use]
    pub fn rationale_tokens(&self) -> usize {
        self.rationales.iter().map(Vec::len).sum()
    }
}
