//! The model: from a GGUF file to a transformer that can sample, score and train.

pub mod adapter;
mod backward;
pub mod chat;
pub mod cost;
pub mod device;
pub mod engine;
mod error;
pub mod gguf;
pub mod interrupt;
pub mod kv_cache;
pub mod lora;
pub mod scratch;
pub mod spec;
pub mod tokenizer;
mod trace;
pub mod transformer;
pub mod weights;

pub use error::ModelError;
