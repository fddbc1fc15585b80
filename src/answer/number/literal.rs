//! One number as it stands in a text: digits in groups, decimals of both conventions, fractions, powers
//! of ten.

use std::ops::Range;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero, pow};

/// The most digits that a number may have, and the greatest power of ten: beyond, a text is not read as
/// a number, so that none can take unbounded memory.
const MOST: usize = 400;
/// Signs of multiplication before a power of ten.
const TIMES: [&str; 7] = ["×", "·", "⋅", "*", "x", "\\times", "\\cdot"];
/// LaTeX's fractions.
const FRACTIONS: [&str; 3] = ["\\frac", "\\dfrac", "\\tfrac"];
/// Characters that are fractions.
const VULGAR: [(char, u8, u8); 15] = [
    ('½', 1, 2),
    ('⅓', 1, 3),
    ('⅔', 2, 3),
    ('¼', 1, 4),
    ('¾', 3, 4),
    ('⅕', 1, 5),
    ('⅖', 2, 5),
    ('⅗', 3, 5),
    ('⅘', 4, 5),
    ('⅙', 1, 6),
    ('⅚', 5, 6),
    ('⅛', 1, 8),
    ('⅜', 3, 8),
    ('⅝', 5, 8),
    ('⅞', 7, 8),
];

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    pub range: Range<usize>,
    /// `None` for digits that are no number: a date, a version, a list without spaces.
    pub value: Option<BigRational>,
}

/// Whether a number may begin at `at`.
pub fn begins(text: &str, at: usize) -> bool {
    let rest = &text[at..];
    let mut chars = rest.chars();
    match chars.next() {
        Some(c) if c.is_ascii_digit() || vulgar(c).is_some() => true,
        Some('.') => chars.next().is_some_and(|c| c.is_ascii_digit()),
        Some('\\') => FRACTIONS.iter().any(|name| rest.starts_with(name)),
        _ => false,
    }
}

/// The number that begins at `at`; something does if [`begins`] says so.
pub fn read(text: &str, at: usize) -> Option<Literal> {
    let rest = &text[at..];
    if let Some((length, value)) = latex_fraction(rest) {
        return Some(Literal { range: at..at + length, value });
    }
    let numeral = numeral(rest);
    let (mut end, mut value) = (numeral.end, numeral.value.clone());
    let behind = &rest[end..];
    if let Some(c) = behind.chars().next()
        && let Some(part) = vulgar(c)
    {
        // "1½"
        value = if end == 0 { Some(part) } else { numeral.whole().map(|whole| whole + part) };
        end += c.len_utf8();
    } else if end == 0 {
        return None;
    } else if let Some((length, exponent)) = exponent(behind) {
        value = value.zip(exponent).and_then(|(value, exponent)| scaled(value, exponent));
        end += length;
    } else if let Some((length, below)) = denominator(behind) {
        value = numeral.whole().zip(below).and_then(|(above, below)| ratio(above, below));
        end += length;
    } else if let Some((length, part)) = numeral.whole().and_then(|_| mixed(behind)) {
        value = numeral.whole().map(|whole| whole + part);
        end += length;
    }
    Some(Literal { range: at..at + end, value })
}

fn vulgar(c: char) -> Option<BigRational> {
    let (_, above, below) = VULGAR.iter().find(|(known, ..)| *known == c)?;
    Some(BigRational::new(BigInt::from(*above), BigInt::from(*below)))
}

/// Digits, perhaps in groups, perhaps with decimals.
struct Numeral {
    end: usize,
    value: Option<BigRational>,
    /// Whether it is plain digits.
    plain: bool,
}

impl Numeral {
    /// Its value if it can be a part of a fraction.
    fn whole(&self) -> Option<BigRational> {
        self.value.clone().filter(|_| self.plain)
    }
}

