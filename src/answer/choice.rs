//! Multiple choice: the label of an option, however it is written, or the option's own text.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::Reader;
use super::text::{Words, last_line};
use super::trim::{self, is_space, sentence, sentences};

/// An option on a line of its own: "A. iron", "(B) wood", "3) gold".
static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?m)^[ \t]*[-*]?[ \t]*\(?([A-Za-z]|[0-9]{1,2})[.):][ \t]+(\S.*)$").ok()
});
/// Options in a row: "(A) iron (B) wood".
static INLINE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\(([A-J])\)[ \t]*([^()\n]+)").ok());
/// Words before a label.
const LEADS: [&str; 6] = ["option", "choice", "letter", "answer", "statement", "alternative"];
/// Words behind a label that don't make it a sentence's first word.
const FOLLOWS: [&str; 12] = [
    "because", "since", "as", "is", "which", "for", "due", "given", "would", "seems", "based",
    "with",
];
/// Words that stand before a label without saying anything about it.
const ADVERBS: [&str; 12] = [
    "likely",
    "most",
    "probably",
    "definitely",
    "clearly",
    "therefore",
    "thus",
    "so",
    "indeed",
    "actually",
    "only",
    "clear",
];
/// Words that name a label in a sentence without an announcement.
const NAMING: [&str; 11] =
    ["is", "be", "it's", "its", "choose", "pick", "select", "thus", "so", "therefore", "hence"];
/// Signs that close a label.
const LABEL_ENDS: [char; 10] = ['.', ')', ']', '}', ',', ';', ':', '-', '–', '—'];
/// The most options that a question may list.
const MOST_OPTIONS: usize = 26;
/// Characters of a line in which an option may be named.
const NAMED_WITHIN: usize = 2_000;
/// Labels of questions that list no options.
const LETTERS: &str = "ABCDEFGHIJ";

/// The options of a question and the wanted one.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Label, text and the text's words; none if the question lists no options.
    options: Vec<(String, String, Words)>,
    wanted: String,
}

/// A label that was read, and where it stands.
struct Label {
    label: String,
    range: Range<usize>,
}

impl Choice {
    /// The answer among the question's options. `None` if it is none of them; where there are none,
    /// unless it is a capital letter up to J (`must` takes any single letter or digit).
    pub fn new(question: &str, answer: &str, must: bool) -> Option<Self> {
        let options = options(question);
        let answer = answer.trim_matches(is_space);
        if options.is_empty() {
            let bare = answer.trim_start_matches('(').trim_end_matches([')', '.']);
            let letter = bare.len() == 1 && bare.chars().all(|c| LETTERS.contains(c));
            let single =
                must && bare.chars().count() == 1 && bare.chars().all(char::is_alphanumeric);
            return (letter || single).then(|| Self { options, wanted: bare.to_uppercase() });
        }
        let bare = answer.trim_start_matches('(').trim_end_matches([')', '.']);
        if let Some((label, ..)) = options.iter().find(|(label, ..)| label == bare) {
            let wanted = label.clone();
            return Some(Self { options, wanted });
        }
        let normal = Words::normal(answer);
        let mut same = options.iter().filter(|(_, text, _)| Words::normal(text) == normal);
        let (first, second) = (same.next(), same.next());
        let wanted = first.filter(|_| second.is_none() && !normal.is_empty())?.0.clone();
        Some(Self { options, wanted })
    }

    /// The text of the wanted option, if `value` is a text and not a label.
    pub fn in_form_of(&self, value: &str) -> Option<&str> {
        if self.is_label(value) {
            return Some(&self.wanted);
        }
        self.options
            .iter()
            .find(|(label, ..)| *label == self.wanted)
            .map(|(_, text, _)| text.as_str())
    }

    fn is_label(&self, word: &str) -> bool {
        match self.options.is_empty() {
            true => {
                word.len() == 1 && word.to_uppercase().chars().all(|c| LETTERS.contains(c))
                    || word == self.wanted
            }
            false => self.options.iter().any(|(label, ..)| label == word),
        }
    }

