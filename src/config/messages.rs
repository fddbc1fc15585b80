//! serde's messages in the words of someone who writes a configuration file.
//!
//! Strings of the file are not repeated, except for names of keys and of choices.

use toml::de::DeValue;

use super::keys::Keys;
use super::suggest::nearest;

/// What is said about a key that could not be read.
#[derive(Debug, PartialEq)]
pub struct Message {
    /// What is wrong, and what to write instead.
    pub sentence: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// Says what serde's `message` means for `key`, whose value in the file is `value`; `keys` are
/// all that there are.
pub fn translate(message: &str, value: Option<&DeValue<'_>>, key: &str, keys: &Keys) -> Message {
    if message.starts_with("unknown field ") {
        return unknown_key(message, value, key, keys);
    }
    let mut words = quoted(message);
    if message.starts_with("unknown variant ") {
        let given = words.next().unwrap_or_default();
        let known: Vec<&str> = words.collect();
        let suggestion = nearest(given, known.iter().copied()).map(|meant| format!("{meant:?}"));
        let known = known.iter().map(|choice| format!("{choice:?}")).collect::<Vec<_>>();
        return Message { sentence: format!("use one of {}", known.join(", ")), suggestion };
    }
    let found = value.map_or("something else", |value| match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    });
    let sentence = match message.split_once(", expected ") {
        Some((before, expected)) if before.starts_with("invalid ") => {
            let number = before.strip_prefix("invalid value: integer `");
            let found = number.map_or(found, |n| n.trim_end_matches('`'));
            format!("this is {found}, expected {}", in_plain_words(expected, key))
        }
        _ if message == "wanted string or table" => {
            format!("this is {found}, expected a word in quotes")
        }
        _ => message.to_owned(),
    };
    Message { sentence, suggestion: None }
}

fn unknown_key(message: &str, value: Option<&DeValue<'_>>, key: &str, keys: &Keys) -> Message {
    let mut words = quoted(message);
    let given = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    let kind = if value.is_some_and(DeValue::is_table) { "section" } else { "key" };
    let (section, word) = key.rsplit_once('.').unwrap_or(("", key));
    if let Some(meant) = nearest(given, known.iter().copied()) {
        let suggestion = Some(meant.to_owned());
        return Message { sentence: format!("there is no such {kind}"), suggestion };
    }
    let sentence = match keys.section_of(word, section) {
        Some(other) => format!("there is no such key here; it belongs to [{other}]"),
        None if !section.is_empty() && keys.is_at_the_top(word) => {
            "there is no such key here; it belongs to the top of the file, before all sections"
                .into()
        }
        None => format!("there is no such {kind}"),
    };
    Message { sentence, suggestion: None }
}

/// What serde expects, by the names of Rust's types.
fn in_plain_words(expected: &str, key: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" => "a text in quotes".into(),
        "a sequence" => "a list in square brackets".into(),
        "path string" => "a path in quotes".into(),
        other if other.starts_with("struct ") => format!("a section [{key}]"),
        other => other.into(),
    }
}

/// The words in backquotes. serde puts them around every name.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}
