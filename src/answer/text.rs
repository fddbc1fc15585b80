//! Texts, compared word by word: Unicode-normalized, in lower case, without articles, quotes and the
//! punctuation around words (the script of SQuAD, Rajpurkar et al. 2016). Signs that belong to a word stay:
//! C++, 3.5, -5 and a@b.de are what they are.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

use super::Reader;
use super::trim::{self, is_space, sentence};

/// What may stand before a word without being part of it.
const OPENING: &str = "([{<\"'`*_“”‘’«»„‚¿¡$\\~";
/// What may stand behind a word without being part of it.
const CLOSING: &str = ")]}>\"'`*_“”‘’«».,;:!?…。，！？、$\\~";
/// What ends an answer when it stands behind a word.
const ENDING: &str = ".;:!?…。！？)]}\"”»*`";
/// Dashes and signs between words, which end an answer as well.
const BETWEEN: [&str; 8] = ["-", "–", "—", "=", "→", "->", "|", "/"];
/// Words that begin a clause: a comma before one of them ends an answer.
const CLAUSE: [&str; 30] = [
    "because", "since", "as", "so", "but", "which", "who", "whose", "where", "when", "while",
    "that", "it", "he", "she", "they", "we", "you", "i", "this", "these", "there", "not", "if",
    "due", "given", "based", "making", "meaning", "although",
];

/// The most bytes of what is said that are put in order before they are compared.
const REACH: usize = 4_000;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// In its normal form.
    normal: String,
    /// Its bytes, without the punctuation around it.
    bytes: Range<usize>,
    /// How it is separated from the next one.
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// By nothing but spaces.
    Space,
    Comma,
    /// By what ends an answer.
    End,
}

/// A wanted text.
#[derive(Debug, Clone)]
pub struct Words {
    /// Without articles.
    words: Vec<String>,
    /// The whole text, trimmed: for answers without a word.
    bare: String,
    /// The words run together, where spaces make no difference: codes such as "DE89 3704 0044".
    code: Option<String>,
}

impl Words {
    pub fn new(answer: &str) -> Self {
        let words: Vec<String> =
            without_articles(&words_of(answer)).iter().map(|word| word.normal.clone()).collect();
        let joined = words.concat();
        let is_code = words.len() > 1
            && joined.bytes().filter(u8::is_ascii_digit).count() * 2 > joined.chars().count()
            && joined.bytes().any(|b| b.is_ascii_alphabetic());
        let bare = answer.trim_matches(is_space).to_owned();
        Self { words, bare, code: is_code.then_some(joined) }
    }

    /// Whether `said` begins with these words, and where they end in it.
    pub fn match_at_start(&self, said: &str) -> Option<Range<usize>> {
        if self.words.is_empty() {
            let said = said.trim_matches(is_space);
            let same = said == self.bare || said.strip_suffix('.') == Some(&self.bare);
            return (same && !self.bare.is_empty()).then_some(0..said.len());
        }
        // No more is looked at than can matter: an answer may be searched for in many places.
        let said = trim::head(said, 4 * self.bare.len() + 256);
        let all = words_of(said);
        let spoken = without_articles(&all);
        if let Some(code) = &self.code
            && let Some(range) = run_together(&spoken, code)
        {
            return Some(range);
        }
        let same = spoken.len() >= self.words.len()
            && spoken.iter().zip(&self.words).all(|(word, wanted)| word.normal == *wanted);
        let last = spoken.get(self.words.len() - 1)?;
        let ends = match (last.then, spoken.get(self.words.len())) {
            (_, None) | (Then::End, _) => true,
            (Then::Comma, Some(next)) => {
                self.is_verdict() || CLAUSE.contains(&next.normal.as_str())
            }
            (Then::Space, Some(next)) => {
                let follows = ["because", "since"].contains(&next.normal.as_str());
                follows
                    || (self.is_verdict()
                        && ["it", "he", "she", "they"].contains(&next.normal.as_str()))
            }
        };
        (same && ends).then(|| spoken[0].bytes.start..last.bytes.end)
    }

