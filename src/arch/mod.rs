//! Model architectures as data.

pub mod cost;
pub mod lora;
pub mod spec;
