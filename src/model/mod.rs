//! The model: from a GGUF file to a transformer that can sample, score and train.

pub mod chat;
pub mod gguf;
pub mod lora;
pub mod memory;
pub mod spec;
pub mod tokenizer;
pub mod transformer;
pub mod weights;
