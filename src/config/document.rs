//! A TOML document that remembers where everything stands, and becomes typed settings in spite of
//! errors: each wrong key is noted and taken out until the rest can be read.
//!
//! Knows nothing of what the settings are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::error::{ConfigError, ConfigErrors};
use super::keys::Keys;
use super::messages;

/// Largest file that is read, in bytes: a hundred times the reference file.
pub const MAX_BYTES: u64 = 1 << 20;
/// Errors after which reading ends; more only scroll the first ones away.
const MAX_ERRORS: usize = 50;

/// Reads the text of a file. Only a regular file will do: a pipe would block, a device never ends.
pub fn read(path: &Path) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| cannot(e.into()))?;
    let file = std::fs::File::from(file);
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() {
        return Err("is not a regular file: give the path of a TOML file".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "is larger than {} KiB: this is not a configuration of latrod",
            MAX_BYTES >> 10
        ));
    }
    String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        format!("is not UTF-8 text (line {}): save it as UTF-8", line_of(valid, valid.len()))
    })
}

/// One step of the way to a value.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Element(usize),
}

/// A document and what has been found wrong with it.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    errors: Vec<ConfigError>,
    complete: bool,
    /// Keys and sections that an error speaks of already, so that nothing is said about them twice.
    spoken_of: BTreeSet<String>,
    /// Keys that were probably meant by others: that they are missing is known as well.
    meant: BTreeSet<String>,
}

