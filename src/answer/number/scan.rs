//! The numbers of a text, and which of them belong to one expression.

use std::ops::Range;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::pow;

use super::literal::{Literal, begins, read};
use super::units::{self, Unit, add_up, behind, currency_before, percent};

/// A number in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Amount {
    /// With its sign, without currency, percent sign and unit.
    pub range: Range<usize>,
    /// With all of these.
    pub whole: Range<usize>,
    /// `None` for digits that are no number.
    pub value: Option<BigRational>,
    pub percent: bool,
    pub unit: Option<Unit>,
}

/// How two numbers in a row belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Not at all.
    Apart,
    /// As parts of something that is no single number: 3 + 4, 3 or 4, 3–4, 12:30, 2 hours 30 minutes.
    Parts,
    /// The second is what the first comes to: 3 + 4 = 7.
    Result,
}

/// All numbers of a text, in order.
pub fn amounts(text: &str) -> Vec<Amount> {
    let mut found: Vec<Amount> = Vec::new();
    let mut from = 0;
    while let Some(at) = next(text, from) {
        let Some(literal) = read(text, at) else {
            from = at + text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let floor = found.last().map_or(0, |last| last.whole.end);
        let amount = amount(text, literal, floor);
        from = amount.whole.end;
        found.push(amount);
    }
    found
}

/// Where the next number begins.
fn next(text: &str, from: usize) -> Option<usize> {
    text[from..].char_indices().map(|(at, _)| from + at).find(|at| begins(text, *at))
}

/// A literal with what stands around it; nothing before `floor` is looked at.
fn amount(text: &str, literal: Literal, floor: usize) -> Amount {
    let Literal { range, mut value } = literal;
    let before = |at: usize| &text[floor..at];
    // "A4", "x2": part of a word.
    if before(range.start).chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
        value = None;
    }
    let mut start = range.start;
    let mut whole = start;
    let mut unit = None;
    let mut negative = false;
    for _ in 0..2 {
        if let Some((currency, at)) = currency_before(before(whole)) {
            (unit, whole) = (Some(currency), floor + at);
        }
        if let Some((minus, at)) = sign_before(before(whole)) {
            (negative, whole) = (minus, floor + at);
            start = whole;
            // A currency may stand before the sign, as in "$-5", but no second sign.
            if let Some((currency, at)) = currency_before(before(whole)) {
                (unit, whole) = (Some(currency), floor + at);
            }
            break;
        }
    }
    let mut end = range.end;
    if let Some((length, zeros)) = units::magnitude(&text[end..]) {
        let factor = BigRational::from_integer(pow(BigInt::from(10), zeros));
        value = value.map(|value| value * factor);
        end += length;
    }
    if is_symbolic(before(range.start), &text[end..]) || is_denied(before(whole)) {
        value = None;
    }
    let percent = percent(&text[end..]).inspect(|length| end += length).is_some();
    if unit.is_none()
        && let Some((known, length)) = behind(&text[end..])
    {
        (unit, end) = (Some(known), end + length);
    }
    let value = value.map(|value| if negative { -value } else { value });
    Amount { range: start..range.end, whole: whole..end, value, percent, unit }
}

/// Whether a number is part of a term: 18x, 2√3, √18, ±18, x > 18.
fn is_symbolic(before: &str, behind: &str) -> bool {
    let before = before.trim_end();
    let operator = ["\\sqrt{", "\\pm", "±", "√", "<", ">", "≤", "≥"];
    let factor = ["\\sqrt", "\\pi", "\\frac", "π", "√"];
    let mut letters = behind.chars().take_while(|c| c.is_alphabetic());
    let (first, second) = (letters.next(), letters.next());
    let variable = first.is_some_and(|c| second.is_none() && "abcdefijnpqrtuvwxyz".contains(c));
    operator.iter().any(|sign| before.ends_with(sign))
        || factor.iter().any(|sign| behind.starts_with(sign))
        || variable
}

/// Whether what stands before a number says that it is not the answer.
fn is_denied(before: &str) -> bool {
    let words = ["not", "n't", "more than", "less than", "fewer than", "at least", "at most"];
    let before = before.trim_end();
    words.iter().any(|word| {
        let tail = before.len().checked_sub(word.len()).and_then(|at| before.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word))
    })
}

