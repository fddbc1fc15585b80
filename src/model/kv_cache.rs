//! Keys and values of tokens that have been computed, so that decoding needn't compute them again.
//!
//! The cache is a plain array of slots; who uses which slot is the rollout's business.

use crate::ops::attention::HeadShape;
use crate::ops::key_values::KeyValues;

/// Keys and values of all layers, f32.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<KeyValues>,
}

impl KvCache {
    /// A cache of at least `slots` tokens for `layers` layers.
    #[must_use]
    pub fn new(layers: usize, shape: HeadShape, slots: usize) -> Self {
        let mut layer = KeyValues::default();
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
