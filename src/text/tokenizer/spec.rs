//! The parts of a tokenizer as the metadata of a GGUF file gives them.
//!
//! Owns the keys `tokenizer.ggml.*` and llama.cpp's rules for what kind of token a name is. Knows
//! nothing of how text is encoded.

use crate::gguf::Metadata;
use crate::text::tokenizer::error::shown;
use crate::text::tokenizer::{TokenizerError, alphabet};

/// What a token is for (`llama_token_type` of llama.cpp).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text in the byte alphabet.
    Normal,
    /// Stands for text that has no token of its own.
    Unknown,
    /// Structure, such as the end of a turn; named by its text only where that is trusted.
    Control,
    /// A text that is always this token.
    UserDefined,
    /// Never used.
    Unused,
    /// A single byte, written `<0x0A>` or in the byte alphabet.
    Byte,
}

impl TokenKind {
    /// The kind with this number; numbers out of range are unused tokens.
    const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Unused,
        }
    }

    /// Whether text is searched for this token's name before anything else.
    pub(super) const fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}

/// Names that are control tokens whatever their type says: they end a generation.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Names that are control tokens unless the metadata names the token of this role itself.
const FILL_IN: [(&[&str], &[&str]); 6] = [
    (
        &["fim_pre", "prefix"],
        &["<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>"],
    ),
    (
        &["fim_suf", "suffix"],
        &["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>"],
    ),
    (
        &["fim_mid", "middle"],
        &["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>"],
    ),
    (&["fim_pad"], &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (&["fim_rep"], &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    (&["fim_sep"], &["<|file_sep|>"]),
];

/// Names that are user-defined tokens whatever their type says.
const CHANNELS: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Everything that a tokenizer is made of.
#[derive(Debug, Clone, Default)]
pub struct TokenizerSpec {
    /// The kind of vocabulary: `gpt2` is byte-level BPE.
    pub model: String,
    /// How text is split into words; empty means `default`.
    pub pre: String,
    /// The tokens' texts by id.
    pub tokens: Vec<String>,
    /// The tokens' types by id, in llama.cpp's numbers; empty means that all are normal.
    pub token_types: Vec<i32>,
    /// "left right", best first.
    pub merges: Vec<String>,
    /// The token that begins a document.
    pub bos: Option<u32>,
    /// The token that ends a document.
    pub eos: Option<u32>,
    /// The token for text that has no token of its own.
    pub unk: Option<u32>,
    /// Whether documents begin with BOS; by default the `pre` group decides.
    pub add_bos: Option<bool>,
    /// Whether documents end with EOS; by default they don't.
    pub add_eos: Option<bool>,
    /// Further names of control tokens.
    pub control_names: Vec<&'static str>,
}

impl TokenizerSpec {
    /// Reads the keys `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// A key that is missing or has the wrong type.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let id = |role: &str| metadata.opt_u32(&format!("tokenizer.ggml.{role}_token_id"));
        let model = metadata.str("tokenizer.ggml.model")?.to_owned();
        if model != "gpt2" {
            return Err(TokenizerError::Model { found: shown(&model) });
        }
        let mut control_names = Vec::new();
        for (roles, names) in FILL_IN {
            if !roles.iter().any(|role| matches!(id(role), Ok(Some(_)))) {
                control_names.extend(names);
            }
        }
        Ok(Self {
            model,
            pre: metadata.opt_str("tokenizer.ggml.pre")?.unwrap_or_default().to_owned(),
            tokens: metadata.strings("tokenizer.ggml.tokens")?.to_vec(),
            token_types: metadata.opt_i32s("tokenizer.ggml.token_type")?.unwrap_or_default(),
            merges: metadata.strings("tokenizer.ggml.merges")?.to_vec(),
            bos: id("bos")?,
            eos: id("eos")?,
            unk: id("unknown")?,
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.opt_bool("tokenizer.ggml.add_eos_token")?,
            control_names,
        })
    }

    /// The kinds of all tokens, with llama.cpp's corrections by name.
    pub(super) fn kinds(&self) -> Result<Vec<TokenKind>, TokenizerError> {
        let (tokens, types) = (self.tokens.len(), self.token_types.len());
        if tokens == 0 || u32::try_from(tokens).is_err() || (types != 0 && types < tokens) {
            return Err(TokenizerError::Lengths { tokens, types });
        }
        let stated = self.token_types.iter().copied().map(TokenKind::from_number);
        let stated = stated.chain(std::iter::repeat(TokenKind::Normal));
        let kind = |(name, stated): (&String, TokenKind)| {
            let name = name.as_str();
            if CHANNELS.contains(&name) {
                TokenKind::UserDefined
            } else if ENDS.contains(&name) || self.control_names.contains(&name) {
                TokenKind::Control
            } else {
                stated
            }
        };
        Ok(self.tokens.iter().zip(stated).map(kind).collect())
    }

    /// The bytes that each token stands for; special tokens stand for their names.
    pub(super) fn pieces(&self, kinds: &[TokenKind]) -> Result<Vec<Box<[u8]>>, TokenizerError> {
        let piece = |(id, (text, kind)): (u32, (&String, &TokenKind))| match kind {
            TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined => {
                Ok(text.as_bytes().into())
            }
            TokenKind::Unused => Ok(Box::default()),
            TokenKind::Byte if byte_name(text).is_some() => {
                Ok(byte_name(text).into_iter().collect())
            }
            TokenKind::Normal | TokenKind::Byte => alphabet::bytes_of(text)
                .ok_or_else(|| TokenizerError::NotBytes { text: shown(text), id }),
        };
        (0u32..).zip(self.tokens.iter().zip(kinds)).map(piece).collect()
    }

    /// BOS, EOS and the unknown token, all inside of the vocabulary.
    pub(super) fn checked_roles(&self) -> Result<[Option<u32>; 3], TokenizerError> {
        let vocab_size = self.tokens.len();
        for (role, id) in [("bos", self.bos), ("eos", self.eos), ("unknown", self.unk)] {
            if let Some(id) = id.filter(|&id| id as usize >= vocab_size) {
                return Err(TokenizerError::Role { role, id, vocab_size });
            }
        }
        Ok([self.bos, self.eos, self.unk])
    }
}

/// The byte of a name such as `<0x0A>`.
fn byte_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
