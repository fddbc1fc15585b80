//! A task as tokens: the prompt, the answer, and where a generated rationale ends.
//!
//! Owns the words around a question and an answer, and the rules by which a rationale is cut:
//! `phrase` for the paper's seam between the two, `policy` for the model's own. The text of a question
//! or an answer never becomes a control token, whatever it says. Knows nothing of sampling or of the
//! model's weights.

mod phrase;
mod policy;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::text::chat::{ChatError, ChatTemplate};
use crate::text::tokenizer::{Tokenizer, TokenizerError};
use crate::text::{TextFormat, Wording};

/// What precedes an answer.
const LEAD: &str = "\nThe answer is";
/// The prompt of a model without a chat template, around the question.
const BASE: [&str; 2] = ["Question: ", "\nAnswer:"];
/// Stands for the question when a template is looked at.
const SENTINEL: &str = "qXz7LatrodQuestion7zXq";

/// What can be wrong with a prompt, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The model's tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's chat template cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// Nothing ends a turn.
    #[error(
        "the model has neither an EOS token nor a known end-of-turn token in its chat template, so \
         an answer cannot be closed"
    )]
    NoTurnEnd,
    /// A question that could pass for the template's own structure.
    #[error(
        "the question contains the name of a control token, and the chat template rewrites \
         questions, so that the two cannot be told apart; remove the name from the question"
    )]
    Ambiguous,
    /// A template that cannot ask anything.
    #[error(
        "the model's chat template leaves the question out of the prompt, so nothing can be asked; \
         use a GGUF file whose template shows user messages, or one without a template"
    )]
    DropsQuestion,
    /// A prompt of no tokens: there is nothing that the model could go on from.
    #[error("the question and the model's chat template make a prompt without a single token")]
    Empty,
}

pub use phrase::{Cut, Finish, PHRASE, StopWatch};
pub use policy::{Splice, Watch};

/// An answer without a rationale, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// "The answer is".
    pub lead: Vec<u32>,
    /// The answer and its full stop.
    pub answer: Vec<u32>,
    /// Which of these hold text of the answer itself.
    pub span: Range<usize>,
}

/// Makes prompts and answers for one model, and reads what it generates.
#[derive(Debug)]
pub struct Prompter {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    wording: Wording,
    /// What the template puts before and after a question; `None` if it repeats or rewrites it.
    frame: Option<(String, String)>,
    /// The ids that end a turn; the first one closes an answer.
    turn_ends: Vec<u32>,
}

impl Prompter {
    /// The prompter of a model that takes text in this format, with these words around questions.
    ///
    /// # Errors
    /// A template that does not render a single user message or leaves it out, or a model without a
    /// token that ends a turn.
    pub fn new(format: TextFormat, wording: Wording) -> Result<Self, PromptError> {
        let TextFormat { tokenizer, template } = format;
        let turn_ends = tokenizer.turn_ends(template.as_ref().map_or("", ChatTemplate::source));
        if turn_ends.is_empty() {
            return Err(PromptError::NoTurnEnd);
        }
        let frame = frame(template.as_ref(), &wording)?;
        Ok(Self { tokenizer, template, wording, frame, turn_ends })
    }

    /// Puts other words around questions.
    ///
    /// # Errors
    /// As [`Self::new`]; nothing has changed then.
    pub fn reword(&mut self, wording: Wording) -> Result<(), PromptError> {
        self.frame = frame(self.template.as_ref(), &wording)?;
        self.wording = wording;
        Ok(())
    }

    /// The model's tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The prompt for a question: one user message in the chat template, with the wording around the
    /// question, up to where the model's turn begins. A model without a template gets
    /// "Question: …", "Answer:", after the system message if there is one. BOS stands in front, once,
    /// if the tokenizer asks.
    ///
    /// # Errors
    /// A template that refuses the question, [`PromptError::Ambiguous`] or [`PromptError::Empty`].
    pub fn prompt(&self, question: &str) -> Result<Vec<u32>, PromptError> {
        let Wording { system, prefix, suffix } = &self.wording;
        let content = [prefix, question, suffix].concat();
        let text = match &self.template {
            None if system.is_empty() => [BASE[0], &content, BASE[1]].concat(),
            None => [system, "\n\n", BASE[0], &content, BASE[1]].concat(),
            Some(template) => template.render(&self.wording.messages(&content), true)?,
        };
        let plain = match self.place_of(&content, &text) {
            Some(plain) => plain,
            None if self.tokenizer.names_control(&content) => return Err(PromptError::Ambiguous),
            None => 0..0,
        };
        let placed = self.tokenizer.encode_placed(&text, plain)?;
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        let missing = bos.filter(|&bos| placed.first().is_none_or(|t| t.id != bos));
        let ids: Vec<u32> = missing.into_iter().chain(placed.into_iter().map(|t| t.id)).collect();
        if ids.is_empty() { Err(PromptError::Empty) } else { Ok(ids) }
    }

