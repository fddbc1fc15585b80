//! Whether a text gives the wanted answer, judged as people would: by the kind of answer, both sides
//! treated alike.
//!
//! | file | owns |
//! |---|---|
//! | `number` | numbers by value, however they are written |
//! | `choice` | a label or the text of an option that the question lists |
//! | `text` | words, whatever case, quotes and articles they come with |
//! | `exact` | every character: code, passwords |
//! | `announce` | where a text announces its answer |
//! | `trim` | what people put around an answer |
//!
//! The rules follow public answer checkers where these agree: lm-evaluation-harness and simple-evals
//! for GSM8K and multiple choice, math-verify for numbers, the script of SQuAD for texts. Knows nothing of
//! models or tokens.

mod announce;
mod choice;
mod exact;
mod number;
#[cfg(test)]
mod tests;
mod text;
mod trim;

use std::ops::Range;

pub use announce::{Announced, Found, Mark};

use self::choice::Choice;
use self::exact::Exact;
use self::number::Number;
use self::text::Words;
use crate::settings::{Choice as _, choices};

choices! {
    /// What kind of text an answer is, and so how two are compared.
    pub enum AnswerKind {
        /// What the wanted answer is: a number if all of it is one, a choice if the question lists it as
        /// an option, else a text.
        Auto = "auto",
        /// A number, by value: 18, $18.00 and 1.8e1 are the same.
        Number = "number",
        /// One of the options in the question, by its label or its text.
        Choice = "choice",
        /// Words: case, quotes, articles and punctuation around them make no difference.
        Text = "text",
        /// Every character counts.
        Exact = "exact",
    }
}

impl AnswerKind {
    /// Its name in tasks and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

/// A wanted answer, ready to judge with.
#[derive(Debug, Clone)]
pub struct Wanted {
    judge: Judge,
}

#[derive(Debug, Clone)]
enum Judge {
    Number(Number),
    Choice(Choice),
    Text(Words),
    Exact(Exact),
}

/// How an answer of one kind is read and compared. `said` is what follows an announcement.
trait Reader {
    /// The bytes of the answer in `said`: its first readable one.
    fn value_in(&self, said: &str) -> Option<Range<usize>>;

    /// Whether `said` gives the wanted answer.
    fn is_given_by(&self, said: &str) -> bool;

    /// The normal form of the answer that `said` gives.
    fn key(&self, said: &str) -> Option<String>;

    /// The answer in a response that announces none: what is to be judged.
    fn unannounced(&self, response: &str) -> Option<Range<usize>>;

    /// Whether nothing that may still follow `said` can change what is read from it.
    fn is_settled(&self, said: &str) -> bool;
}

impl Wanted {
    /// The answer to a question. With [`AnswerKind::Auto`] it is a choice if the question lists options
    /// and it is one of them, or if it is a single capital letter up to J; a number if all of it is one,
    /// with a currency, a percent sign or a unit at most; else a text.
    #[must_use]
    pub fn new(question: &str, answer: &str, kind: AnswerKind) -> Self {
        let number = || Number::new(answer).map(Judge::Number);
        let choice = |must| Choice::new(question, answer, must).map(Judge::Choice);
        let text = || Judge::Text(Words::new(answer));
        let judge = match kind {
            AnswerKind::Auto => choice(false).or_else(number).unwrap_or_else(text),
            // An answer that is none of its kind is still an answer: the text that it is.
            AnswerKind::Number => number().unwrap_or_else(text),
            AnswerKind::Choice => choice(true).unwrap_or_else(text),
            AnswerKind::Text => text(),
            AnswerKind::Exact => Judge::Exact(Exact::new(answer)),
        };
        Self { judge }
    }

    /// The answer's kind, never [`AnswerKind::Auto`].
    #[must_use]
    pub const fn kind(&self) -> AnswerKind {
        match self.judge {
            Judge::Number(_) => AnswerKind::Number,
            Judge::Choice(_) => AnswerKind::Choice,
            Judge::Text(_) => AnswerKind::Text,
            Judge::Exact(_) => AnswerKind::Exact,
        }
    }

    fn reader(&self) -> &dyn Reader {
        match &self.judge {
            Judge::Number(reader) => reader,
            Judge::Choice(reader) => reader,
            Judge::Text(reader) => reader,
            Judge::Exact(reader) => reader,
        }
    }

    /// Whether `said`, which follows an announcement, gives the wanted answer.
    #[must_use]
    pub fn is_given_by(&self, said: &str) -> bool {
        self.reader().is_given_by(said)
    }

    /// The normal form of the answer that `said` gives, for votes: two texts with the same one give
    /// the same answer. `None` if there is no answer to be read.
    #[must_use]
    pub fn key(&self, said: &str) -> Option<String> {
        self.reader().key(said)
    }

    /// The wanted answer in the form of `value`, which stands in its place: the text of an option
    /// where that is one, and not a label.
    #[must_use]
    pub fn in_form_of<'a>(&'a self, value: &str, answer: &'a str) -> &'a str {
        match &self.judge {
            Judge::Choice(choice) => choice.in_form_of(value).unwrap_or(answer),
            _ => answer,
        }
    }

    /// The answer in a whole response: what stands behind its last announcement, or else what the kind
    /// of answer makes likely (the last number, the last line, …).
    #[must_use]
    pub fn find(&self, response: &str) -> Option<Found> {
        announce::last(self.reader(), response).or_else(|| {
            let said = self.reader().unannounced(response)?;
            let value = self.reader().value_in(&response[said.clone()])?;
            let value = said.start + value.start..said.start + value.end;
            Some(Found { mark: None, said, value })
        })
    }

    /// The first announcement in a growing text by one of `marks`, as soon as nothing that may follow
    /// can change what is read there; `ended` says that nothing will. Once there is one, it stays as
    /// it is however the text goes on.
    #[must_use]
    pub fn announced(&self, text: &str, marks: &[Mark], ended: bool) -> Option<Announced> {
        announce::first(self.reader(), text, marks, ended)
    }
}
