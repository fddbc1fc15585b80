//! The engine of this program's own kernels.

pub mod adapter;
mod backward;
pub mod kv_cache;
pub mod scratch;
pub mod trace;
pub mod transformer;
pub mod weights;
