//! Memory of weights and of buffers: how it is aligned, where it comes from, when it goes back.

mod floats;
mod heap;
mod lines;

pub use floats::{Floats, float_bytes};
pub(super) use heap::return_large_buffers;
pub(super) use lines::{Line, Lines};
