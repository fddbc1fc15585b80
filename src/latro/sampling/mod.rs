//! Sampling: branches from prompts, and the choice of each token.

pub mod generate;
pub mod rollouts;
pub mod sampler;
pub mod score;