    /// The label as the question writes it.
    fn listed(&self, word: &str) -> Option<String> {
        let upper = word.to_uppercase();
        match self.options.is_empty() {
            true => self.is_label(&upper).then_some(upper),
            false => {
                let exact = self.options.iter().find(|(label, ..)| label == word);
                let loose =
                    || self.options.iter().find(|(label, ..)| label.to_uppercase() == upper);
                exact.or_else(loose).map(|(label, ..)| label.clone())
            }
        }
    }

    /// What is said first: a label or an option's text.
    fn read(&self, said: &str) -> Option<Label> {
        let mut start = trim::start(said);
        for _ in 0..2 {
            let word: String = said[start..].chars().take_while(|c| c.is_alphabetic()).collect();
            if !ADVERBS.contains(&word.to_lowercase().as_str()) {
                break;
            }
            let rest = &said[start + word.len()..];
            start += word.len()
                + trim::start(rest.trim_start_matches(','))
                + (rest.len() - rest.trim_start_matches(',').len());
        }
        self.label(said, start).or_else(|| self.option(said, start))
    }

    /// A label at `start`, perhaps behind "option".
    fn label(&self, said: &str, start: usize) -> Option<Label> {
        let mut at = start;
        let mut led = false;
        for lead in LEADS {
            let head = said[at..].get(..lead.len());
            if head.is_some_and(|head| head.eq_ignore_ascii_case(lead)) {
                let rest = &said[at + lead.len()..];
                if rest.starts_with(char::is_alphanumeric) {
                    continue;
                }
                at += lead.len() + trim::start(rest);
                led = true;
                break;
            }
        }
        let rest = &said[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let word = &rest[..end];
        let label = self.listed(word)?;
        let range = at..at + end;
        let enclosed = said[..at].ends_with(['(', '[', '*', '{', '`', '"', '\'']) || led;
        self.stands_alone(&rest[end..], word, &label, enclosed).then_some(Label { label, range })
    }

    /// Whether a label with this text behind it is meant as one.
    fn stands_alone(&self, behind: &str, word: &str, label: &str, enclosed: bool) -> bool {
        let behind = behind.split(['\n', '\r']).next().unwrap_or_default();
        let rest = behind.trim_start_matches(LABEL_ENDS);
        let rest = &rest[trim::start(rest)..];
        let signed = behind.starts_with(|c: char| !c.is_alphanumeric() && !is_space(c));
        let first =
            |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric()).collect() };
        let next = first(rest);
        // "A and B", "A, B", "A or B": no choice at all.
        if ["and", "or", "&"].contains(&next.to_lowercase().as_str()) || rest.starts_with('&') {
            let after = rest[next.len()..].trim_start_matches(|c: char| !c.is_alphanumeric());
            if self.listed(&first(after)).is_some() {
                return false;
            }
        }
        let is_other = self.listed(&next).is_some_and(|other| other != label);
        if is_other
            && next.chars().count() == 1
            && next != "a"
            && behind.trim_start().starts_with([',', '/', '&'])
        {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        // A text behind the label must not be that of another option.
        if let Some(other) = self.option(rest, 0) {
            return other.label == label;
        }
        // "A. Because the …" or "C is correct": but "a piece of wood" is no label.
        let capital = word.chars().all(|c| c.is_uppercase() || c.is_ascii_digit());
        if signed {
            return capital || enclosed || behind.starts_with([')', '.', ':']);
        }
        // "A is incorrect" names A to leave it out.
        let lower = rest.to_lowercase();
        let denied =
            ["is not", "is incorrect", "is wrong", "is false", "isn't", "was not", "cannot"];
        if denied.iter().any(|words| lower.starts_with(words)) {
            return false;
        }
        let follows = FOLLOWS.contains(&next.to_lowercase().as_str());
        capital && (follows || !matches!(word, "A" | "I"))
    }

    /// The option whose text stands at `start`; the longest, where one begins as another does.
    fn option(&self, said: &str, start: usize) -> Option<Label> {
        let matching = self.options.iter().filter_map(|(label, _, words)| {
            let range = words.match_at_start(&said[start..])?;
            Some(Label { label: label.clone(), range: start + range.start..start + range.end })
        });
        matching.max_by_key(|found| found.range.len())
    }