fn digits(text: &str) -> &str {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

/// What separates groups: how many bytes it has, and the sign that stands for it.
fn separator(text: &str) -> Option<(usize, char)> {
    for (spelling, sign) in [("{,}", ','), ("\\,", ' ')] {
        if text.starts_with(spelling) {
            return Some((spelling.len(), sign));
        }
    }
    let c = text.chars().next()?;
    let sign = match c {
        '.' | ',' => c,
        '\'' | '’' | '_' => '\'',
        ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' => ' ',
        _ => return None,
    };
    Some((c.len_utf8(), sign))
}

fn numeral(text: &str) -> Numeral {
    let first = digits(text);
    let mut groups = vec![(' ', first)];
    let (mut end, mut threes) = (first.len(), true);
    while let Some((length, sign)) = separator(&text[end..]) {
        let next = digits(&text[end + length..]);
        // A space or an apostrophe only separates groups of three; else the number is over.
        let loose = matches!(sign, ' ' | '\'');
        threes &= groups.len() == 1 || groups[groups.len() - 1].1.len() == 3;
        let grouped = next.len() == 3 && (1..=3).contains(&groups[0].1.len()) && threes;
        if next.is_empty() || (loose && !grouped) || groups.len() > MOST {
            break;
        }
        groups.push((sign, next));
        end += length + next.len();
    }
    let value = value_of(&groups);
    Numeral { end, value, plain: groups.len() == 1 }
}

/// The value of groups of digits with the sign before each.
fn value_of(groups: &[(char, &str)]) -> Option<BigRational> {
    let (first, rest) = groups.split_first()?;
    let signs: Vec<char> = rest.iter().map(|(sign, _)| *sign).collect();
    let (last, before) = match signs.split_last() {
        None => return decimal(first.1, ""),
        Some((last, before)) => (*last, before),
    };
    let joined =
        |groups: &[(char, &str)]| groups.iter().map(|(_, group)| *group).collect::<String>();
    let all = joined(groups);
    let whole = joined(&groups[..groups.len() - 1]);
    let decimals = rest.last().map_or("", |(_, group)| *group);
    let uniform = before.iter().all(|sign| *sign == last);
    if uniform && are_thousands(groups) {
        // One full stop is a decimal one: 1.234.
        return match (last, before.is_empty()) {
            ('.', true) => decimal(&whole, decimals),
            _ => decimal(&all, ""),
        };
    }
    let is_point = last == '.' || last == ',';
    match before {
        [] if is_point => decimal(&whole, decimals),
        [] => None,
        _ if uniform => None,
        _ => {
            let grouping = before[0];
            let same = before.iter().all(|sign| *sign == grouping);
            let grouped = are_thousands(&groups[..groups.len() - 1]);
            (is_point && same && grouped).then(|| decimal(&whole, decimals))?
        }
    }
}

/// Whether the groups are of three digits, or as in India of two and then three.
fn are_thousands(groups: &[(char, &str)]) -> bool {
    let Some(((_, first), rest)) = groups.split_first() else { return false };
    let Some(((_, last), middle)) = rest.split_last() else { return false };
    let leads = !first.is_empty() && !first.starts_with('0');
    let of = |size: usize| middle.iter().all(|(_, group)| group.len() == size);
    let western = first.len() <= 3 && of(3);
    let indian = first.len() <= 2 && !middle.is_empty() && of(2) && rest[0].0 == ',';
    leads && last.len() == 3 && (western || indian)
}

fn decimal(whole: &str, decimals: &str) -> Option<BigRational> {
    let all = [whole, decimals].concat();
    if all.is_empty() || all.len() > MOST {
        return None;
    }
    let number = all.parse::<BigInt>().ok()?;
    Some(BigRational::new(number, ten_to(decimals.len())))
}

fn ten_to(exponent: usize) -> BigInt {
    pow(BigInt::from(10), exponent)
}

fn ratio(above: BigRational, below: BigRational) -> Option<BigRational> {
    (!below.is_zero()).then(|| above / below)
}

fn scaled(value: BigRational, exponent: i64) -> Option<BigRational> {
    let size = usize::try_from(exponent.unsigned_abs()).ok().filter(|size| *size <= MOST)?;
    let factor = BigRational::from_integer(ten_to(size));
    Some(if exponent < 0 { value / factor } else { value * factor })
}

/// A power of ten behind a number: how many bytes it has, and the exponent if it is bearable.
fn exponent(text: &str) -> Option<(usize, Option<i64>)> {
    if let Some(rest) = text.strip_prefix(['e', 'E']) {
        let (length, value) = signed(rest)?;
        let over = rest[length..].chars().next().is_none_or(|c| !c.is_alphanumeric());
        return over.then_some((1 + length, value));
    }
    let blank = |text: &str| text.len() - text.trim_start_matches(' ').len();
    let mut at = blank(text);
    let times = TIMES.iter().find(|times| text[at..].starts_with(**times))?;
    at += times.len();
    at += blank(&text[at..]);
    at += "10".len().min(text[at..].strip_prefix("10").map(|_| 2)?);
    let power = &text[at..];
    let (length, value) = match power.strip_prefix('^') {
        Some(rest) => match rest.strip_prefix('{') {
            Some(inner) => {
                let (length, value) = signed(inner)?;
                inner[length..].strip_prefix('}')?;
                (length + 3, value)
            }
            None => signed(rest).map(|(length, value)| (length + 1, value))?,
        },
        None => superscript(power)?,
    };
    Some((at + length, value))
}

/// A whole number with a sign: its bytes, and its value if that is bearable.
fn signed(text: &str) -> Option<(usize, Option<i64>)> {
    let sign = text.chars().next().filter(|c| matches!(c, '+' | '-' | '−'));
    let skipped = sign.map_or(0, char::len_utf8);
    let number = digits(&text[skipped..]);
    let factor = if matches!(sign, Some('-' | '−')) { -1 } else { 1 };
    let value = number.parse::<i64>().ok().map(|n| n * factor);
    (!number.is_empty()).then_some((skipped + number.len(), value))
}

fn superscript(text: &str) -> Option<(usize, Option<i64>)> {
    const DIGITS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹";
    let mut plain = String::new();
    let mut length = 0;
    for c in text.chars() {
        match DIGITS.chars().position(|d| d == c) {
            Some(n) => plain.push((b'0' + n as u8) as char),
            None if c == '⁻' && plain.is_empty() => plain.push('-'),
            None => break,
        }
        length += c.len_utf8();
    }
    (length > 0).then(|| (length, plain.parse().ok()))
}

/// "/2" behind a number; no value where more follows, as in a date.
fn denominator(text: &str) -> Option<(usize, Option<BigRational>)> {
    let slash = text.chars().next().filter(|c| matches!(c, '/' | '⁄'))?.len_utf8();
    let below = digits(&text[slash..]);
    if below.is_empty() {
        return None;
    }
    let mut end = slash + below.len();
    let mut value = decimal(below, "");
    loop {
        let rest = &text[end..];
        let Some(more) = rest.strip_prefix(['/', '.']).map(digits).filter(|more| !more.is_empty())
        else {
            return Some((end, value));
        };
        value = None;
        end += 1 + more.len();
    }
}

/// " 1/2" behind a whole number.
fn mixed(text: &str) -> Option<(usize, BigRational)> {
    let spaced = text.strip_prefix(' ');
    let rest = spaced.unwrap_or(text);
    if let Some((length, value)) = latex_fraction(rest) {
        return value.map(|value| (text.len() - rest.len() + length, value));
    }
    // In digits alone only a space tells the parts apart.
    let rest = spaced?;
    let above = digits(rest);
    let (length, below) = denominator(&rest[above.len()..])?;
    let part = ratio(decimal(above, "")?, below?)?;
    (part < BigRational::one()).then_some((1 + above.len() + length, part))
}

/// `\frac{1}{2}` or `\frac12` at the beginning: its bytes and its value.
fn latex_fraction(text: &str) -> Option<(usize, Option<BigRational>)> {
    let name = FRACTIONS.iter().find(|name| text.starts_with(**name))?;
    let argument = |at: usize| -> Option<(usize, &str)> {
        let rest = &text[at..];
        if let Some(inner) = rest.strip_prefix('{') {
            let number = digits(inner);
            inner[number.len()..].strip_prefix('}')?;
            return Some((at + number.len() + 2, number));
        }
        let one = rest.get(..1).filter(|c| c.bytes().all(|b| b.is_ascii_digit()))?;
        Some((at + 1, one))
    };
    let (middle, above) = argument(name.len())?;
    let (end, below) = argument(middle)?;
    let value = decimal(above, "").zip(decimal(below, "")).and_then(|(a, b)| ratio(a, b));
    Some((end, value))
}
