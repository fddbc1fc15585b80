//! Sampling: branches from prompts, and the choice of each token.

pub mod curriculum;
pub mod generate;
pub mod repetition;
pub mod rollouts;
pub mod sampler;
pub mod score;
