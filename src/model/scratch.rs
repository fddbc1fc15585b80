//! Memory of one pass through a block, kept from block to block and from pass to pass.

use std::ops::Range;

use crate::ops::attention_backward::BackwardKeyValues;
use crate::ops::key_values::KeyValues;

/// Rows that go through a feed-forward layer together: bounds the memory of its wide values.
const ROWS: usize = 512;

/// Buffers, each as large as the largest pass so far.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) forward: ForwardScratch,
    pub(super) backward: BackwardScratch,
}

/// What a forward pass writes; all `[rows, _]` of the whole pass unless it says "piece".
#[derive(Debug, Default)]
pub(super) struct ForwardScratch {
    /// Of a piece: normed rows `[_, hidden]`.
    pub normed: Vec<f32>,
    /// Of a piece: x·Aᵀ of the layers that were computed last.
    pub h: Vec<f32>,
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub kv: KeyValues,
    /// What attention says, `[_, heads · head_dim]`.
    pub attended: Vec<f32>,
    /// Of a piece: `[_, ffn]`; the gate becomes the gated value.
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    /// Of a piece: what a projection adds to the residual stream, `[_, hidden]`.
    pub out: Vec<f32>,
}

/// What a backward pass writes beside what the forward pass does.
#[derive(Debug, Default)]
pub(super) struct BackwardScratch {
    /// The residual stream between attention and feed-forward layer, `[rows, hidden]`.
    pub middle: Vec<f32>,
    pub kv: BackwardKeyValues,
    pub d_attended: Vec<f32>,
    pub dk: Vec<f32>,
    pub dv: Vec<f32>,
    /// Of a piece: the gradient of x·Aᵀ.
    pub dh: Vec<f32>,
    /// Of a piece: the gradient of the gated value, `[_, ffn]`, then that value.
    pub d_gated: Vec<f32>,
    /// Of a piece: the gradient of normed rows.
    pub d_normed: Vec<f32>,
}

/// Makes `buffer` exactly `len` long; what it holds is left over.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// `0..rows` in equal pieces of at most [`ROWS`].
pub(super) fn pieces(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(ROWS);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}

/// The values of some rows of `[_, width]`.
pub(super) fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}
