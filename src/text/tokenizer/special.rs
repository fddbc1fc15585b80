//! Special tokens in a text: longest name first, as `tokenizer_st_partition` of llama.cpp.

use std::ops::Range;

use crate::text::tokenizer::{Placed, TokenKind};

/// A part of a text after the special tokens were cut out.
#[derive(Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Bytes that are still text.
    Text(Range<usize>),
    /// A special token.
    Special(Placed),
}

#[derive(Debug)]
struct Special {
    name: String,
    id: u32,
    /// Only trusted text may name it; user-defined tokens count everywhere.
    control: bool,
}

/// The special tokens of a vocabulary, longest name first.
#[derive(Debug)]
pub struct Specials(Vec<Special>);

impl Specials {
    /// Picks the special tokens.
    pub fn new(tokens: &[String], kinds: &[TokenKind]) -> Self {
        let mut specials: Vec<Special> = (0u32..)
            .zip(tokens.iter().zip(kinds))
            .filter(|(_, (name, kind))| kind.is_special() && !name.is_empty())
            .map(|(id, (name, kind))| Special {
                name: name.clone(),
                id,
                control: *kind != TokenKind::UserDefined,
            })
            .collect();
        specials.sort_by_key(|s| std::cmp::Reverse(s.name.len()));
        Self(specials)
    }

    /// Cuts a text at its special tokens. A control token that touches `plain` is text.
    pub fn split(&self, text: &str, plain: &Range<usize>) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for special in self.0.iter().filter(|s| text.contains(&s.name)) {
            let refused = |found: &Range<usize>| {
                special.control && plain.start < found.end && found.start < plain.end
            };
            let mut next = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => special.cut(text, range, refused, &mut next),
                    done @ Fragment::Special(_) => next.push(done),
                }
            }
            fragments = next;
        }
        fragments
    }

    /// Whether a text contains the name of a control token.
    pub fn names_control(&self, text: &str) -> bool {
        self.0.iter().any(|s| s.control && text.contains(&s.name))
    }
}

impl Special {
    /// Cuts one range of text at this token, from left to right.
    fn cut(
        &self,
        text: &str,
        range: Range<usize>,
        refused: impl Fn(&Range<usize>) -> bool,
        out: &mut Vec<Fragment>,
    ) {
        let (mut begin, mut from) = (range.start, range.start);
        while let Some(offset) = text[from..range.end].find(&self.name) {
            let found = from + offset..from + offset + self.name.len();
            if refused(&found) {
                let first = text[found.start..].chars().next();
                from = found.start + first.map_or(1, char::len_utf8);
                continue;
            }
            if begin < found.start {
                out.push(Fragment::Text(begin..found.start));
            }
            (begin, from) = (found.end, found.end);
            out.push(Fragment::Special(Placed { id: self.id, bytes: found }));
        }
        if begin < range.end {
            out.push(Fragment::Text(begin..range.end));
        }
    }
}
