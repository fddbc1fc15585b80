//! Files that survive a power cut.

pub mod adapter;
pub mod checkpoint;
pub mod durable;
