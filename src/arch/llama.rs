//! Llama, Mistral, `SmolLM2` and others of the same form.

use super::Family;
use crate::ops::rope::RopeStyle;

pub const LLAMA: Family =
    Family { name: "llama", rope: RopeStyle::Interleaved, permuted_qk: true, biases: &[] };
