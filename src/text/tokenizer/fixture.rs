//! A small tokenizer for tests: all bytes, some merges, ChatML's special tokens.

use crate::text::tokenizer::{Tokenizer, TokenizerSpec, alphabet};

/// The merges, in order of rank. Every result becomes a token.
const MERGES: &[&str] = &[
    "Ġ t",
    "h e",
    "Ġt he",
    "Ġ a",
    "n s",
    "w e",
    "Ġa ns",
    "we r",
    "Ġans wer",
    "i s",
    "Ġ is",
    "T he",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "1 2",
    "e r",
    "Ġ 4",
    "4 2",
    "Ġ The",
];

/// Ids of the special tokens, which come first.
pub const END_OF_TEXT: u32 = 0;
pub const IM_START: u32 = 1;
pub const IM_END: u32 = 2;
/// A user-defined token.
pub const THINK: u32 = 3;

/// The parts of the tokenizer; tests change one to break it.
pub fn spec() -> TokenizerSpec {
    let mut tokens: Vec<String> =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"].map(Into::into).to_vec();
    let mut token_types = vec![3, 3, 3, 4];
    tokens.extend((0..=255).map(|b| alphabet::char_of(b).to_string()));
    for merge in MERGES {
        let joined = merge.replace(' ', "");
        if !tokens.contains(&joined) {
            tokens.push(joined);
        }
    }
    token_types.resize(tokens.len(), 1);
    TokenizerSpec {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        merges: MERGES.iter().map(|&m| m.into()).collect(),
        tokens,
        token_types,
        bos: Some(IM_START),
        eos: Some(IM_END),
        ..TokenizerSpec::default()
    }
}

/// The tokenizer of [`spec`].
pub fn tokenizer() -> Tokenizer {
    Tokenizer::new(spec()).expect("the parts fit")
}