    /// The bytes of the rendered `text` that are the question's, if they are there as they were,
    /// but for spaces around them.
    fn place_of(&self, content: &str, text: &str) -> Option<Range<usize>> {
        let (before, after) = self.frame.as_ref()?;
        let middle = text.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
        let kept = middle == content || middle == content.trim();
        kept.then(|| before.len()..before.len() + middle.len())
    }

    /// The tokens of a rationale that somebody else has written.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn rationale(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        Ok(self.tokenizer.encode(text, false)?)
    }

    /// The tokens of an answer after a rationale: "\nThe answer is ….", then the end of the turn.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn answer(&self, answer: &str) -> Result<Vec<u32>, PromptError> {
        let mut ids = self.tokenizer.encode(&statement(answer), false)?;
        ids.push(self.turn_ends[0]);
        Ok(ids)
    }

    /// An answer without a rationale: "The answer is 18."
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn guess(&self, answer: &str) -> Result<Guess, PromptError> {
        let text = statement(answer)[1..].to_owned();
        let own = LEAD.len()..text.len() - 1;
        let placed = self.tokenizer.encode_placed(&text, 0..text.len())?;
        let ids: Vec<u32> = placed.iter().map(|t| t.id).collect();
        let lead = placed.partition_point(|t| t.bytes.end < own.start);
        let start = placed.partition_point(|t| t.bytes.end <= own.start) - lead;
        let end = placed.partition_point(|t| t.bytes.start < own.end) - lead;
        let (lead, rest) = ids.split_at(lead);
        Ok(Guess { lead: lead.to_vec(), answer: rest.to_vec(), span: start..end.max(start) })
    }

    /// The tokens that ask for the answer: "\nThe answer is".
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn answer_lead(&self) -> Result<Vec<u32>, PromptError> {
        Ok(self.tokenizer.encode(LEAD, false)?)
    }

    /// Which of the tokens of [`Prompter::answer`] hold text of the answer itself.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn answer_span(&self, answer: &str) -> Result<Range<usize>, PromptError> {
        let text = statement(answer);
        let own = LEAD.len() + 1..text.len() - 1;
        let placed = self.tokenizer.encode_placed(&text, 0..text.len())?;
        let start = placed.partition_point(|t| t.bytes.end <= own.start);
        let end = placed.partition_point(|t| t.bytes.start < own.end);
        Ok(start..end.max(start))
    }

    /// The ids that end the model's turn, ascending.
    #[must_use]
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = self.turn_ends.clone();
        ids.sort_unstable();
        ids
    }

    /// The id that closes an answer.
    #[must_use]
    pub fn turn_end(&self) -> u32 {
        self.turn_ends[0]
    }

    /// What the model wrote, up to the end of its turn. Bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn response(&self, generated: &[u32]) -> String {
        let stop = generated.iter().position(|id| self.turn_ends.contains(id));
        let bytes = self.tokenizer.decode(&generated[..stop.unwrap_or(generated.len())], false);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The answer in what the model generated after [`Prompter::answer_lead`]: its first line, up
    /// to the end of the sentence or of the turn. Not trimmed.
    #[must_use]
    pub fn read_answer(&self, generated: &[u32]) -> String {
        let text = self.response(generated);
        let line = text.split('\n').next().unwrap_or_default();
        line.split(". ").next().unwrap_or_default().to_owned()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }
}

/// What stands before and after a question in a prompt; `None` if the template repeats or rewrites it.
fn frame(
    template: Option<&ChatTemplate>,
    wording: &Wording,
) -> Result<Option<(String, String)>, PromptError> {
    let frame = match template {
        None if wording.system.is_empty() => Some(BASE.map(String::from).into()),
        None => Some(([&wording.system, "\n\n", BASE[0]].concat(), BASE[1].into())),
        Some(template) => {
            let text = template.render(&wording.messages(SENTINEL), true)?;
            if !text.to_lowercase().contains(&SENTINEL.to_lowercase()) {
                return Err(PromptError::DropsQuestion);
            }
            let (before, after) = text.split_once(SENTINEL).unwrap_or((&text, SENTINEL));
            (!after.contains(SENTINEL)).then(|| (before.into(), after.into()))
        }
    };
    Ok(frame)
}

/// An answer in a sentence.
fn statement(answer: &str) -> String {
    format!("{LEAD} {answer}.")
}
