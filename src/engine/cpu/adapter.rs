//! A LoRA adapter in the form in which the transformer computes with it.

use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::arch::spec::ModelSpec;
use crate::kernels::Panels;
use crate::ops::linear::{FactorGradients, Factors, LoraGroup};

/// The LoRA factors of one block, by linear step: its layers share their input.
#[derive(Debug, Clone)]
pub struct BlockLora {
    groups: Vec<Option<LoraGroup>>,
}

impl BlockLora {
    /// The factors of a linear step's layers, if any of them is adapted.
    #[must_use]
    pub fn group(&self, group: usize) -> Option<&LoraGroup> {
        self.groups[group].as_ref()
    }
}

/// An adapter's factors, block by block.
#[derive(Debug, Clone)]
pub struct PackedAdapter {
    blocks: Vec<BlockLora>,
}

impl PackedAdapter {
    /// Packs `tensors` for a model; `scale` is alpha / rank. A layer is adapted if both of its factors
    /// are there.
    #[must_use]
    pub fn new(tensors: &LoraTensors, spec: &ModelSpec, scale: f32) -> Self {
        let factors = |layer, target| {
            let get = |factor| tensors.get(&LoraKey { layer, target, factor });
            let (a, b) = (get(Factor::A)?, get(Factor::B)?);
            Some((a.cols, Factors { rank: a.rows, a: &a.data, b: &b.data }))
        };
        let group = |layer, targets: &[Target]| {
            let all: Vec<_> = targets.iter().map(|t| factors(layer, *t)).collect();
            let input = all.iter().flatten().next()?.0;
            let all: Vec<_> = all.into_iter().map(|f| f.map(|(_, factors)| factors)).collect();
            LoraGroup::new(&all, input, scale)
        };
        let steps = spec.block();
        let block = |layer| BlockLora {
            groups: steps.groups().map(|targets| group(layer, targets)).collect(),
        };
        Self { blocks: (0..spec.layers).map(block).collect() }
    }

    /// Bytes of an adapter of this rank for these layers of all blocks.
    #[must_use]
    pub fn bytes(spec: &ModelSpec, rank: usize, targets: &[Target]) -> u64 {
        let group = |layers: &[Target]| {
            let dims =
                || layers.iter().filter(|t| targets.contains(t)).map(|t| spec.target_dims(*t));
            let a =
                dims().next().map_or(0, |(_, input)| Panels::bytes(dims().count() * rank, input));
            dims().map(|(out, _)| Panels::bytes(out, rank)).fold(a, u64::saturating_add)
        };
        let block = spec.block().groups().map(group).fold(0, u64::saturating_add);
        block.saturating_mul(spec.layers as u64)
    }

    /// The factors of one block.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn block(&self, layer: usize) -> &BlockLora {
        &self.blocks[layer]
    }
}

/// Where the gradients of one block's factors are added up, by target.
pub(super) fn block_gradients(
    sums: &mut LoraTensors,
    layer: usize,
) -> [Option<FactorGradients<'_>>; Target::ALL.len()] {
    let mut pairs = [const { None }; Target::ALL.len()];
    let key = |target, factor| LoraKey { layer, target, factor };
    let range = key(Target::Q, Factor::A)..=key(Target::Down, Factor::B);
    // In the order of targets, and A before B.
    let mut matrices = sums.range_mut(range).peekable();
    while let Some((key, a)) = matrices.next() {
        let other = matrices.next_if(|(k, _)| k.target == key.target && k.factor == Factor::B);
        if let Some((_, b)) = other {
            pairs[key.target as usize] = Some(FactorGradients { a: &mut a.data, b: &mut b.data });
        }
    }
    pairs
}
