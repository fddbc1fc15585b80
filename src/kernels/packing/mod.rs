//! Weights in memory: what the packed bytes mean, and GGUF's blocks → packed bytes.

mod blocks;
mod layout;
mod pack;

pub use layout::PackedMatrix;
pub(super) use layout::{BLOCK, CODE_LINES, Codes, LINE, SUPER, Scales, TILE};
