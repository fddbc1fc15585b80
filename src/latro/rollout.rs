//! What was sampled for one task: the unit that scoring and training work on, and that is saved in
//! the middle of a step.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::tree::{Branch, Tree};

/// A task's rationales, as tokens. Its JSON form is that of the PyTorch reference's rollout files;
/// one without a prompt or an answer is refused when it is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RolloutGroup {
    #[serde(rename = "prompt_ids", deserialize_with = "some_tokens")]
    pub prompt: Vec<u32>,
    /// The right answer with its phrase and the end of the turn.
    #[serde(rename = "answer_ids", deserialize_with = "some_tokens")]
    pub answer: Vec<u32>,
    /// Which tokens of `answer` are the answer's own text; all of them if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_span: Option<Range<usize>>,
    /// `[K]` rationales; an empty one is allowed.
    pub rationales: Vec<Vec<u32>>,
    /// With seam `policy`, what stands in `answer`'s place for each rationale: the right answer as the
    /// model would say it there. Empty for one that announced no answer. `answer` for all if the list
    /// is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Spliced>,
    /// An announcement without a rationale: `answer` after it is what a guess earns. None if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guess: Vec<u32>,
    /// log p of the tokens behind each rationale (`answers`), as sampling has left them, nats; an empty
    /// list where there are none. Not known if the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Vec<f32>>,
    /// The same of `answer` behind the guess.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guess_scores: Vec<f32>,
    /// Which rationales ran out of tokens; none if the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<bool>,
    /// The token with which each rationale was ended, where the model ended it: the end of the turn,
    /// or the first token of the answer phrase as the model said it. If given, the choice to stop is
    /// part of log p(z|x); without it (an empty list) log p(z|x) covers the rationale's tokens alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Option<u32>>,
    /// Whether the rationale is one that the task comes with, and not the model's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worked: bool,
}

/// The right answer behind one rationale.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spliced {
    pub ids: Vec<u32>,
    /// Which of them are the answer's own text; the others close it.
    pub span: Range<usize>,
    /// Whether the model's own answer was right.
    pub right: bool,
}

impl RolloutGroup {
    /// The task as one packed sequence: a branch for each rationale, and one more for the guess if
    /// there is one.
    ///
    /// # Panics
    /// If the prompt is empty, which neither [`super::prompt::Prompter::prompt`] nor reading allows.
    #[must_use]
    pub fn tree(&self) -> Tree {
        let branches = self.rationales.iter().enumerate().map(|(i, rationale)| Branch {
            rationale,
            stop: self.stops.get(i).copied().flatten(),
            answer: self.answers.get(i).map_or(&self.answer, |answer| &answer.ids),
        });
        let guess = Branch { rationale: &self.guess, stop: None, answer: &self.answer };
        Tree::new(&self.prompt, branches.chain((!self.guess.is_empty()).then_some(guess)))
    }

    /// The same with some of the rationales only.
    #[must_use]
    pub fn only(&self, chosen: &[usize]) -> Self {
        fn of<T: Clone>(all: &[T], chosen: &[usize]) -> Vec<T> {
            if all.is_empty() {
                Vec::new()
            } else {
                chosen.iter().map(|k| all[*k].clone()).collect()
            }
        }
        Self {
            prompt: self.prompt.clone(),
            answer: self.answer.clone(),
            answer_span: self.answer_span.clone(),
            rationales: of(&self.rationales, chosen),
            answers: of(&self.answers, chosen),
            guess: self.guess.clone(),
            scores: of(&self.scores, chosen),
            guess_scores: self.guess_scores.clone(),
            truncated: of(&self.truncated, chosen),
            stops: of(&self.stops, chosen),
            worked: self.worked,
        }
    }

    /// The shortest rationale that announced the right answer itself, the first of equal ones.
    #[must_use]
    pub fn shortest_right(&self) -> Option<usize> {
        let right = self.answers.iter().enumerate().filter(|(_, answer)| answer.right);
        right.map(|(k, _)| k).min_by_key(|k| self.rationales[*k].len())
    }

    /// Which tokens of the answer behind rationale `branch` are its own text.
    #[must_use]
    pub fn span(&self, branch: usize) -> Range<usize> {
        match self.answers.get(branch) {
            Some(answer) => answer.span.clone(),
            None => self.answer_span.clone().unwrap_or(0..self.answer.len()),
        }
    }

    /// Whether rationale `branch` is followed by an answer at all.
    #[must_use]
    pub fn has_answer(&self, branch: usize) -> bool {
        self.answers.get(branch).is_none_or(|answer| !answer.ids.is_empty())
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

/// A list of at least one token.
fn some_tokens<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    let ids = Vec::deserialize(from)?;
    if ids.is_empty() {
        return Err(D::Error::custom("prompt_ids and answer_ids need at least one token each"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_without_a_prompt_or_an_answer_is_not_read() {
        let read = serde_json::from_str::<RolloutGroup>;

        for wrong in [
            r#"{"prompt_ids": [], "answer_ids": [1], "rationales": []}"#,
            r#"{"prompt_ids": [1], "answer_ids": [], "rationales": []}"#,
        ] {
            assert!(read(wrong).unwrap_err().to_string().contains("at least one token"), "{wrong}");
        }
        assert!(read(r#"{"prompt_ids": [1], "answer_ids": [1], "rationales": [[]]}"#).is_ok());
    }
}