    /// Whether the answer is a word that a sentence often follows: "Yes, all cats sleep."
    fn is_verdict(&self) -> bool {
        let verdicts = ["yes", "no", "true", "false"];
        matches!(self.words.as_slice(), [word] if verdicts.contains(&word.as_str()))
    }

    /// Whether `said` may still become these words: it is their beginning.
    fn begins_with(&self, said: &str) -> bool {
        let all = words_of(said);
        let spoken = without_articles(&all);
        let Some((last, before)) = spoken.split_last() else { return true };
        spoken.len() <= self.words.len()
            && before.iter().zip(&self.words).all(|(word, wanted)| word.normal == *wanted)
            && self.words[before.len()].starts_with(&last.normal)
    }

    /// Words in their normal form.
    pub fn normal(text: &str) -> Vec<String> {
        without_articles(&words_of(text)).iter().map(|word| word.normal.clone()).collect()
    }
}

/// Whether words, run together, are a code: their bytes then.
fn run_together(spoken: &[&Word], code: &str) -> Option<Range<usize>> {
    let mut rest = code;
    for (i, word) in spoken.iter().enumerate() {
        rest = rest.strip_prefix(word.normal.as_str())?;
        if rest.is_empty() {
            let ends = i + 1 == spoken.len() || word.then != Then::Space;
            return ends.then(|| spoken[0].bytes.start..word.bytes.end);
        }
    }
    None
}

/// The words of a text.
fn words_of(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut at, mut in_quotes) = (0, false);
    for piece in text.split_inclusive(is_space) {
        let begin = at;
        at += piece.len();
        let token = piece.trim_end_matches(is_space);
        let broken = piece[token.len()..].contains(['\n', '\r']);
        let mut then = if broken { Then::End } else { Then::Space };
        let inner = inner(token, in_quotes);
        in_quotes ^= token.matches('"').count() % 2 == 1;
        let tail = &token[inner.end..];
        if token.is_empty() || inner.is_empty() || BETWEEN.contains(&token) {
            // A sign of its own, or a line break, ends what stands before it.
            let parts = broken || BETWEEN.contains(&token) || tail.contains(|c| ENDING.contains(c));
            if let Some(last) = words.last_mut()
                && parts
            {
                last.then = Then::End;
            }
            continue;
        }
        if tail.contains(|c| ENDING.contains(c)) {
            then = Then::End;
        } else if then == Then::Space && tail.contains([',', '，', '、']) {
            then = Then::Comma;
        }
        // "(iron)" behind a word explains it.
        if token.starts_with(['(', '['])
            && let Some(last) = words.last_mut()
        {
            last.then = Then::End;
        }
        let bytes = begin + inner.start..begin + inner.end;
        words.push(Word { normal: normal(&text[bytes.clone()]), bytes, then });
    }
    words
}

/// The part of a token without the punctuation around it; `in_quotes` says that a quote is open before
/// it.
fn inner(token: &str, in_quotes: bool) -> Range<usize> {
    let looks = ["\\text{", "\\textbf{", "\\mathrm{", "\\boxed{", "\\(", "\\["];
    let mut start = 0;
    loop {
        let rest = &token[start..];
        let look = looks.iter().find(|look| rest.starts_with(**look)).map(|look| look.len());
        let sign = rest.chars().next().filter(|c| OPENING.contains(*c)).map(char::len_utf8);
        match look.or(sign) {
            Some(length) => start += length,
            None => break,
        }
    }
    let mut rest = &token[start..];
    while let Some(c) = rest.chars().next_back().filter(|c| CLOSING.contains(*c)) {
        let before = &rest[..rest.len() - c.len_utf8()];
        // 5' and 6" are feet and inches.
        if matches!(c, '\'' | '"') && before.ends_with(|c: char| c.is_ascii_digit()) {
            let quoted = token[..start].contains(c) || (in_quotes && c == '"');
            if !quoted {
                break;
            }
        }
        rest = before;
    }
    start..start + rest.len()
}

