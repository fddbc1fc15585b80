//! Splits text into words before the merges, in the ways that `tokenizer.ggml.pre` names.
//!
//! The patterns are those of llama.cpp's `llama-vocab.cpp`, which for some groups differ from the
//! model's own `tokenizer.json`; ids must agree with llama.cpp's. A group is a sequence of
//! patterns: each cuts the pieces that the one before left, and what no pattern matches stays a
//! piece.
//!
//! The `regex` crate does the matching, in linear time on any text; the engines with look-ahead
//! that other tokenizers use can run out of stack or time. The patterns' one look-ahead,
//! `\s+(?!\S)|\s+`, is written `\s+` here, and [`Pattern::next`] gives the last space back.

use regex::Regex;

use crate::text::tokenizer::TokenizerError;
use crate::text::tokenizer::error::shown;

/// The version of Unicode whose letters, numbers, marks and punctuation llama.cpp knows.
const UNICODE: &str = "15.1";

/// English contractions, in any case.
macro_rules! contractions {
    () => {
        r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
    };
}

/// Letters as llama.cpp takes them for mixed-case words: upper case is any letter but a–z, lower
/// case any letter but A–Z, so that other scripts are both.
macro_rules! mixed_case {
    ($tail:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]*[\p{L}--[A-Z]]+",
            $tail,
            r"|[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]+[\p{L}--[A-Z]]*",
            $tail
        )
    };
}

