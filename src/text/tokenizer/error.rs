//! What can be wrong with a tokenizer, in one sentence.

use std::path::PathBuf;

use crate::gguf::GgufError;

/// An error of the tokenizer. Text from the file is shown escaped and shortened.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A metadata key is missing or of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file's tokenizer cannot be used.
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    /// Not a byte-level BPE vocabulary.
    #[error(
        "tokenizer.ggml.model is \"{found}\", which is not supported yet; use a model with a gpt2 \
         (byte-level BPE) tokenizer"
    )]
    Model { found: String },
    /// An unknown way to split text into words.
    #[error("tokenizer.ggml.pre is \"{found}\", which is unknown; known are {known}")]
    Pre { found: String, known: String },
    /// A token's text occurs twice in the vocabulary.
    #[error(
        "token {id} (\"{text}\") has the same text as token {first}; the vocabulary is damaged"
    )]
    Duplicate { text: String, first: u32, id: u32 },
    /// A normal token with a character that does not stand for a byte.
    #[error(
        "token {id} (\"{text}\") has a character outside of the byte alphabet; the vocabulary is \
         damaged or no byte-level one"
    )]
    NotBytes { text: String, id: u32 },
    /// Lists of different lengths, or an empty one.
    #[error("the vocabulary has {tokens} tokens, but {types} token types; the file is damaged")]
    Lengths { tokens: usize, types: usize },
    /// A merge that cannot be applied.
    #[error("merge {index} (\"{text}\") {problem}; the file is damaged")]
    Merge { index: usize, text: String, problem: &'static str },
    /// A special token outside of the vocabulary.
    #[error(
        "tokenizer.ggml.{role}_token_id is {id}, but the vocabulary has only {vocab_size} tokens"
    )]
    Role { role: &'static str, id: u32, vocab_size: usize },
    /// A special token that is to be added but is not there.
    #[error(
        "the tokenizer asks for a {role} token around every text, but tokenizer.ggml.{role}_token_id \
         is missing"
    )]
    NoRole { role: &'static str },
    /// An id outside of the vocabulary.
    #[error("token id {id} is outside of the vocabulary of {vocab_size} tokens")]
    Id { id: u32, vocab_size: usize },
    /// The merges failed on a text.
    #[error("cannot tokenize a text: {0}")]
    Encode(String),
    /// The vocabulary or a pattern could not be compiled.
    #[error("cannot build the tokenizer: {0}")]
    Build(String),
}

/// A text from the file in a form that is safe and short enough to print.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut out: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