    /// Where a line names one option alone: "… so (B) is right".
    fn named(&self, line: &str) -> Option<Range<usize>> {
        let mut found: Option<Label> = None;
        for (at, c) in line.char_indices().take(NAMED_WITHIN) {
            let opens = matches!(c, '(' | '[') || line[at..].starts_with("**");
            let leads = LEADS.iter().any(|lead| {
                line[at..].get(..lead.len()).is_some_and(|head| head.eq_ignore_ascii_case(lead))
            });
            // "So it must be D.": a capital alone at the end of what is said.
            let named = !line[..at].ends_with(char::is_alphanumeric) && {
                let before = line[..at].split_whitespace().next_back().unwrap_or_default();
                let behind = line[at + c.len_utf8()..].trim_matches(|c: char| !c.is_alphanumeric());
                c.is_uppercase()
                    && NAMING.contains(
                        &before.to_lowercase().trim_end_matches(',').trim_end_matches(':'),
                    )
                    && (behind.is_empty() || behind.to_lowercase().starts_with("is "))
            };
            if !opens && !leads && !named {
                continue;
            }
            let Some(label) = self.label(line, at + trim::start(&line[at..])) else { continue };
            match &found {
                Some(other) if other.label != label.label => return None,
                Some(_) => {}
                None => found = Some(label),
            }
        }
        found.map(|label| label.range.start..line.len())
    }

    /// The one option whose text a line holds.
    fn held(&self, line: &str) -> Option<Range<usize>> {
        let starts = line
            .char_indices()
            .filter(|(at, c)| c.is_alphanumeric() && !line[..*at].ends_with(char::is_alphanumeric));
        let mut found: Option<Label> = None;
        for (at, _) in starts.take(200) {
            let Some(option) = self.option(line, at) else { continue };
            match &found {
                Some(other) if other.label != option.label => return None,
                Some(_) => {}
                None => found = Some(option),
            }
        }
        found.map(|option| option.range)
    }
}

fn options(question: &str) -> Vec<(String, String, Words)> {
    for pattern in [&LINE, &INLINE] {
        let Some(pattern) = pattern.as_ref() else { continue };
        let mut options: Vec<(String, String, Words)> = Vec::new();
        for found in pattern.captures_iter(question).take(MOST_OPTIONS + 1) {
            let (label, text) = (found[1].to_owned(), found[2].trim().to_owned());
            let words = Words::new(&text);
            options.push((label, text, words));
        }
        let distinct = options
            .iter()
            .enumerate()
            .all(|(n, (label, ..))| options[..n].iter().all(|(other, ..)| other != label));
        if (2..=MOST_OPTIONS).contains(&options.len()) && distinct {
            return options;
        }
    }
    Vec::new()
}

impl Reader for Choice {
    fn value_in(&self, said: &str) -> Option<Range<usize>> {
        self.read(said).map(|found| found.range)
    }

    fn is_given_by(&self, said: &str) -> bool {
        self.read(said).is_some_and(|found| found.label == self.wanted)
    }

    fn key(&self, said: &str) -> Option<String> {
        self.read(said).map(|found| found.label)
    }

    /// The label or option that begins the response, or else one that its last lines name.
    fn unannounced(&self, response: &str) -> Option<Range<usize>> {
        // One that goes through all options, each on its line, has not chosen yet.
        let listed = |line: &&str| self.label(line, trim::start(line)).is_some();
        let walks = response.lines().filter(listed).count() > 1;
        if !walks && self.read(response).is_some() {
            return Some(0..response.len());
        }
        let spoken: Vec<_> = sentences(response).collect();
        for (from, text) in
            spoken.into_iter().rev().filter(|(_, text)| text.contains(char::is_alphanumeric))
        {
            let range = self.named(text);
            let range =
                range.or_else(|| self.read(text).map(|found| found.range.start..text.len()));
            if let Some(range) = range {
                return Some(from + range.start..from + range.end);
            }
        }
        let line = last_line(response)?;
        let range = self.held(&response[line.clone()])?;
        Some(line.start + range.start..line.start + range.end)
    }

    fn is_settled(&self, said: &str) -> bool {
        let Some(range) = self.value_in(said) else { return false };
        // "C. iron": a label's own full stop is not the end of what it says.
        let behind = said[range.end..].trim_start_matches(LABEL_ENDS).trim_start_matches(' ');
        sentence(behind).1
    }
}
