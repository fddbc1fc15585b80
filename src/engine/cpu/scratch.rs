//! Memory of one pass through a block, kept from block to block and from pass to pass.

use std::ops::{Index, IndexMut, Range};

use crate::arch::block::Value;
use crate::arch::spec::ModelSpec;
use crate::engine::row_chunks::RowChunks;
use crate::kernels::{Floats, float_bytes};
use crate::ops::attention::HeadShape;
use crate::ops::attention_backward::{BackwardKeyValues, gradient_bytes};
use crate::ops::key_values::{KeyValues, KvDtype};

/// Buffers, each as large as the largest pass so far.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) forward: ForwardScratch,
    pub(super) backward: BackwardScratch,
}

/// The size of a pass, as far as its memory goes.
#[derive(Debug, Clone, Copy)]
pub struct PassSize {
    pub rows: usize,
    /// Slots of keys and values of the pass itself; 0 if it uses a cache.
    pub slots: usize,
    /// The most ranks of layers that share their input; 0 without an adapter.
    pub ranks: usize,
    pub row_chunks: RowChunks,
}

impl PassSize {
    /// Bytes of what a forward pass writes, the sines and cosines of its positions included.
    #[must_use]
    pub fn forward_bytes(&self, spec: &ModelSpec) -> u64 {
        let (shape, chunk) = (HeadShape::from(spec), self.row_chunks.largest(self.rows));
        let widths = Widths::of(spec, |value| value != Value::Residual && place(value) == value);
        // Attention's result is there in two orders.
        let whole = widths.whole + spec.width(Value::Attended) + spec.rope.dim;
        [
            float_bytes(&[self.rows, whole]),
            float_bytes(&[chunk, widths.of_chunk + self.ranks]),
            KeyValues::bytes(shape, self.slots, KvDtype::F32),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Bytes of what a backward pass writes beside that.
    #[must_use]
    pub fn backward_bytes(&self, spec: &ModelSpec) -> u64 {
        let (shape, chunk) = (HeadShape::from(spec), self.row_chunks.largest(self.rows));
        let own = |value| gradient_place(value) == GradientPlace::Own;
        let widths = Widths::of(spec, own);
        [
            float_bytes(&[self.rows, widths.whole]),
            // The residual stream between attention and feed-forward network.
            float_bytes(&[chunk, spec.hidden + widths.of_chunk + 2 * self.ranks]),
            BackwardKeyValues::bytes(shape, self.slots),
            gradient_bytes(shape, self.slots),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// How wide some of a block's values are together.
struct Widths {
    whole: usize,
    of_chunk: usize,
}

impl Widths {
    fn of(spec: &ModelSpec, wanted: impl Fn(Value) -> bool) -> Self {
        let mut widths = Self { whole: 0, of_chunk: 0 };
        for value in spec.block().values().into_iter().filter(|value| wanted(*value)) {
            let sum = if value.is_whole() { &mut widths.whole } else { &mut widths.of_chunk };
            *sum += spec.width(value);
        }
        widths
    }
}

/// The value in whose buffer another is kept: the gated value takes the gate's place.
pub(super) fn place(value: Value) -> Value {
    match value {
        Value::Gated => Value::Gate,
        other => other,
    }
}

/// Where the gradient of a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GradientPlace {
    /// In a buffer of its own.
    Own,
    /// In the value's buffer: nothing needs the value once its gradient is there.
    Value,
    /// In the gradient of the residual stream, to which the value is added.
    Stream,
}

pub(super) fn gradient_place(value: Value) -> GradientPlace {
    match value {
        Value::Normed | Value::K | Value::V | Value::Attended | Value::Gated => GradientPlace::Own,
        Value::Q | Value::Gate | Value::Up => GradientPlace::Value,
        Value::Residual | Value::Out => GradientPlace::Stream,
    }
}

/// A buffer for each value of a block: `[rows, width]` of the whole pass, or of a chunk.
#[derive(Debug, Default)]
pub(super) struct Buffers([Floats; Value::ALL.len()]);

impl Index<Value> for Buffers {
    type Output = Floats;

    fn index(&self, value: Value) -> &Floats {
        &self.0[place(value) as usize]
    }
}

impl IndexMut<Value> for Buffers {
    fn index_mut(&mut self, value: Value) -> &mut Floats {
        &mut self.0[place(value) as usize]
    }
}

/// What a forward pass writes.
#[derive(Debug, Default)]
pub(super) struct ForwardScratch {
    pub values: Buffers,
    /// Of a chunk: x·Aᵀ of the layers that were computed last.
    pub h: Floats,
    pub kv: KeyValues,
    /// What attention says, in the order of its tasks.
    pub by_head: Floats,
}

/// What a backward pass writes beside what the forward pass does.
#[derive(Debug, Default)]
pub(super) struct BackwardScratch {
    pub kv: BackwardKeyValues,
    /// Gradients of values.
    pub gradients: Buffers,
    /// Of a chunk: the residual stream behind attention, `[_, hidden]`.
    pub residual: Floats,
    /// Of a chunk: the gradient of x·Aᵀ.
    pub dh: Floats,
}

/// Makes `buffer` exactly `len` long; what it holds is left over.
pub(super) fn sized(buffer: &mut Floats, len: usize) -> &mut [f32] {
    buffer.resize(len);
    buffer
}

/// The values of some rows of `[_, width]`.
pub(super) fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
