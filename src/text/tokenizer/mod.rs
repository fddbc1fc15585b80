//! Text to token ids and back, as llama.cpp does it on the same GGUF file.
//!
//! Owns the vocabulary, the split of text into words, the merges and the special tokens. Knows
//! nothing of chat templates ([`crate::text::chat`]) or of what a prompt is for.
//!
//! How a text is encoded: special tokens cut it into fragments (`special`), regular expressions cut a
//! fragment into words (`words`), merges join the bytes of a word (`merges`). The reference is
//! llama.cpp's `llama-vocab.cpp`; where it is lenient (a byte without a token is left out) so is
//! this, and where it would abort this is an error.

mod alphabet;
mod error;
mod merges;
mod spec;
mod special;
mod words;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use error::TokenizerError;
pub use spec::{TokenKind, TokenizerSpec};

use self::merges::Merges;
use self::special::{Fragment, Specials};
use self::words::WordSplitter;
use crate::gguf::GgufFile;

/// Tokens that end a turn in known chat templates, in the order in which they are looked for.
pub const TURN_ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>"];

/// A token of an encoded text and the bytes of the text that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The token's id.
    pub id: u32,
    /// The bytes of the text.
    pub bytes: Range<usize>,
}

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    splitter: WordSplitter,
    merges: Merges,
    specials: Specials,
    pieces: Vec<Box<[u8]>>,
    kinds: Vec<TokenKind>,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Tokenizer {
    /// The tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// A missing or wrong `tokenizer.ggml.*` key, or what [`Tokenizer::new`] refuses, with the path.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let spec = TokenizerSpec::from_metadata(file.metadata())?;
        Self::new(spec)
            .map_err(|e| TokenizerError::File { path: file.path().into(), problem: e.to_string() })
    }

    /// Builds a tokenizer from its parts.
    ///
    /// # Errors
    /// A model or `pre` group that is not supported, or parts that contradict each other: a token
    /// that occurs twice or is not in the byte alphabet, a merge of unknown tokens, a special id
    /// outside of the vocabulary.
    pub fn new(spec: TokenizerSpec) -> Result<Self, TokenizerError> {
        if spec.model != "gpt2" {
            return Err(TokenizerError::Model { found: error::shown(&spec.model) });
        }
        let group = words::group(&spec.pre)?;
        let kinds = spec.kinds()?;
        let pieces = spec.pieces(&kinds)?;
        let [bos, eos, unk] = spec.checked_roles()?;
        let add_bos = spec.add_bos.unwrap_or(group.add_bos);
        let add_eos = spec.add_eos.unwrap_or(false);
        for (asked, id, role) in [(add_bos, bos, "bos"), (add_eos, eos, "eos")] {
            if asked && id.is_none() {
                return Err(TokenizerError::NoRole { role });
            }
        }
        Ok(Self {
            splitter: group.splitter()?,
            specials: Specials::new(&spec.tokens, &kinds),
            merges: Merges::new(spec.tokens, &spec.merges, group.ignore_merges)?,
            pieces,
            kinds,
            bos,
            eos,
            unk,
            add_bos,
            add_eos,
        })
    }

    /// The ids of a text, without BOS and EOS. With `parse_special` control tokens in the text
    /// stand for themselves, otherwise they are plain text; user-defined tokens always count.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the merges fail, which no text should cause.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let plain = if parse_special { 0..0 } else { 0..text.len() };
        Ok(self.encode_placed(text, plain)?.into_iter().map(|t| t.id).collect())
    }

    /// The ids of a whole document: BOS and EOS are added where the metadata asks for them
    /// (`add_special` of `llama_tokenize`).
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn encode_document(
        &self,
        text: &str,
        parse_special: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids: Vec<u32> = self.bos.filter(|_| self.add_bos).into_iter().collect();
        ids.extend(self.encode(text, parse_special)?);
        ids.extend(self.eos.filter(|_| self.add_eos));
        Ok(ids)
    }

    /// The tokens of a text with the bytes they cover. Control tokens stand for themselves, except
    /// where they touch the bytes in `plain`: there they are plain text.
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn encode_placed(
        &self,
        text: &str,
        plain: Range<usize>,
    ) -> Result<Vec<Placed>, TokenizerError> {
        let mut out = Vec::new();
        for fragment in self.specials.split(text, &plain) {
            match fragment {
                Fragment::Special(token) => out.push(token),
                Fragment::Text(range) => {
                    let mut at = range.start;
                    for word in self.splitter.split(&text[range]) {
                        self.merges.encode(word, at, &mut out)?;
                        at += word.len();
                    }
                }
            }
        }
        Ok(out)
    }

    /// The bytes of a token. A control token's are its name.
    ///
    /// # Errors
    /// [`TokenizerError::Id`] for an id outside of the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8], TokenizerError> {
        self.pieces
            .get(id as usize)
            .map(AsRef::as_ref)
            .ok_or(TokenizerError::Id { id, vocab_size: self.pieces.len() })
    }

    /// The bytes that ids stand for; they need not be UTF-8. Control and unknown tokens show their
    /// names with `special` and nothing without. An id outside of the vocabulary adds nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        let shown = ids.iter().filter(|&&id| special || !self.is_control(id));
        shown.flat_map(|&id| self.token_bytes(id).unwrap_or_default()).copied().collect()
    }

    /// Whether a token is a control token (or the unknown token), which does not stand for text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.kinds
            .get(id as usize)
            .is_some_and(|k| matches!(k, TokenKind::Control | TokenKind::Unknown))
    }

    /// Whether a text contains the name of a control token.
    #[must_use]
    pub fn names_control(&self, text: &str) -> bool {
        self.specials.names_control(text)
    }

    /// The number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a document.
    #[must_use]
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a document.
    #[must_use]
    pub const fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token for text that has no token of its own.
    #[must_use]
    pub const fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// Whether a document begins with BOS.
    #[must_use]
    pub const fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// The id of the token with this text, as the vocabulary spells it.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.merges.id(text)
    }

    /// A token's bytes as text, for templates; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.token_bytes(id).unwrap_or_default()).into_owned()
    }

    /// The ids that end a turn: those of [`TURN_ENDS`] which the template mentions, then EOS. Each
    /// once; the first is the one to close an answer with.
    #[must_use]
    pub fn turn_ends(&self, template: &str) -> Vec<u32> {
        let named = TURN_ENDS.iter().filter(|name| template.contains(**name));
        let mut ids = Vec::new();
        for id in named.filter_map(|name| self.token_id(name)).chain(self.eos) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}
