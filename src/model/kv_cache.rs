//! Keys and values of tokens that have been computed, so that decoding needn't compute them again.
//!
//! The cache is a plain array of slots; who uses which slot is the rollout's business.

use candle_core::{Result, Tensor};

use crate::ops::with_values;

/// Keys and values of all layers, `[slots, kv_heads, head_dim]` each, f32.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    width: usize,
}

#[derive(Debug)]
struct LayerCache {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KvCache {
    /// A cache of `slots` tokens for `layers` layers with `width = kv_heads · head_dim`.
    #[must_use]
    pub fn new(layers: usize, width: usize, slots: usize) -> Self {
        let layer = || LayerCache { k: vec![0.0; slots * width], v: vec![0.0; slots * width] };
        Self { layers: (0..layers).map(|_| layer()).collect(), width }
    }

    /// Stores row i of `k` and `v: [rows, kv_heads, head_dim]` in slot `slots[i]` of a layer.
    ///
    /// # Errors
    /// If the tensors are not f32 on the CPU.
    ///
    /// # Panics
    /// If a slot is outside the cache or the rows are fewer than the slots.
    pub fn store(&mut self, layer: usize, slots: &[usize], k: &Tensor, v: &Tensor) -> Result<()> {
        let (width, layer) = (self.width, &mut self.layers[layer]);
        for (tensor, store) in [(k, &mut layer.k), (v, &mut layer.v)] {
            with_values(tensor, |rows| {
                for (row, &slot) in rows.chunks_exact(width).zip(slots) {
                    store[slot * width..(slot + 1) * width].copy_from_slice(row);
                }
            })?;
        }
        Ok(())
    }

    /// All keys and values of a layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        (&self.layers[layer].k, &self.layers[layer].v)
    }
}