/// A sign at the end of a text: whether it is a minus, and where it begins.
fn sign_before(text: &str) -> Option<(bool, usize)> {
    for word in ["minus ", "negative "] {
        let tail = text.len().checked_sub(word.len()).and_then(|at| text.get(at..));
        if tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word)) {
            return Some((true, text.len() - word.len()));
        }
    }
    let c = text.chars().next_back()?;
    let minus = match c {
        '-' | '−' | '–' => true,
        '+' => false,
        _ => return None,
    };
    let before = &text[..text.len() - c.len_utf8()];
    let tight = before.chars().next_back();
    let operand = |c: char| c.is_alphanumeric() || matches!(c, ')' | '%' | '}' | ']');
    // "7-5" and "7 -5" are differences.
    let difference = tight.is_some_and(operand)
        || before.trim_end().chars().next_back().is_some_and(|c| c.is_ascii_digit() || c == ')');
    (!difference).then_some((minus, before.len()))
}

/// The numbers that can be read as an answer, in order: each stands alone, or is what an expression
/// comes to.
pub fn readable(text: &str) -> Vec<Amount> {
    let all = amounts(text);
    let mut readable = Vec::new();
    let mut first = 0;
    while first < all.len() {
        let mut last = first;
        let mut result = first;
        while last + 1 < all.len() {
            match link(text, &all[last], &all[last + 1]) {
                Link::Apart => break,
                Link::Parts => {}
                Link::Result => result = last + 1,
            }
            last += 1;
        }
        if result == last && all[result].value.is_some() {
            readable.push(all[result].clone());
        }
        first = last + 1;
    }
    readable
}

fn link(text: &str, first: &Amount, second: &Amount) -> Link {
    let gap = &text[first.whole.end..second.whole.start.max(first.whole.end)];
    // What stands in brackets, or behind a comma, says it in other words: "540 m (0.54 km)".
    let opens =
        gap.matches('(').count() > gap.matches(')').count() && gap.contains(char::is_alphabetic);
    if (opens || gap.trim_start().starts_with('(')) && !gap.contains('=')
        || gap.trim_end().ends_with(" or") && gap.contains(',')
    {
        return Link::Apart;
    }
    let words = gap.replace("\\times", "×").replace("\\cdot", "×").replace("\\div", "÷");
    let words = words.replace("\\(", " ").replace("\\)", " ").replace("**", " ");
    let bare: String = words
        .chars()
        .filter(|c| !matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | '$' | '\\'))
        .collect();
    let bare = bare.trim();
    if bare.contains(['=', '≈']) || ["is", "equals", "makes", "gives"].contains(&bare) {
        return Link::Result;
    }
    let lower = bare.to_lowercase();
    let mut tokens: Vec<&str> = lower.split_whitespace().collect();
    let is_range = |word: &&str| ["to", "or", "through", "plus", "minus", "times"].contains(word);
    if tokens.last().is_some_and(is_range) && tokens.len() <= 3 {
        return Link::Parts;
    }
    if lower == "and" && text[..first.whole.start].trim_end().to_lowercase().ends_with("between") {
        return Link::Parts;
    }
    if let (Some(a), Some(b)) = (first.unit, second.unit)
        && add_up(a, b)
        && ["", "and", ","].contains(&lower.as_str())
    {
        return Link::Parts;
    }
    // An operator, perhaps behind a word or two: "5 apples + 3 apples".
    let Some(operator) = tokens.pop() else {
        return if gap.is_empty() { Link::Parts } else { Link::Apart };
    };
    let is_operator = |c: char| "+-−–×*·⋅÷/^:x".contains(c);
    let alone = operator.chars().count() == 1 && operator.chars().all(is_operator);
    let spelled = tokens.iter().all(|t| t.chars().all(char::is_alphabetic)) && tokens.len() <= 2;
    // A colon or a dash between words separates them: "3 apples: 4 pears".
    let between = tokens.is_empty() || !matches!(operator, ":" | "–");
    if alone && spelled && between && !(operator == ":" && gap.contains(' ')) {
        return Link::Parts;
    }
    Link::Apart
}
