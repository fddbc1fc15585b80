//! What others get to see of the learner.

pub mod curve;
pub mod memory;
