//! Architectures as data: one file a family, and what follows from it.
//!
//! A [`Family`] says what sets it apart; [`Block`] turns that into the steps of a transformer block;
//! [`spec::ModelSpec`] adds the numbers of one GGUF file. Knows nothing of weights or of how anything
//! is computed.

pub mod block;
pub mod cost;
mod family;
mod llama;
pub mod lora;
mod qwen2;
pub mod spec;

pub use block::Block;
pub use family::Family;

/// Every family that this program can compute.
pub const FAMILIES: [&Family; 2] = [&llama::LLAMA, &qwen2::QWEN2];