/// A word's normal form: NFKC, lower case, one kind of quote and dash.
fn normal(word: &str) -> String {
    let plain = word.nfkc().flat_map(char::to_lowercase).filter_map(|c| match c {
        '’' | '‘' | 'ʼ' | '′' => Some('\''),
        '“' | '”' | '″' => Some('"'),
        '‐' | '‑' | '‒' | '–' | '—' | '−' => Some('-'),
        c if is_space(c) => None,
        c => Some(c),
    });
    plain.nfc().collect()
}

/// Without a leading article, and without "the" anywhere but at the end.
fn without_articles(words: &[Word]) -> Vec<&Word> {
    let last = words.len().saturating_sub(1);
    let kept = |(i, word): &(usize, &Word)| {
        let leading = *i == 0 && ["a", "an"].contains(&word.normal.as_str());
        // What stands for itself is no article.
        if word.then != Then::Space {
            return true;
        }
        *i == last || !(leading || word.normal == "the")
    };
    words.iter().enumerate().filter(kept).map(|(_, word)| word).collect()
}

/// The segment that stands for an answer: to the end of its first sentence or line.
fn segment(said: &str) -> Option<Range<usize>> {
    let start = trim::start(said);
    let (end, _) = sentence(&said[start..]);
    let text =
        said[start..start + end].trim_end_matches(|c: char| is_space(c) || CLOSING.contains(c));
    (!text.is_empty()).then(|| start..start + text.len())
}

impl Reader for Words {
    fn value_in(&self, said: &str) -> Option<Range<usize>> {
        self.match_at_start(said).or_else(|| segment(said))
    }

    fn is_given_by(&self, said: &str) -> bool {
        if self.words.is_empty() {
            return self.match_at_start(said).is_some();
        }
        self.match_at_start(said).is_some()
            || self.match_at_start(&trim::without_looks(trim::head(said, REACH))).is_some()
    }

    fn key(&self, said: &str) -> Option<String> {
        let range = self.value_in(said)?;
        let words = Self::normal(&trim::without_looks(&said[range]));
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The only line, or the last one that says something.
    fn unannounced(&self, response: &str) -> Option<Range<usize>> {
        let whole = response.trim_matches(is_space);
        let begin = response.len() - response.trim_start_matches(is_space).len();
        if self.match_at_start(whole).is_some() {
            return Some(begin..begin + whole.len());
        }
        let line = last_line(response)?;
        let text = &response[line.clone()];
        // What is emphasized, or stands behind the verb: "The capital of France is **Paris**."
        let places = [emphasized(text), complement(text)];
        let place = places.into_iter().flatten().next();
        let place = place.filter(|_| self.match_at_start(text).is_none()).unwrap_or(0..text.len());
        Some(line.start + place.start..line.start + place.end)
    }

    fn is_settled(&self, said: &str) -> bool {
        let start = trim::start(said);
        let rest = &said[start..];
        let (end, complete) = sentence(rest);
        complete && end > 0 && !self.begins_with(&rest[..end])
            || (complete
                && self.match_at_start(rest).is_some_and(|range| sentence(&rest[range.end..]).1))
    }
}

/// What the last pair of stars holds.
fn emphasized(line: &str) -> Option<Range<usize>> {
    let close = line.rfind("**")?;
    let open = line[..close].rfind("**")? + 2;
    (open < close).then_some(open..close)
}

/// What stands behind the last "is", "are", "was" or colon of a line.
fn complement(line: &str) -> Option<Range<usize>> {
    let verbs = [" is ", " are ", " was ", " were ", "'s ", "’s ", ": "];
    let place = verbs.iter().filter_map(|verb| Some(line.rfind(verb)? + verb.len())).max()?;
    let whose = ["his ", "her ", "their ", "its ", "my ", "your ", "our "];
    let skipped =
        whose.iter().find(|word| line[place..].starts_with(**word)).map_or(0, |w| w.len());
    let place = place + skipped;
    line[place..].contains(char::is_alphanumeric).then_some(place..line.len())
}

/// The last line with a letter or a digit.
pub fn last_line(text: &str) -> Option<Range<usize>> {
    let mut end = text.len();
    loop {
        let begin = text[..end].rfind('\n').map_or(0, |at| at + 1);
        if text[begin..end].contains(char::is_alphanumeric) {
            return Some(begin..end);
        }
        end = begin.checked_sub(1)?;
    }
}
