//! Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on q, k and v.

use super::Family;
use super::lora::Target;
use crate::ops::rope::RopeStyle;

pub const QWEN2: Family = Family {
    name: "qwen2",
    rope: RopeStyle::Halves,
    permuted_qk: false,
    biases: &[Target::Q, Target::K, Target::V],
};
