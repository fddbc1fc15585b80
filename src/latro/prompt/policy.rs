//! Seam `policy`: the model announces the answer in its own way ("So the answer is", `\boxed{`, "####"),
//! and that belongs to its rationale. Only the answer itself, and what closes it, are put in place of
//! the model's.
//!
//! ```text
//! So he has 5 · 4 = 20 apples left. The answer is  20  apples.     as sampled
//! └──────────────── rationale ───────────────────┘ 18  apples      spliced: answer and its terminator
//! ```
//!
//! The terminator is the model's own next token: without one, "1" would be likely wherever the model
//! means "18". A right answer stays as the model wrote it.

use std::ops::Range;

use super::{Finish, PromptError, Prompter};
use crate::answer::{Announced, Mark, Wanted};

/// A sampled branch with the right answer in place of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// How many of the sampled ids are the rationale: all before the answer.
    pub rationale: usize,
    /// The right answer and its terminator. Empty where nothing was announced.
    pub answer: Vec<u32>,
    /// Which of them are the answer's own.
    pub span: Range<usize>,
    /// Whether the model's own answer was right.
    pub right: bool,
    pub finish: Finish,
}

/// Sampled ids as text, and where each of them begins in it.
struct Sampled<'i> {
    /// Up to the end of the turn.
    ids: &'i [u32],
    /// What ended the turn, if it has ended.
    turn_end: Option<u32>,
    /// Bytes that are no UTF-8 are replaced one by one, so that places stay.
    text: String,
    /// One more than there are ids.
    starts: Vec<usize>,
}

impl<'i> Sampled<'i> {
    fn new(prompter: &Prompter, generated: &'i [u32]) -> Self {
        let end = generated.iter().position(|id| prompter.turn_ends.contains(id));
        let ids = &generated[..end.unwrap_or(generated.len())];
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for id in ids {
            bytes.extend_from_slice(prompter.bytes(*id));
            starts.push(bytes.len());
        }
        let turn_end = end.map(|end| generated[end]);
        Self { ids, turn_end, text: readable(&bytes), starts }
    }

    /// The token that holds this byte of the text; the number of tokens for the end of the text.
    fn token_at(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte) - 1
    }

    /// The first token of an answer that begins at this byte. A token that begins within a character
    /// takes those before it along.
    fn first_of(&self, byte: usize) -> usize {
        let mut first = self.token_at(byte);
        while !self.text.is_char_boundary(self.starts[first]) {
            first -= 1;
        }
        first
    }

    /// The announcement: one that stands complete in the text, or that the end of the turn completes.
    fn announced(&self, wanted: &Wanted, marks: &[Mark]) -> Option<Announced> {
        let ended = || wanted.announced(&self.text, marks, true);
        wanted
            .announced(&self.text, marks, false)
            .or_else(|| self.turn_end.and_then(|_| ended()))
            // What nothing has closed may go on.
            .filter(|found| found.value.end < self.text.len() || self.turn_end.is_some())
    }
}

/// Bytes as text of the same length.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

impl Prompter {
    /// Cuts a sampled branch before the answer that it announces and puts the right one, `answer`,
    /// in its place.
    ///
    /// # Errors
    /// [`crate::text::tokenizer::TokenizerError::Encode`].
    pub fn splice(
        &self,
        generated: &[u32],
        answer: &str,
        wanted: &Wanted,
        marks: &[Mark],
    ) -> Result<Splice, PromptError> {
        let sampled = Sampled::new(self, generated);
        let Some(found) = sampled.announced(wanted, marks) else {
            let finish = match sampled.turn_end {
                Some(_) => Finish::EndOfTurn,
                None => Finish::Truncated,
            };
            let rationale = sampled.ids.len();
            return Ok(Splice { rationale, answer: vec![], span: 0..0, right: false, finish });
        };
        let (first, closing) =
            (sampled.first_of(found.value.start), sampled.token_at(found.value.end));
        let right = wanted.is_given_by(&sampled.text[found.value.clone()]);
        let (ids, span) = if right {
            let last = sampled.token_at(found.value.end - 1);
            (generated[first..=closing].to_vec(), 0..last + 1 - first)
        } else {
            let value = &sampled.text[found.value.clone()];
            self.in_place(&sampled, &found, wanted.in_form_of(value, answer))?
        };
        let finish = Finish::Announced;
        Ok(Splice { rationale: first, answer: ids, span, right, finish })
    }

    /// The right answer in place of the announced one: its tokens and which are its own.
    fn in_place(
        &self,
        sampled: &Sampled<'_>,
        found: &Announced,
        answer: &str,
    ) -> Result<(Vec<u32>, Range<usize>), PromptError> {
        let Sampled { starts, text: all, .. } = sampled;
        let (first, closing) =
            (sampled.first_of(found.value.start), sampled.token_at(found.value.end));
        let before = &all[starts[first]..found.value.start];
        let own_token = sampled.ids.get(closing).filter(|_| starts[closing] == found.value.end);
        // A token that holds a part of the model's answer cannot stay: its rest is encoded anew.
        let after = match starts.get(closing + 1) {
            Some(&end) if own_token.is_none() => {
                let whole = (end..=all.len()).find(|at| all.is_char_boundary(*at));
                &all[found.value.end..whole.unwrap_or(end)]
            }
            _ => "",
        };
        let text = [before, answer, after].concat();
        let placed = self.tokenizer.encode_placed(&text, 0..text.len())?;
        let end = before.len() + answer.len();
        let span = placed.partition_point(|t| t.bytes.end <= before.len())
            ..placed.partition_point(|t| t.bytes.start < end);
        let mut ids: Vec<u32> = placed.into_iter().map(|t| t.id).collect();
        if after.is_empty() {
            ids.extend(own_token.copied().or(sampled.turn_end));
        }
        Ok((ids, span))
    }

    /// Watches one branch while it is sampled, for an announcement.
    #[must_use]
    pub const fn watch_for<'p>(
        &'p self,
        answer: &'p str,
        wanted: &'p Wanted,
        marks: &'p [Mark],
    ) -> Watch<'p> {
        Watch { prompter: self, answer, wanted, marks, bytes: Vec::new() }
    }
}

/// Says after each sampled token whether the branch has announced its answer; agrees with
/// [`Prompter::splice`].
#[derive(Debug, Clone)]
pub struct Watch<'p> {
    prompter: &'p Prompter,
    answer: &'p str,
    wanted: &'p Wanted,
    marks: &'p [Mark],
    /// What was sampled so far.
    bytes: Vec<u8>,
}

impl Watch<'_> {
    /// The branch, which has these tokens, cut and spliced; `None` if that cannot be encoded.
    #[must_use]
    pub fn splice(&self, tokens: &[u32]) -> Option<Splice> {
        self.prompter.splice(tokens, self.answer, self.wanted, self.marks).ok()
    }

    /// Takes the next token; true if it ends the branch.
    pub fn push(&mut self, id: u32) -> bool {
        if self.prompter.turn_ends.contains(&id) {
            return true;
        }
        self.bytes.extend_from_slice(self.prompter.bytes(id));
        self.wanted.announced(&readable(&self.bytes), self.marks, false).is_some()
    }
}