impl<'t> Document<'t> {
    /// Parses TOML. Keys that are given twice are noted and their first value kept; at the first
    /// other syntax error it ends, since what a parser makes of the rest is guesswork.
    pub fn parse(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            text,
            root,
            errors: Vec::new(),
            complete: true,
            spoken_of: BTreeSet::new(),
            meant: BTreeSet::new(),
        };
        for error in errors {
            let span = error.span().unwrap_or_default();
            if error.message() == "duplicate key" {
                document.duplicate(span);
            } else {
                document.complete = false;
                let sentence = format!("this is not TOML: {}", error.message());
                document.add(span.start, String::new(), sentence, None);
                break;
            }
        }
        document
    }

    /// The settings that the document gives, errors left out; `None` if there is no going on.
    /// Whether they can be used says [`Self::is_clean`].
    pub fn settings<T: DeserializeOwned>(&mut self, keys: &Keys) -> Option<T> {
        while self.complete {
            let error = match T::deserialize(Deserializer::from(self.root.clone())) {
                Ok(settings) => return Some(settings),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let path = self.locate(&span);
            let (key, value) = (name(&path), value_at(self.root.get_ref(), &path));
            let message = messages::translate(error.message(), value, &key, keys);
            self.add(span.start, key.clone(), message.sentence, message.suggestion.clone());
            if let Some(meant) = message.suggestion {
                let section = key.rsplit_once('.').map(|(section, _)| format!("{section}."));
                self.meant.insert(format!("{}{meant}", section.unwrap_or_default()));
            }
            self.spoken_of.insert(key);
            // Nothing was found where the error is: it cannot be taken out, so this is the end.
            if path.is_empty() || !remove(self.root.get_mut(), &path) {
                self.complete = false;
            }
        }
        None
    }

    /// Notes that the value at `key`, for example `learn.rank`, cannot be used.
    pub fn refuse(&mut self, key: &str, sentence: impl Into<String>) {
        let covered = |spoken: &String| {
            key == spoken || key.strip_prefix(spoken.as_str()).is_some_and(|k| k.starts_with('.'))
        };
        if !self.meant.contains(key) && !self.spoken_of.iter().any(covered) {
            self.add(self.place(key), key.into(), sentence.into(), None);
        }
    }

    /// Whether nothing wrong was found.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// All that was found wrong, in the file's order.
    pub fn into_errors(mut self, path: &Path) -> ConfigErrors {
        self.errors.sort_by_key(|error| error.line);
        ConfigErrors { path: path.into(), errors: self.errors, complete: self.complete }
    }

    fn add(&mut self, at: usize, key: String, sentence: String, suggestion: Option<String>) {
        if self.errors.len() == MAX_ERRORS {
            self.complete = false;
            return;
        }
        let line = Some(line_of(self.text.as_bytes(), at));
        self.errors.push(ConfigError { line, key, sentence, suggestion });
    }

    /// A key given twice: its first value counts. The document holds only the first one, so the
    /// section comes from the text.
    fn duplicate(&mut self, span: Range<usize>) {
        let word = self.text.get(span.clone()).unwrap_or_default();
        let before = self.text.get(..span.start).unwrap_or_default();
        let (before, this_line) = before.rsplit_once('\n').unwrap_or(("", before));
        let is_header = this_line.trim_start().starts_with('[');
        let header = before.lines().rev().find(|line| line.trim_start().starts_with('['));
        let section = header.map(|h| h.trim().trim_matches(['[', ']']).trim());
        let (key, what) = match section {
            _ if is_header => (word.to_owned(), "this section"),
            Some(section) => (format!("{section}.{word}"), "this key"),
            None => (word.to_owned(), "this key"),
        };
        self.add(span.start, key, format!("{what} is given twice: remove one of them"), None);
    }

    /// Where `key` stands; else its section's header; else the beginning.
    fn place(&self, key: &str) -> usize {
        let mut at = 0;
        let mut table = Some(self.root.get_ref());
        for part in key.split('.') {
            let Some((found, value)) = table.and_then(|table| table.get_key_value(part)) else {
                break;
            };
            at = found.span().start;
            table = value.get_ref().as_table();
        }
        at
    }

    /// The way to the innermost key or element that `span` lies in.
    fn locate(&self, span: &Range<usize>) -> Vec<Step> {
        let mut path = Vec::new();
        if !in_table(self.root.get_ref(), span, &mut path) {
            path.clear();
        }
        path
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// Headers cover only themselves and not what is below them, so every entry is looked into.
fn in_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(Step::Key(key.get_ref().clone().into_owned()));
        let found = in_value(value, span, path) || covers(&key.span(), span);
        if !found {
            path.pop();
        }
        found
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => in_table(table, span, path),
        DeValue::Array(array) => array.iter().enumerate().any(|(i, element)| {
            path.push(Step::Element(i));
            let found = in_value(element, span, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    };
    inside || covers(&value.span(), span)
}

fn value_at<'a, 't>(table: &'a DeTable<'t>, path: &[Step]) -> Option<&'a DeValue<'t>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    rest.iter().try_fold(table.get(key.as_str())?.get_ref(), |value, step| match step {
        Step::Key(key) => value.as_table()?.get(key.as_str()).map(Spanned::get_ref),
        Step::Element(i) => value.as_array()?.get(*i).map(Spanned::get_ref),
    })
}

/// Takes out what `path` leads to; false if nothing is there.
fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some((Step::Key(key), rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(key.as_str()).is_some();
    }
    table.get_mut(key.as_str()).is_some_and(|value| remove_in(value.get_mut(), rest))
}

fn remove_in(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(array), [Step::Element(i)]) => {
            let mut kept = DeArray::new();
            let others = array.iter().enumerate().filter(|(j, _)| j != i);
            others.for_each(|(_, element)| kept.push(element.clone()));
            let removed = kept.len() < array.len();
            *array = kept;
            removed
        }
        (DeValue::Array(array), [Step::Element(i), rest @ ..]) => {
            array.get_mut(*i).is_some_and(|element| remove_in(element.get_mut(), rest))
        }
        _ => false,
    }
}

/// The path as a person writes it, without the places in lists.
fn name(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(shown(key)),
        Step::Element(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

/// A key in a message: on one line and of bounded length, whatever the file says.
fn shown(key: &str) -> Cow<'_, str> {
    const MOST: usize = 80;
    if key.len() <= MOST && !key.chars().any(char::is_control) {
        return key.into();
    }
    key.chars().take(MOST).map(|c| if c.is_control() { '�' } else { c }).collect::<String>().into()
}

/// The number of the line, from 1, that the byte at `at` stands on.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