const GPT2: &str = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN2: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
const TEKKEN: &str = concat!(mixed_case!(""), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+");
const GPT4O: &str = concat!(
    mixed_case!(concat!("(?:", contractions!(), ")?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// How one family of models splits text.
#[derive(Debug)]
pub struct Group {
    /// The names in `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    /// Whether a word that is a token as a whole is taken as it is.
    pub ignore_merges: bool,
    /// Whether documents begin with BOS if the metadata does not say.
    pub add_bos: bool,
}

const PLAIN: Group = Group { names: &[], patterns: &[], ignore_merges: false, add_bos: false };

const GROUPS: &[Group] = &[
    Group {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Group { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], patterns: &[LLAMA3], ..PLAIN },
    Group { names: &["glm4", "glm5"], patterns: &[LLAMA3], ignore_merges: true, ..PLAIN },
    Group {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan"],
        patterns: &[QWEN2],
        ..PLAIN
    },
    Group { names: &["qwen35"], patterns: &[QWEN35], ..PLAIN },
    Group {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        patterns: &[DIGIT, GPT2],
        ..PLAIN
    },
    Group {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "exaone4",
            "mellum",
            "a.x-4.0",
        ],
        patterns: &[GPT2],
        ..PLAIN
    },
    Group { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    Group { names: &["gpt-4o", "llama4", "kanana2"], patterns: &[GPT4O], ..PLAIN },
    Group { names: &["falcon"], patterns: &[r"[\p{P}$+<=>^~|`]+", GPT2, THREE_DIGITS], ..PLAIN },
    Group {
        names: &["default", ""],
        patterns: &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", THREE_DIGITS],
        ..PLAIN
    },
];

/// The group with a name.
pub fn group(name: &str) -> Result<&'static Group, TokenizerError> {
    GROUPS
        .iter()
        .find(|g| g.names.contains(&name))
        .ok_or_else(|| TokenizerError::Pre { found: shown(name), known: known().join(", ") })
}

/// All names of groups.
pub(super) fn known() -> Vec<&'static str> {
    let names = GROUPS.iter().flat_map(|g| g.names).copied();
    names.filter(|name| !name.is_empty()).collect()
}

impl Group {
    /// Compiles the group's patterns.
    pub fn splitter(&self) -> Result<WordSplitter, TokenizerError> {
        let compiled = self.patterns.iter().map(|&source| Pattern::new(source));
        Ok(WordSplitter(compiled.collect::<Result<_, _>>()?))
    }
}

/// The compiled patterns of a group.
#[derive(Debug)]
pub struct WordSplitter(Vec<Pattern>);

impl WordSplitter {
    /// The words of a text: none is empty, and together they are the text.
    pub fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = vec![text];
        words.retain(|text| !text.is_empty());
        for pattern in &self.0 {
            let mut next = Vec::with_capacity(words.len());
            for word in words {
                pattern.cut(word, &mut next);
            }
            words = next;
        }
        words
    }
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Whether `\s+` is the last alternative.
    spaces: bool,
    /// Whether `\s*[\r\n]+` comes before it, so that a match up to a newline is not `\s+`'s.
    newlines: bool,
}

impl Pattern {
    fn new(source: &'static str) -> Result<Self, TokenizerError> {
        let mut dated = source.to_owned();
        for class in [r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}"] {
            dated = dated.replace(class, &format!(r"[{class}&&\p{{age:{UNICODE}}}]"));
        }
        Ok(Self {
            regex: Regex::new(&dated).map_err(|e| TokenizerError::Build(e.to_string()))?,
            spaces: source.ends_with(r"|\s+"),
            newlines: source.contains(r"|\s*[\r\n]+"),
        })
    }

    /// Appends the matches in a text and what lies between them.
    fn cut<'t>(&self, text: &'t str, out: &mut Vec<&'t str>) {
        let mut rest = text;
        while let Some((start, end)) = self.next(rest) {
            if start > 0 {
                out.push(&rest[..start]);
            }
            out.push(&rest[start..end]);
            rest = &rest[end..];
        }
        if !rest.is_empty() {
            out.push(rest);
        }
    }

    /// The first match. Spaces before a word leave the last one to it, as `\s+(?!\S)` would.
    fn next(&self, text: &str) -> Option<(usize, usize)> {
        let found = self.regex.find(text)?;
        let (start, end) = (found.start(), found.end());
        if self.spaces && end < text.len() && found.as_str().chars().all(char::is_whitespace) {
            let last = found.as_str().chars().next_back()?;
            let own = self.newlines && matches!(last, '\r' | '\n');
            let shorter = end - last.len_utf8();
            if !own && shorter > start {
                return Some((start, shorter));
            }
        }
        Some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
        let words = group(pre).unwrap().splitter().unwrap().split(text);
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn gpt_2_keeps_one_space_with_a_word() {
        assert_eq!(
            words("gpt-2", "it's  3 km\n\n x"),
            ["it", "'s", " ", " 3", " km", "\n\n", " x"]
        );
        assert_eq!(words("gpt-2", "a   "), ["a", "   "]);
        assert_eq!(words("gpt-2", "\ta"), ["\t", "a"]);
        assert_eq!(words("gpt-2", "1234"), ["1234"]);
        assert!(words("gpt-2", "").is_empty());
    }

    #[test]
    fn smollm_takes_each_digit_alone() {
        assert_eq!(words("smollm", "48 + 5"), ["4", "8", " +", " ", "5"]);
        assert_eq!(words("smollm", "x   12"), ["x", "   ", "1", "2"]);
        assert_eq!(words("smollm", "x½٣"), ["x", "½", "٣"]);
    }

    #[test]
    fn llama_3_takes_up_to_three_digits_and_newlines_together() {
        assert_eq!(words("llama-bpe", "12345 IT'S"), ["123", "45", " IT", "'S"]);
        assert_eq!(words("llama-bpe", "a  \n\n  b!\n"), ["a", "  \n\n", " ", " b", "!\n"]);
        assert_eq!(words("llama-bpe", "\t\tx"), ["\t", "\tx"]);
        assert_eq!(words("qwen2", "12 a"), ["1", "2", " a"]);
    }

    #[test]
    fn mixed_case_groups_split_before_capitals() {
        assert_eq!(words("gpt-4o", "camelCase HTTPServer"), ["camel", "Case", " HTTPServer"]);
        assert_eq!(words("gpt-4o", "it's//\n"), ["it's", "//\n"]);
        assert_eq!(words("tekken", "it's 12"), ["it", "'s", " ", "1", "2"]);
    }

    #[test]
    fn the_default_groups_digits_by_three() {
        assert_eq!(words("default", "a, 12345"), ["a", ",", " ", "123", "45"]);
        assert_eq!(words("falcon", "1234"), ["123", "4"]);
    }

    #[test]
    fn an_unknown_group_is_named_with_the_known_ones() {
        let message = group("klingon").unwrap_err().to_string();
        assert!(
            message.contains("\"klingon\"") && message.contains("smollm, starcoder"),
            "{message}"
        );
    }

    #[test]
    fn a_megabyte_of_one_character_is_quick() {
        for pre in ["smollm", "llama-bpe", "gpt-4o", "tekken", "default"] {
            for c in [' ', 'a', 'A', '\n', '!', '7', 'あ', '\u{301}'] {
                let text = format!("{}x", c.to_string().repeat(200_000));
                assert!(!words(pre, &text).is_empty());
            }
        }
    }
}
