//! Text and token ids: the tokenizer and the chat template of a GGUF file.

pub mod chat;
pub mod tokenizer;
