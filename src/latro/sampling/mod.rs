//! Sampling: branches from prompts, and the choice of each token.

pub mod branch;
pub mod curriculum;
pub mod generate;
pub mod length;
pub mod repetition;
pub mod rollouts;
pub mod sampler;
