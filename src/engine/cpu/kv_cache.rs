//! Keys and values of tokens that have been computed, so that decoding needn't compute them again.
//!
//! The cache is a plain array of slots; who uses which slot is the rollout's business.

use crate::kernels::Compute;
use crate::ops::attention::HeadShape;
use crate::ops::key_values::{KeyValues, KvDtype};

/// Keys and values of all layers.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<KeyValues>,
}

impl KvCache {
    fn dtype(compute: Compute) -> KvDtype {
        match compute {
            Compute::Fast => KvDtype::F16,
            Compute::Exact => KvDtype::F32,
        }
    }

    /// Bytes of a cache of `slots` tokens.
    #[must_use]
    pub fn bytes(layers: usize, shape: HeadShape, slots: usize, compute: Compute) -> u64 {
        KeyValues::bytes(shape, slots, Self::dtype(compute)).saturating_mul(layers as u64)
    }

    /// A cache of at least `slots` tokens for `layers` layers; in half precision for
    /// [`Compute::Fast`].
    #[must_use]
    pub fn new(layers: usize, shape: HeadShape, slots: usize, compute: Compute) -> Self {
        let mut layer = KeyValues::new(Self::dtype(compute));
        layer.resize(shape, slots);
        Self { layers: vec![layer; layers] }
    }

    /// The keys and values of a layer.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn layer(&mut self, layer: usize) -> &mut KeyValues {
        &mut self.layers[layer]
    }
}
