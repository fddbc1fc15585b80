//! A LoRA adapter in the form in which the transformer computes with it.

use std::collections::BTreeMap;

use candle_core::Var;

use super::lora::{Factor, LoraKey, LoraTensors, Matrix, Target};
use super::transformer::BlockLora;
use crate::ops::linear::LoraFactors;
use crate::ops::{tensor, with_values};

/// An adapter's factors as candle variables, block by block.
#[derive(Debug)]
pub struct Adapter {
    vars: BTreeMap<LoraKey, Var>,
    trainable: Vec<BlockLora>,
    frozen: Vec<BlockLora>,
}

impl Adapter {
    /// Copies `tensors` for a model of `layers` blocks; `scale` is alpha / rank.
    ///
    /// # Errors
    /// If a factor's data does not fit its shape.
    pub fn new(
        tensors: &LoraTensors,
        layers: usize,
        scale: f32,
    ) -> Result<Self, candle_core::Error> {
        let mut vars = BTreeMap::new();
        for (key, m) in tensors {
            let values = tensor(m.data.clone(), (m.rows, m.cols))?;
            vars.insert(*key, Var::from_tensor(&values)?);
        }
        let factors = |layer, target, tracked: bool| {
            let get = |factor| {
                let var = vars.get(&LoraKey { layer, target, factor })?.as_tensor();
                Some(if tracked { var.clone() } else { var.detach() })
            };
            Some(LoraFactors { a: get(Factor::A)?, b: get(Factor::B)?, scale })
        };
        let blocks = |tracked| -> Vec<BlockLora> {
            (0..layers).map(|l| Target::ALL.map(|t| factors(l, t, tracked))).collect()
        };
        let (trainable, frozen) = (blocks(true), blocks(false));
        Ok(Self { vars, trainable, frozen })
    }

    /// The factors for passes without gradients: they record no graph.
    #[must_use]
    pub fn frozen(&self) -> &[BlockLora] {
        &self.frozen
    }

    /// The factors of one block, tracked for gradients.
    #[must_use]
    pub fn trainable(&self, layer: usize) -> &BlockLora {
        &self.trainable[layer]
    }

    /// Adds a block's gradients to `sums`, which has a matrix for every factor of the adapter.
    ///
    /// # Errors
    /// If a factor has no gradient: an operation has dropped it.
    pub fn collect(
        &self,
        layer: usize,
        grads: &candle_core::backprop::GradStore,
        sums: &mut LoraTensors,
    ) -> Result<(), candle_core::Error> {
        for (key, var) in self.vars.iter().filter(|(key, _)| key.layer == layer) {
            let (Some(grad), Some(sum)) = (grads.get(var), sums.get_mut(key)) else {
                candle_core::bail!("no gradient reached the LoRA factor {key:?}");
            };
            with_values(grad, |grad| {
                sum.data.iter_mut().zip(grad).for_each(|(sum, g)| *sum += g);
            })?;
        }
        Ok(())
    }
}

/// Matrices of zeros in the shapes of `tensors`.
#[must_use]
pub fn zeros_like(tensors: &LoraTensors) -> LoraTensors {
    let zeros = |m: &Matrix| Matrix { rows: m.rows, cols: m.cols, data: vec![0.0; m.data.len()] };
    tensors.iter().map(|(key, m)| (*key, zeros(m))).collect()
}
