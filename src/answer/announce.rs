//! Where a text announces its answer: "the answer is", `\boxed{…}`, `<answer>…</answer>`, "####".

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{Reader, trim};
use crate::settings::choices;

choices! {
    /// What announces an answer in a text.
    pub enum Mark {
        /// "The answer is", "the answer to … is", "Answer:".
        AnswerIs = "answer_is",
        /// LaTeX's `\boxed{…}`.
        Boxed = "boxed",
        /// `####`, as in GSM8K.
        Hashes = "hashes",
        /// `<answer>…</answer>`, as in DeepSeek-R1's prompt.
        Tag = "tag",
    }
}

/// An answer in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What announced it; `None` if nothing did.
    pub mark: Option<Mark>,
    /// The bytes to be judged: all that follows the announcement.
    pub said: Range<usize>,
    /// The bytes of the answer itself.
    pub value: Range<usize>,
}

/// An answer that a growing text has announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    pub mark: Mark,
    /// The bytes of the answer itself.
    pub value: Range<usize>,
}

/// The most bytes behind an announcement in which its answer is looked for.
const REACH: usize = 2_000;
/// The most announcements that are looked at.
const MOST: usize = 64;

static ANSWER_IS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r"(?:[ \t]+[\w'’-]+){0,8}?[ \t]+(?:is|are|was|be)\b";
    let english = format!(r"\banswers?(?:{words}|[ \t]*(?:\*\*|__)?[ \t]*[:：=])");
    let german = r"\bAntwort[ \t]*(?:ist|lautet|:)";
    let romance = r"\b(?:réponse|respuesta|risposta|resposta)(?:[ \t]+\w+)?[ \t]*(?:est|es|è|é|:)";
    let chinese = "答案[ \t]*(?:是|为|為|：|:)";
    Regex::new(&format!("(?i){english}|{german}|{romance}|{chinese}")).ok()
});

static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("(?i)</?answer>").ok());

/// An announcement: what made it, and what it announces.
struct Place {
    mark: Mark,
    /// Where it begins.
    at: usize,
    said: Range<usize>,
    /// Whether nothing more will be said, since the brace is closed or the line has ended.
    closed: bool,
}

/// All announcements of a text, in order.
fn places(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    if let Some(pattern) = ANSWER_IS.as_ref() {
        places.extend(pattern.find_iter(text).map(|found| {
            let said = behind(text, found.end());
            Place { mark: Mark::AnswerIs, at: found.start(), said, closed: false }
        }));
    }
    for (at, name) in text.match_indices("\\boxed").chain(text.match_indices("\\fbox")) {
        places.extend(boxed(text, at, at + name.len()));
    }
    places.extend(tagged(text));
    let hashes = text.match_indices("####").filter(|(at, _)| !text[..*at].ends_with('#'));
    places.extend(hashes.map(|(at, mark)| {
        // On one line: elsewhere "####" begins a heading.
        let said = behind(text, at + mark.len());
        let line = text[said.clone()].find('\n');
        let end = line.map_or(said.end, |length| said.start + length);
        Place { mark: Mark::Hashes, at, said: said.start..end, closed: line.is_some() }
    }));
    places.sort_by_key(|place| place.at);
    places
}

/// What stands between `<answer>` and `</answer>`.
fn tagged(text: &str) -> Vec<Place> {
    let tags: Vec<_> = TAG.iter().flat_map(|pattern| pattern.find_iter(text)).collect();
    let opens = |tag: &regex::Match| !tag.as_str().starts_with("</");
    let place = |(i, tag): (usize, &regex::Match)| {
        let reach = behind(text, tag.end());
        let next = tags.get(i + 1).filter(|next| !opens(next) && next.start() <= reach.end);
        let said = next.map_or(reach, |next| tag.end()..next.start());
        Place { mark: Mark::Tag, at: tag.start(), said, closed: next.is_some() }
    };
    tags.iter().enumerate().filter(|(_, tag)| opens(tag)).map(place).collect()
}

/// What follows a place, as far as it is looked at.
fn behind(text: &str, at: usize) -> Range<usize> {
    at..text.floor_char_boundary(at.saturating_add(REACH))
}

/// What stands in the braces behind `\boxed`, which ends at `end`.
fn boxed(text: &str, at: usize, end: usize) -> Option<Place> {
    let mark = Mark::Boxed;
    let rest = &text[end..];
    let inner = rest.trim_start_matches(' ').strip_prefix('{');
    let Some(inner) = inner else {
        // "\boxed 5"
        return rest.starts_with(' ').then(|| Place {
            mark,
            at,
            said: behind(text, end),
            closed: false,
        });
    };
    let start = text.len() - inner.len();
    let mut depth = 1;
    for (i, c) in trim::head(inner, REACH).char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(Place { mark, at, said: start..start + i, closed: true });
        }
    }
    Some(Place { mark, at, said: behind(text, start), closed: false })
}

/// The last announcement of `response` behind which an answer can be read.
pub fn last(reader: &dyn Reader, response: &str) -> Option<Found> {
    places(response).into_iter().rev().take(MOST).find_map(|Place { mark, said, .. }| {
        let value = reader.value_in(&response[said.clone()])?;
        let value = said.start + value.start..said.start + value.end;
        Some(Found { mark: Some(mark), said, value })
    })
}

/// See [`super::Wanted::announced`].
pub fn first(reader: &dyn Reader, text: &str, marks: &[Mark], ended: bool) -> Option<Announced> {
    let all = places(text);
    for (i, place) in all.iter().enumerate().take(MOST) {
        if !marks.contains(&place.mark) {
            continue;
        }
        let Place { mark, ref said, closed, .. } = *place;
        // "The answer is \boxed{18}": the brace says where it ends.
        let closes = |mark| matches!(mark, Mark::Boxed | Mark::Tag);
        let inner = all.get(i + 1).filter(|next| closes(next.mark));
        if let Some(inner) = inner
            && !closes(mark)
            && marks.contains(&inner.mark)
            && !text[said.start..inner.at].contains(|c: char| c.is_alphanumeric() || c == '\n')
            && !reader.is_settled(&text[said.start..inner.at])
        {
            continue;
        }
        let spoken = &text[said.clone()];
        if !(closed || ended || reader.is_settled(spoken)) {
            // What has begun must be waited for, or a later one would come first.
            let is_enclosed = text[..said.start].ends_with(['{', '>']) && spoken.len() < REACH - 4;
            return if is_enclosed || is_open(spoken) { None } else { continue };
        }
        if let Some(value) = reader.value_in(spoken) {
            return Some(Announced {
                mark,
                value: said.start + value.start..said.start + value.end,
            });
        }
    }
    None
}

/// Whether an answer may still come behind an announcement: its first lines are not over.
fn is_open(said: &str) -> bool {
    const LINES: usize = 2;
    let lines = said.split_inclusive('\n').filter(|line| line.contains(char::is_alphanumeric));
    lines.take(LINES + 1).filter(|line| line.ends_with('\n')).count() < LINES
}
