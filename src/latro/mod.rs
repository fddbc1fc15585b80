//! LaTRO, the learner (Chen et al. 2024, arXiv 2411.04282).

pub mod learner;
pub mod log_prob;
pub mod metrics;
pub mod objective;
pub mod optimizer;
pub mod prompt;
pub mod rollout;
pub mod sampling;
pub mod sentinel;
pub mod settings;
pub mod tree;
