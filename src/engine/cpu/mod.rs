//! The engine of this program's own kernels.
//!
//! It carries out the steps of a block (`arch::block`) on slices of f32 and leaves nothing allocated
//! that the next block could use. Knows nothing of prompts, rationales or rewards.

pub mod adapter;
mod backward;
mod forward;
pub mod kv_cache;
pub mod scratch;
mod trace;

use std::borrow::Cow;
use std::sync::Arc;

use crate::arch::Block;
use crate::arch::block::recomputed;
use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::{Upload, Weights};
use crate::engine::{Engine, Input, ModelError, Predictions, check_tokens};
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::elementwise::scale;
use crate::kernels::{Compute, Floats, PackedMatrix};
use crate::ops::head::{TokenScores, token_scores};
use adapter::PackedAdapter;
use forward::Keys;
use kv_cache::KvCache;
use scratch::Scratch;
pub use trace::Trace;

/// A model on the CPU.
#[derive(Debug)]
pub struct CpuEngine {
    spec: ModelSpec,
    compute: Compute,
    row_chunks: RowChunks,
    weights: Weights<Arc<PackedMatrix>, Vec<f32>>,
    block: Block,
    /// What the backward pass computes again.
    again: Block,
    /// Radians a position, `[rope_dim / 2]`.
    frequencies: Vec<f32>,
}

/// Keys and values of tokens that have been computed, with memory for the next pass.
#[derive(Debug)]
pub struct Cache {
    kv: KvCache,
    scratch: Scratch,
}

struct Pack;

impl Upload for Pack {
    type Matrix = Arc<PackedMatrix>;
    type Vector = Vec<f32>;

    fn matrix(&self, info: &TensorInfo, bytes: Vec<u8>) -> Result<Self::Matrix, ModelError> {
        PackedMatrix::pack(info.ggml_type, info.rows(), info.cols(), &bytes)
            .map(Arc::new)
            .map_err(|source| ModelError::Weights { name: info.name.clone(), source })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, ModelError> {
        Ok(values)
    }
}

impl Engine for CpuEngine {
    type Adapter = PackedAdapter;
    type Cache = Cache;
    type Hidden = Floats;
    type Trace = Trace;

    fn load(file: &GgufFile, compute: Compute, device: DeviceKind) -> Result<Self, ModelError> {
        if device != DeviceKind::Cpu {
            return Err(ModelError::NoDevice(device.why_not().unwrap_or_default()));
        }
        let spec = ModelSpec::from_gguf(file)?;
        let weights = Weights::load(file, &spec, &Pack)?;
        let frequencies = spec.rope.frequencies(weights.rope_factors.as_deref());
        let block = spec.block();
        let again = Block { before: recomputed(&block.before), after: recomputed(&block.after) };
        let row_chunks = RowChunks::default();
        Ok(Self { spec, compute, row_chunks, weights, block, again, frequencies })
    }

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn compute(&self) -> Compute {
        self.compute
    }

    fn device(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    fn resident_bytes(&self) -> usize {
        self.weights.matrices().map(|matrix| matrix.resident_bytes()).sum()
    }

    fn set_row_chunks(&mut self, row_chunks: RowChunks) {
        self.row_chunks = row_chunks;
    }

    fn adapter(&self, tensors: &LoraTensors, scale: f32) -> Result<PackedAdapter, ModelError> {
        Ok(PackedAdapter::new(tensors, &self.spec, scale))
    }

    fn cache(&self, slots: usize) -> Result<Cache, ModelError> {
        let kv = KvCache::new(self.spec.layers, self.head_shape(), slots, self.compute);
        Ok(Cache { kv, scratch: Scratch::default() })
    }

    fn hidden(
        &self,
        input: Input<'_>,
        cache: Option<&mut Cache>,
        lora: Option<&PackedAdapter>,
        interrupt: &Interrupt,
    ) -> Result<Floats, ModelError> {
        check_tokens(&self.spec, input.tokens)?;
        let rows = self.rows(input.positions, input.plan);
        let mut alone = Scratch::default();
        let (keys, scratch) = match cache {
            None => (Keys::Pass, &mut alone),
            Some(Cache { kv, scratch }) => (Keys::Cache(kv), scratch),
        };
        self.all_blocks(input.tokens, &rows, keys, lora, scratch, interrupt)
    }

    fn logits(
        &self,
        hidden: &Floats,
        rows: &[usize],
        logits: &mut Floats,
    ) -> Result<(), ModelError> {
        logits.resize(rows.len() * self.spec.vocab);
        let picked = pick(hidden, rows, self.spec.hidden);
        self.weights.head.matmul(self.compute, &picked, rows.len(), logits);
        Ok(())
    }

    fn token_scores(
        &self,
        hidden: &Floats,
        predicted: Predictions<'_>,
        with_gradient: bool,
    ) -> Result<TokenScores, ModelError> {
        let Predictions { rows, targets, scales } = predicted;
        check_tokens(&self.spec, targets)?;
        assert_eq!(scales.len(), targets.len(), "one scale a target");
        let (width, mut picked) = (self.spec.hidden, pick(hidden, rows, self.spec.hidden));
        if scales.iter().any(|factor| *factor != 1.0) {
            let rows = picked.to_mut().chunks_exact_mut(width);
            rows.zip(scales).for_each(|(row, factor)| scale(row, *factor));
        }
        let (head, most) = (&self.weights.head, self.row_chunks.head_rows);
        Ok(token_scores(&picked, targets, head, self.compute, most, with_gradient))
    }

    fn trace(
        &self,
        input: Input<'_>,
        adapter: &PackedAdapter,
        interrupt: &Interrupt,
    ) -> Result<Trace, ModelError> {
        check_tokens(&self.spec, input.tokens)?;
        self.trace_blocks(input, adapter, interrupt)
    }

    fn traced(&self, trace: &Trace) -> Result<Floats, ModelError> {
        let top = trace.top();
        let mut normed = Floats::zeroed(top.len());
        self.output_norm().forward(top, &mut normed);
        Ok(normed)
    }

    fn backward(
        &self,
        trace: Trace,
        g: Vec<f32>,
        adapter: &PackedAdapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        self.blocks_backward(trace, g, adapter, sums, interrupt)
    }
}

/// Some rows of `[_, width]`; borrowed where they follow one another.
fn pick<'a>(all: &'a [f32], rows: &[usize], width: usize) -> Cow<'a, [f32]> {
    let first = rows.first().copied().unwrap_or(0);
    if rows.iter().enumerate().all(|(i, row)| *row == first + i) {
        return Cow::Borrowed(&all[first * width..(first + rows.len()) * width]);
    }
    let rows = rows.iter().flat_map(|row| &all[row * width..(row + 1) * width]);
    Cow::Owned(rows.copied().collect())
}
