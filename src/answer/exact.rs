//! Answers of which every character counts: code, JSON, passwords. White space around them, one pair of
//! quotes and one final full stop are people's, not theirs.

use std::ops::Range;

use super::Reader;
use super::trim::is_space;

/// Pairs that people put around an answer.
const PAIRS: [&str; 6] = ["```", "**", "`", "\"", "'", "“"];

/// A wanted text, with "\n" for every line end.
#[derive(Debug, Clone)]
pub struct Exact {
    wanted: String,
}

impl Exact {
    pub fn new(answer: &str) -> Self {
        Self { wanted: lines(answer).trim_matches(is_space).to_owned() }
    }

    fn is(&self, said: &str) -> bool {
        let said = lines(said);
        let said = said.trim_matches(is_space);
        let same = |text: &str| text == self.wanted || bare(text) == self.wanted;
        same(said) || said.strip_suffix('.').is_some_and(same)
    }
}

fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Without one pair around it.
fn bare(text: &str) -> &str {
    let pair = PAIRS.iter().find_map(|open| {
        let close = if *open == "“" { "”" } else { open };
        text.strip_prefix(open)?.strip_suffix(close)
    });
    pair.map_or(text, |inner| inner.trim_matches(is_space))
}

impl Reader for Exact {
    /// As many lines as the wanted answer has, from the first that is not blank.
    fn value_in(&self, said: &str) -> Option<Range<usize>> {
        let text = said.trim_start_matches(|c| is_space(c) || c == ':');
        let start = said.len() - text.len();
        let mut end = 0;
        for line in text.split_inclusive('\n').take(self.wanted.lines().count().max(1)) {
            end += line.len();
        }
        let text = text[..end].trim_end_matches(is_space);
        (!text.is_empty()).then(|| start..start + text.len())
    }

    fn is_given_by(&self, said: &str) -> bool {
        // A wanted answer may begin with what is otherwise skipped.
        self.is(said) || self.value_in(said).is_some_and(|range| self.is(&said[range]))
    }

    fn key(&self, said: &str) -> Option<String> {
        let text = lines(&said[self.value_in(said)?]);
        Some(bare(text.strip_suffix('.').unwrap_or(&text)).to_owned())
    }

    fn unannounced(&self, response: &str) -> Option<Range<usize>> {
        if self.is(response) || self.wanted.contains('\n') {
            return (!response.trim_matches(is_space).is_empty()).then_some(0..response.len());
        }
        super::text::last_line(response)
    }

    fn is_settled(&self, said: &str) -> bool {
        self.value_in(said).is_some_and(|range| {
            let lines = self.wanted.lines().count().max(1);
            said[range.start..].matches('\n').count() >= lines
        })
    }
}
