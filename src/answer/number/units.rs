//! Units that people write behind or before a number, and which of them are the same.

/// A unit that is known; spellings of one have the same.
pub type Unit = &'static str;

/// Spellings, the first of which is the unit's name. Compared in lower case, without a plural's s.
const UNITS: &[&[&str]] = &[
    &["$", "usd", "us$", "dollar"],
    &["€", "eur", "euro"],
    &["£", "gbp"],
    &["¥", "jpy", "yen", "cny", "yuan"],
    &["₹", "inr", "rupee"],
    &["¢", "cent"],
    &["km", "kilometer", "kilometre"],
    &["m", "meter", "metre"],
    &["cm", "centimeter", "centimetre"],
    &["mm", "millimeter", "millimetre"],
    &["mi", "mile"],
    &["yd", "yard"],
    &["ft", "foot", "feet"],
    &["inch", "inche"],
    &["kg", "kilogram", "kilo"],
    &["g", "gram"],
    &["mg", "milligram"],
    &["lb"],
    &["oz", "ounce"],
    &["l", "liter", "litre"],
    &["ml", "milliliter", "millilitre"],
    &["gal", "gallon"],
    &["s", "sec", "second"],
    &["min", "minute"],
    &["h", "hr", "hour"],
    &["day"],
    &["week"],
    &["month"],
    &["year", "yr"],
    &["km/h", "kph"],
    &["mph"],
    &["°c", "celsiu"],
    &["°f", "fahrenheit"],
];
/// Units of which people put several in a row: "2 hours 30 minutes".
const PARTS: &[&[Unit]] = &[
    &["day", "week", "month", "year", "h", "min", "s"],
    &["ft", "inch", "yd", "mi"],
    &["m", "cm", "mm", "km"],
    &["kg", "g", "lb", "oz"],
    &["$", "¢", "€", "£"],
];

/// The unit that a word or sign names.
pub fn known(word: &str) -> Option<Unit> {
    let lower = word.to_lowercase();
    let singular = lower.strip_suffix('s').filter(|stem| !stem.is_empty());
    let matches = |spelling: &&str| *spelling == lower || Some(*spelling) == singular;
    UNITS.iter().find(|unit| unit.iter().any(matches)).map(|unit| unit[0])
}

/// Whether amounts in these units are put in a row to be one.
pub fn add_up(first: Unit, second: Unit) -> bool {
    first != second && PARTS.iter().any(|parts| parts.contains(&first) && parts.contains(&second))
}

/// A currency at the end of a text: its unit, and where it begins.
pub fn currency_before(text: &str) -> Option<(Unit, usize)> {
    let trimmed = text.trim_end_matches([' ', '\u{a0}']);
    for sign in ["US$", "\\$", "$", "€", "£", "¥", "₹", "USD", "EUR", "GBP", "JPY", "INR"] {
        let Some(before) = trimmed.strip_suffix(sign) else { continue };
        let is_word = sign.chars().all(char::is_alphabetic);
        if is_word && before.chars().next_back().is_some_and(char::is_alphanumeric) {
            continue;
        }
        // "$ 18" may be the end of LaTeX's mathematics; a word needs its space.
        if trimmed.len() < text.len() && !is_word && sign != "€" {
            return None;
        }
        return known(sign.trim_start_matches('\\')).map(|unit| (unit, before.len()));
    }
    None
}

/// The unit behind a number: the sign or word, after at most one space, and where it ends.
pub fn behind(text: &str) -> Option<(Unit, usize)> {
    let skipped = text.strip_prefix([' ', '\u{a0}', '-']).map_or(0, |rest| text.len() - rest.len());
    let rest = &text[skipped..];
    let is_part =
        |c: char| c.is_alphabetic() || matches!(c, '/' | '°' | '$' | '€' | '£' | '¥' | '¢' | '₹');
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    // "cm^2" and "cm²" are no powers of the number.
    let power = ["^{2}", "^{3}", "^2", "^3", "²", "³"];
    let power = power.iter().find(|power| rest[end..].starts_with(**power)).map_or(0, |p| p.len());
    let word = rest[..end].trim_end_matches('/');
    let unit = known(word).or((power > 0 && !word.is_empty()).then_some("area"));
    unit.map(|unit| (unit, skipped + end + power))
}

/// A word for a power of ten behind a number: how many bytes it has, and the zeros it stands for.
pub fn magnitude(text: &str) -> Option<(usize, usize)> {
    let rest = text.strip_prefix([' ', '\u{a0}'])?;
    let words = [("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12)];
    words.into_iter().find_map(|(word, zeros)| {
        let head = rest.get(..word.len())?;
        let whole = !rest[word.len()..].starts_with(char::is_alphanumeric);
        (head.eq_ignore_ascii_case(word) && whole)
            .then(|| (text.len() - rest.len() + word.len(), zeros))
    })
}

/// A percent sign or word behind a number, and where it ends.
pub fn percent(text: &str) -> Option<usize> {
    let rest = text.trim_start_matches([' ', '\u{a0}', '\u{202f}']);
    let skipped = text.len() - rest.len();
    if skipped > 2 {
        return None;
    }
    let sign =
        ["%", "\\%", "percent", "per cent"].into_iter().find(|sign| rest.starts_with(sign))?;
    Some(skipped + sign.len())
}
