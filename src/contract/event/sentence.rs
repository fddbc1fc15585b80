//! Sentences in events and acknowledgements: one bounded line each.

use std::fmt;

use serde::Serialize;

/// Longest sentence in an event, in characters.
pub const MAX_SENTENCE_CHARS: usize = 400;

/// A sentence made by latrod itself: one line of at most [`MAX_SENTENCE_CHARS`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sentence(String);

impl Sentence {
    /// Cuts `text` to the allowed length and puts it on one line.
    #[must_use]
    pub fn new(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut kept: String = line.take(MAX_SENTENCE_CHARS).collect();
        if text.chars().nth(MAX_SENTENCE_CHARS).is_some() {
            kept.pop();
            kept.push('…');
        }
        Self(kept)
    }

    /// The sentence.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_one_bounded_line() {
        let long = Sentence::new("ä".repeat(MAX_SENTENCE_CHARS + 1));
        assert_eq!(long.as_str().chars().count(), MAX_SENTENCE_CHARS);
        assert!(long.as_str().ends_with('…'));
        assert_eq!(Sentence::new("two\nlines\0").as_str(), "two lines ");
        assert_eq!(
            Sentence::new("x".repeat(MAX_SENTENCE_CHARS)).as_str().len(),
            MAX_SENTENCE_CHARS
        );
    }
}
