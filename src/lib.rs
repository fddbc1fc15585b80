//! `latrod` learns a LoRA adapter on a quantized GGUF model with LaTRO (Chen et al. 2024,
//! arXiv 2411.04282): the model samples rationales for questions whose answers are known, and the
//! likelihood it then gives to the right answer is its own reward.
//!
//! ARCHITECTURE.md has the map of the folders and the table of what may use what.

pub mod answer;
pub mod arch;
pub mod cli;
pub mod config;
pub mod contract;
pub mod daemon;
#[cfg(feature = "operator")]
pub mod dashboard;
pub mod data;
#[cfg(feature = "demo")]
pub mod demo;
pub mod engine;
pub mod gguf;
pub mod intake;
#[expect(
    unsafe_code,
    reason = "vector instructions and unchecked loads; each block says why it is sound"
)]
pub mod kernels;
pub mod latro;
pub mod memory;
pub mod ops;
pub mod promotion;
pub mod report;
pub mod session;
pub mod settings;
#[cfg(feature = "operator")]
pub mod simulator;
pub mod store;
pub mod system;
pub mod text;
pub mod worker;
