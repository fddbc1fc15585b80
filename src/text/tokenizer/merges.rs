//! Byte pair encoding of one word, on top of the `tokenizers` crate.
//!
//! Knows nothing of words' borders or of special tokens.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use crate::text::tokenizer::error::shown;
use crate::text::tokenizer::{Placed, TokenizerError, alphabet};

/// The vocabulary and its merges.
#[derive(Debug)]
pub struct Merges {
    bpe: BPE,
    /// Whether a byte has a token of its own. In llama.cpp one without is left out of the text.
    known: [bool; 256],
    /// Whether a word that is a token as a whole is taken without looking at the merges.
    whole_words: bool,
}

impl Merges {
    /// Checks and compiles the vocabulary and the merges ("left right", best first). A merge that
    /// occurs twice keeps its first rank.
    pub fn new(
        tokens: Vec<String>,
        merges: &[String],
        whole_words: bool,
    ) -> Result<Self, TokenizerError> {
        let mut vocab = Vocab::with_capacity(tokens.len());
        for (id, text) in (0u32..).zip(tokens) {
            // llama.cpp gives a token without text a name of its own, too.
            let text = if text.is_empty() { format!("[EMPTY_{id}]") } else { text };
            if let Some(&first) = vocab.get(&text) {
                return Err(TokenizerError::Duplicate { text: shown(&text), first, id });
            }
            vocab.insert(text, id);
        }
        let mut pairs = Vec::with_capacity(merges.len());
        let mut seen = HashSet::with_capacity(merges.len());
        for (index, merge) in merges.iter().enumerate() {
            let wrong = |problem| TokenizerError::Merge { index, text: shown(merge), problem };
            let (left, right) =
                merge.split_once(' ').ok_or(wrong("has no space between its parts"))?;
            if ![left, right].iter().all(|part| vocab.contains_key(*part)) {
                return Err(wrong("joins what is not a token"));
            }
            if !vocab.contains_key(&format!("{left}{right}")) {
                return Err(wrong("makes what is not a token"));
            }
            if seen.insert(merge) {
                pairs.push((left.to_owned(), right.to_owned()));
            }
        }
        let known = std::array::from_fn(|byte| {
            let c = alphabet::char_of(u8::try_from(byte).unwrap_or_default());
            vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str)
        });
        // Without a cache: it would be per thread and for ever, and its gain is small here.
        let bpe = BPE::builder().vocab_and_merges(vocab, pairs).cache_capacity(0).build();
        let bpe = bpe.map_err(|e| TokenizerError::Build(e.to_string()))?;
        Ok(Self { bpe, known, whole_words })
    }

    /// Appends the tokens of a word that begins at byte `at` of the text.
    pub fn encode(
        &self,
        word: &str,
        at: usize,
        out: &mut Vec<Placed>,
    ) -> Result<(), TokenizerError> {
        let spelled: String = word.bytes().map(alphabet::char_of).collect();
        if self.whole_words
            && let Some(id) = self.id(&spelled)
        {
            out.push(Placed { id, bytes: at..at + word.len() });
            return Ok(());
        }
        let mut rest = spelled.as_str();
        let mut start = at;
        for run in word.as_bytes().split_inclusive(|&b| !self.known[usize::from(b)]) {
            let known = match run.split_last() {
                Some((&last, before)) if !self.known[usize::from(last)] => before.len(),
                _ => run.len(),
            };
            let spelled_len = |bytes: &[u8]| {
                bytes.iter().map(|&b| alphabet::char_of(b).len_utf8()).sum::<usize>()
            };
            let tokens = self.bpe.tokenize(&rest[..spelled_len(&run[..known])]);
            let mut end = start;
            for token in tokens.map_err(|e| TokenizerError::Encode(e.to_string()))? {
                let begin = end;
                end += token.value.chars().count();
                out.push(Placed { id: token.id, bytes: begin..end });
            }
            rest = &rest[spelled_len(run)..];
            start += run.len();
        }
        Ok(())
    }

    /// The id of a token by its text in the vocabulary.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.bpe.token_to_id(text)
    }
}
