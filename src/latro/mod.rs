//! LaTRO, the learner (Chen et al. 2024, arXiv 2411.04282).

pub mod advantage;
pub mod generate;
pub mod learner;
pub mod log_prob;
pub mod metrics;
pub mod objective;
pub mod optimizer;
pub mod prompt;
pub mod reward;
pub mod rollout;
pub mod sampler;
pub mod sentinel;
pub mod settings;
mod tally;
pub mod tree;
