//! `latrod` learns a LoRA adapter on a quantised GGUF model with LaTRO (Chen et al. 2024,
//! arXiv 2411.04282): the model samples rationales for questions whose answers are known, and the
//! likelihood it then gives to the right answer is its own reward.
//!
//! Data flows one way: [`data`] → [`model`] → [`latro`] → [`promotion`] → [`store`] → [`report`].
//! ARCHITECTURE.md has the code map.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod data;
#[cfg(any(test, feature = "candle"))] // tests have candle anyway
pub mod device;
#[expect(
    unsafe_code,
    reason = "vector instructions and unchecked loads; each block says why it is sound"
)]
pub mod kernels;
pub mod latro;
pub mod model;
pub mod ops;
pub mod promotion;
pub mod report;
pub mod session;
pub mod store;
pub mod worker;
