//! Compares a candidate with what it would replace on the same held-out questions, in pieces that can
//! be computed at different times.
//!
//! Which pieces there are depends on the inputs alone, and each piece's numbers on that piece alone,
//! so it makes no difference which of them were computed before a process was killed. Knows no files;
//! the caller keeps the pieces.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::evaluate::{EvalSettings, evaluate};
use super::forget::{GeneralTokens, summarize, text_kl};
use super::gate::{Answered, Pair, Paired};
use super::question::pairs_by_question;
use crate::data::Task;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, ModelError};
use crate::latro::learner::LearnError;
use crate::latro::prompt::Prompter;
use crate::latro::sampling::generate::Policy;

/// Everything that a comparison is made of.
pub struct Comparison<'a, E: Engine> {
    pub model: &'a E,
    pub prompter: &'a Prompter,
    /// The active adapter; `None` for the base model.
    pub baseline: Option<&'a E::Adapter>,
    pub candidate: &'a E::Adapter,
    /// Questions that fit the model's context.
    pub questions: &'a [Task],
    /// General prompts; none if forgetting is not looked at.
    pub texts: &'a [GeneralTokens],
    /// Votes are not taken, whatever it says of them. `batch` questions make a piece.
    pub settings: EvalSettings,
    pub interrupt: &'a Interrupt,
}

impl<E: Engine> Clone for Comparison<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for Comparison<'_, E> {}

/// Which policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Baseline,
    Candidate,
}

/// A part of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// One side's answers to some questions.
    Questions(Side, Range<usize>),
    /// A general prompt.
    Text(usize),
}

/// The result of a piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Done {
    /// One for each question.
    Answers(Vec<Answered>),
    /// Σ KL(base ‖ candidate) of a text, nats, and its predicted tokens. No sum where the candidate
    /// computes no numbers.
    Text { kl_nats: Option<f64>, tokens: usize },
}

impl<E: Engine> Comparison<'_, E> {
    /// The pieces, in the order in which they are computed: the questions in groups, each first with
    /// the baseline and then with the candidate; then the general prompts.
    #[must_use]
    pub fn pieces(&self) -> Vec<Piece> {
        let (n, group) = (self.questions.len(), self.settings.batch.max(1));
        let groups = (0..n).step_by(group).flat_map(|start| {
            let range = start..n.min(start.saturating_add(group));
            [Side::Baseline, Side::Candidate].map(|side| Piece::Questions(side, range.clone()))
        });
        groups.chain((0..self.texts.len()).map(Piece::Text)).collect()
    }

    /// Computes a piece. A policy that computes no numbers is a result, not an error: the gate must
    /// know about it.
    ///
    /// # Errors
    /// [`LearnError`], above all [`ModelError::Interrupted`].
    pub fn compute(&self, piece: &Piece) -> Result<Done, LearnError> {
        match piece {
            Piece::Questions(side, range) => {
                let lora = match side {
                    Side::Baseline => self.baseline,
                    Side::Candidate => Some(self.candidate),
                };
                Ok(Done::Answers(self.answers(lora, &self.questions[range.clone()])?))
            }
            Piece::Text(index) => {
                let text = &self.texts[*index];
                let kl = text_kl(self.model, self.candidate, text, self.interrupt);
                let kl_nats = match kl {
                    Err(ModelError::NonFinite { .. }) => None,
                    other => Some(other?),
                };
                Ok(Done::Text { kl_nats, tokens: text.predicted() })
            }
        }
    }

    fn answers(
        &self,
        lora: Option<&E::Adapter>,
        questions: &[Task],
    ) -> Result<Vec<Answered>, LearnError> {
        let policy = Policy { model: self.model, lora, interrupt: self.interrupt };
        let settings = EvalSettings { votes: 0, ..self.settings };
        match evaluate(policy, self.prompter, questions, settings, |_| {}) {
            Ok(results) => Ok(results
                .iter()
                .map(|r| Answered {
                    correct: r.correct,
                    log_p_answer: r.log_p_answer,
                    answer_tokens: r.answer_tokens,
                })
                .collect()),
            Err(LearnError::Model(ModelError::NonFinite { .. })) => {
                let silent = Answered { correct: false, log_p_answer: f64::NAN, answer_tokens: 1 };
                Ok(vec![silent; questions.len()])
            }
            Err(error) => Err(error),
        }
    }

    /// Whether `done` can be the result of `piece`.
    #[must_use]
    pub fn fits(&self, piece: &Piece, done: &Done) -> bool {
        match (piece, done) {
            (Piece::Questions(_, range), Done::Answers(answers)) => answers.len() == range.len(),
            (Piece::Text(i), Done::Text { tokens, .. }) => *tokens == self.texts[*i].predicted(),
            _ => false,
        }
    }

    /// Puts all pieces' results, in the pieces' order, together for the gate, as a first attempt.
    #[must_use]
    pub fn paired(&self, done: &[Done]) -> Paired {
        let (mut baseline, mut candidate, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for (piece, done) in self.pieces().iter().zip(done) {
            match (piece, done) {
                (Piece::Questions(Side::Baseline, _), Done::Answers(some)) => baseline.extend(some),
                (Piece::Questions(Side::Candidate, _), Done::Answers(some)) => {
                    candidate.extend(some);
                }
                (_, Done::Text { kl_nats, tokens }) => {
                    texts.push((kl_nats.unwrap_or(f64::INFINITY), *tokens));
                }
                (Piece::Text(_), Done::Answers(_)) => {}
            }
        }
        let pair = |(baseline, candidate): (&Answered, &Answered)| Pair {
            baseline: *baseline,
            candidate: *candidate,
        };
        let pairs: Vec<Pair> = baseline.iter().zip(&candidate).map(pair).collect();
        Paired {
            questions: pairs_by_question(self.questions, &pairs),
            forget: summarize(&texts).filter(|f| f.kl_nats_per_token.is_finite()),
            attempt: 1,
        }
    }
}
