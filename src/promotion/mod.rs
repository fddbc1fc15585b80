//! Decides whether an adapter is better: held-out evaluation and its statistics.

pub mod compare;
pub mod evaluate;
pub mod forget;
pub mod gate;
pub mod interval;
pub mod question;
pub mod statistics;
pub mod thinking;
