//! Words of settings as arguments.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::settings::{Choice, paragraphs};

/// A parser for arguments that are one of a setting's words.
#[must_use]
pub fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let words = T::WORDS.iter();
    let words = words.map(|(word, meaning)| PossibleValue::new(*word).help(help(&[meaning])));
    PossibleValuesParser::new(words)
        .try_map(|word| T::of_word(&word).ok_or("there is no such word"))
}

/// The first paragraph of a description as help has it: without the full stop.
pub fn help(doc: &[&str]) -> String {
    let first = paragraphs(doc).into_iter().next().unwrap_or_default();
    first.strip_suffix('.').map_or(first.clone(), Into::into)
}
