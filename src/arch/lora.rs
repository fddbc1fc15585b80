//! LoRA adapters as plain numbers: which tensors there are, how they are named, how they start.
//!
//! Rows are kept in the GGUF file's own order; only reading and writing PEFT folders permutes them.

use std::collections::BTreeMap;

/// A linear layer that LoRA can adapt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Target {
    /// All targets, in the order in which a block uses them.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name that PEFT's `target_modules` uses, for example `q_proj`.
    #[must_use]
    pub const fn peft_name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Whether products with few rows are never rounded to 8 bits: K and V have few weights and many
    /// readers. On `SmolLM2` these two are 6 % of a block's products and cause 40 % of the error.
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Self::K | Self::V)
    }

    /// The module that holds the layer in Hugging Face's naming, `self_attn` or `mlp`.
    #[must_use]
    pub const fn peft_parent(self) -> &'static str {
        match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    /// The tensor's name in a GGUF block, for example `attn_q` in `blk.0.attn_q.weight`.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }
}

/// Which factor of the update `B·A` a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Factor {
    /// `[rank, in]`
    A,
    /// `[out, rank]`
    B,
}

/// The place of a LoRA tensor. The order (layer, target, factor) is the order of all iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraKey {
    pub layer: usize,
    pub target: Target,
    pub factor: Factor,
}

/// A dense row-major f32 matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    /// `rows * cols` values, row by row.
    pub data: Vec<f32>,
}

/// One value per LoRA parameter: the weights, their gradients or an optimizer's moments.
pub type LoraTensors = BTreeMap<LoraKey, Matrix>;

/// Matrices of zeros in the shapes of `tensors`.
#[must_use]
pub fn zeros_like(tensors: &LoraTensors) -> LoraTensors {
    let zeros = |m: &Matrix| Matrix { rows: m.rows, cols: m.cols, data: vec![0.0; m.data.len()] };
    tensors.iter().map(|(key, m)| (*key, zeros(m))).collect()
}
