//! Is an adapter better? Held-out evaluation and its statistics.

pub mod answer;
pub mod evaluate;
pub mod statistics;
