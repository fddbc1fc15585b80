//! Numbers, compared by value: 18, 18.0, $18, 1.8e1 and 36/2 are the same; 18 % is 18 and 0.18.
//!
//! A number inside an expression is not an answer: "256 + 37 = 293" says 293, "3 or 4" nothing.

mod literal;
mod scan;
#[cfg(test)]
mod tests;
mod units;

use std::ops::Range;

use num_bigint::BigInt;
use num_rational::BigRational;

use self::scan::{Amount, readable};
use self::units::{Unit, known};
use super::Reader;
use super::trim::{self, is_space, sentence, sentences};

/// The most words that a unit may have.
const UNIT_WORDS: usize = 3;
/// Sentences or lines behind an announcement in which its number may stand.
const SENTENCES: usize = 2;
/// Numbers that are written as words where there are no digits.
const WORDS: [&str; 28] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
];

/// A wanted number.
#[derive(Debug, Clone)]
pub struct Number {
    value: BigRational,
    percent: bool,
    unit: Option<Unit>,
}

impl Number {
    /// The number that a whole answer is; `None` if it is more or something else.
    pub fn new(answer: &str) -> Option<Self> {
        let answer = answer.trim_matches(is_space);
        let [amount] = <[Amount; 1]>::try_from(scan::amounts(answer)).ok()?;
        let Amount { range, whole, value, percent, unit } = amount;
        // "007" is a code.
        let digits = answer[range].trim_start_matches(['-', '−', '+']);
        let is_code =
            digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        let before = &answer[..whole.start];
        let bare = trim::start(before) == before.len();
        let behind = answer[whole.end..].trim_matches(|c: char| {
            is_space(c)
                || matches!(c, '.' | '*' | '_' | '`' | '"' | '\'' | '$' | '\\' | ')' | ']' | '}')
        });
        let is_unit = behind.split_whitespace().count() <= UNIT_WORDS
            && behind.split_whitespace().all(|word| {
                let plain =
                    |c: char| c.is_lowercase() || matches!(c, '/' | '-' | '°' | '²' | '³' | '\'');
                word.chars().all(plain) || known(word).is_some()
            });
        if is_code || !bare || !is_unit {
            return None;
        }
        Some(Self { value: value?, percent, unit })
    }

    fn is(&self, said: &Read) -> bool {
        let differ = |(a, b): (Unit, Unit)| a != b;
        if self.unit.zip(said.unit).is_some_and(differ) {
            return false;
        }
        let hundred = BigRational::from_integer(BigInt::from(100));
        self.value == said.value
            || (self.percent != said.percent
                && match self.percent {
                    true => self.value == &said.value * &hundred,
                    false => &self.value * &hundred == said.value,
                })
    }
}

/// A number that was said.
struct Read {
    value: BigRational,
    percent: bool,
    unit: Option<Unit>,
    range: Range<usize>,
}

impl Read {
    fn of(amount: Amount, from: usize) -> Option<Self> {
        let Amount { range, value, percent, unit, .. } = amount;
        Some(Self { value: value?, percent, unit, range: from + range.start..from + range.end })
    }
}

/// The first number of what is said.
fn first(said: &str) -> Option<Read> {
    let begin = trim::start(said);
    // What was skipped may have been a sign of currency.
    let begin = said[..begin].rfind('$').unwrap_or(begin);
    let spoken =
        sentences(&said[begin..]).filter(|(_, text)| !text.trim_matches(is_space).is_empty());
    for (from, text) in spoken.take(SENTENCES) {
        if text.contains(|c: char| c.is_ascii_digit()) || text.chars().any(|c| "½¼¾⅓⅔".contains(c))
        {
            let amount = readable(text).into_iter().next()?;
            return Read::of(amount, begin + from);
        }
        if let Some(read) = word(text, begin + from) {
            return Some(read);
        }
    }
    None
}

/// A number word at the beginning of a text that begins at `from`.
fn word(text: &str, from: usize) -> Option<Read> {
    let start = trim::start(text);
    let rest = &text[start..];
    let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let place = WORDS.iter().position(|word| rest[..end].eq_ignore_ascii_case(word))?;
    let value = if place <= 20 { place } else { (place - 18) * 10 };
    Some(Read {
        value: BigRational::from_integer(BigInt::from(value)),
        percent: false,
        unit: units::behind(&rest[end..]).map(|(unit, _)| unit),
        range: from + start..from + start + end,
    })
}

impl Reader for Number {
    fn value_in(&self, said: &str) -> Option<Range<usize>> {
        first(said).map(|read| read.range)
    }

    fn is_given_by(&self, said: &str) -> bool {
        first(said).is_some_and(|read| self.is(&read))
    }

    fn key(&self, said: &str) -> Option<String> {
        first(said).map(|read| read.value.to_string())
    }

    /// The last number that is not inside an expression.
    fn unannounced(&self, response: &str) -> Option<Range<usize>> {
        let spoken: Vec<_> = sentences(response).collect();
        spoken.into_iter().rev().find_map(|(from, text)| {
            let whole = readable(text).pop()?.whole;
            Some(from + whole.start..from + whole.end)
        })
    }

    fn is_settled(&self, said: &str) -> bool {
        first(said).is_some_and(|read| sentence(&said[read.range.end..]).1)
    }
}
