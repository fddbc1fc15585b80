//! Memory of one pass through a block, kept from block to block and from pass to pass.

use std::ops::Range;

use crate::arch::spec::ModelSpec;
use crate::kernels::{Floats, float_bytes};
use crate::ops::attention::HeadShape;
use crate::ops::attention_backward::{BackwardKeyValues, gradient_bytes};
use crate::ops::head::ROW_CHUNK;
use crate::ops::key_values::{KeyValues, KvDtype};

/// Into what pieces many rows are cut: smaller ones take less memory and a little more time. Results
/// differ by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RowChunks {
    /// Rows that go through a feed-forward layer together: bounds the memory of its wide values.
    pub rows: usize,
    /// Rows whose logits exist at the same time when targets are scored.
    pub head_rows: usize,
}

impl Default for RowChunks {
    fn default() -> Self {
        Self { rows: 256, head_rows: ROW_CHUNK }
    }
}

impl RowChunks {
    /// `0..rows` in equal pieces.
    pub(crate) fn of(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let count = rows.div_ceil(self.rows.max(1));
        (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
    }

    /// The rows of the largest piece of `rows`.
    fn largest(self, rows: usize) -> usize {
        rows.div_ceil(rows.div_ceil(self.rows.max(1)).max(1))
    }
}

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
        let (shape, piece) = (HeadShape::from(spec), self.row_chunks.largest(self.rows));
        // The queries, and attention's result in two orders.
        let whole = 3 * shape.q_width() + 2 * shape.kv_width() + spec.rope.dim;
        let of_piece = 2 * spec.hidden + 2 * spec.ffn + self.ranks;
        [
            float_bytes(&[self.rows, whole]),
            float_bytes(&[piece, of_piece]),
            KeyValues::bytes(shape, self.slots, KvDtype::F32),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Bytes of what a backward pass writes beside that.
    #[must_use]
    pub fn backward_bytes(&self, spec: &ModelSpec) -> u64 {
        let (shape, piece) = (HeadShape::from(spec), self.row_chunks.largest(self.rows));
        let whole = spec.hidden + shape.q_width() + 2 * shape.kv_width();
        [
            float_bytes(&[self.rows, whole]),
            float_bytes(&[piece, spec.hidden + spec.ffn + 2 * self.ranks]),
            BackwardKeyValues::bytes(shape, self.slots),
            gradient_bytes(shape, self.slots),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// What a forward pass writes; all `[rows, _]` of the whole pass unless it says "piece".
#[derive(Debug, Default)]
pub(super) struct ForwardScratch {
    /// Of a piece: normed rows `[_, hidden]`.
    pub normed: Floats,
    /// Of a piece: x·Aᵀ of the layers that were computed last.
    pub h: Floats,
    pub q: Floats,
    pub k: Floats,
    pub v: Floats,
    pub kv: KeyValues,
    /// What attention says, `[_, heads · head_dim]`, and the same in the order of its tasks.
    pub attended: Floats,
    pub by_head: Floats,
    /// Of a piece: `[_, ffn]`; the gate becomes the gated value.
    pub gate: Floats,
    pub up: Floats,
    /// Of a piece: what a projection adds to the residual stream, `[_, hidden]`.
    pub out: Floats,
}

/// What a backward pass writes beside what the forward pass does.
#[derive(Debug, Default)]
pub(super) struct BackwardScratch {
    /// The residual stream between attention and feed-forward layer, `[rows, hidden]`.
    pub middle: Floats,
    pub kv: BackwardKeyValues,
    pub d_attended: Floats,
    pub dk: Floats,
    pub dv: Floats,
    /// Of a piece: the gradient of x·Aᵀ.
    pub dh: Floats,
    /// Of a piece: the gradient of the gated value, `[_, ffn]`, then that value.
    pub d_gated: Floats,
    /// Of a piece: the gradient of normed rows.
    pub d_normed: Floats,
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
