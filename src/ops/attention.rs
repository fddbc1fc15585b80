//! Attention over packed sequences: prompts and branches side by side, without padding.
//!
//! A row sees some ranges of keys whole and, in the range of its own sequence, the keys up to
//! itself. That one rule covers a prompt, a tree of rationales behind a shared prompt, and a step of
//! decoding over a cache. Scores exist for one block of rows at a time, never as a whole matrix.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{tensor, values, with_values};
use crate::kernels::elementwise::{dot, softmax};
use crate::kernels::gemm::{MatRef, gemm};

/// Query rows that share one matrix of scores.
const ROW_BLOCK: usize = 64;

/// Parts into which the backward pass splits the rows, each with key and value gradients of its
/// own; fixed, so that sums don't depend on the number of threads.
const BACKWARD_PARTS: usize = 4;

/// The shape of attention heads; query head h reads key/value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl HeadShape {
    /// Query heads per key/value head.
    fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of one row of keys, over all heads.
    #[must_use]
    pub fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn scale(self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// Rows of queries that see the same ranges of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// How many query rows.
    pub rows: usize,
    /// Ranges of key rows that every row of the segment sees.
    pub seen: Vec<Range<usize>>,
    /// Where the segment's own keys start: row i also sees `own ..= own + i`.
    pub own: Option<usize>,
}

/// What each query row sees. Segments follow one another in the order of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttentionPlan {
    pub segments: Vec<Segment>,
}

impl AttentionPlan {
    /// How many query rows the plan covers.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|s| s.rows).sum()
    }

    /// One past the last key row that any query row sees.
    #[must_use]
    pub fn keys(&self) -> usize {
        let ends = |s: &Segment| {
            let seen = s.seen.iter().map(|r| r.end).max().unwrap_or(0);
            seen.max(s.own.map_or(0, |own| own + s.rows))
        };
        self.segments.iter().map(ends).max().unwrap_or(0)
    }

    /// Blocks of at most [`ROW_BLOCK`] rows, in row order.
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut row = 0;
        for segment in &self.segments {
            for first in (0..segment.rows).step_by(ROW_BLOCK) {
                let rows = ROW_BLOCK.min(segment.rows - first);
                blocks.push(Block { segment, first, row: row + first, rows });
            }
            row += segment.rows;
        }
        blocks
    }
}

/// Some rows of a segment.
struct Block<'a> {
    segment: &'a Segment,
    /// The first row, counted from the segment's start.
    first: usize,
    /// The first row, counted from the start of all queries.
    row: usize,
    rows: usize,
}

impl Block<'_> {
    /// The ranges of keys that the block computes scores for, those of its own sequence last.
    fn key_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let own = self.segment.own.map(|own| own..own + self.first + self.rows);
        self.segment.seen.iter().cloned().chain(own)
    }

    fn keys(&self) -> usize {
        self.key_ranges().map(|r| r.len()).sum()
    }

    /// How many of the block's keys its `i`-th row sees; they are the first ones.
    fn visible(&self, i: usize) -> usize {
        self.keys() - if self.segment.own.is_some() { self.rows - 1 - i } else { 0 }
    }
}

/// Copies the query heads of one key/value head: `[rows · group, head_dim]`.
fn gather(all: &[f32], shape: HeadShape, kv_head: usize, rows: usize, out: &mut Vec<f32>) {
    let width = shape.group() * shape.head_dim;
    out.clear();
    for row in all.chunks_exact(shape.q_width()).take(rows) {
        out.extend_from_slice(&row[kv_head * width..(kv_head + 1) * width]);
    }
}

/// The inverse of [`gather`].
fn scatter(part: &[f32], shape: HeadShape, kv_head: usize, all: &mut [f32]) {
    let width = shape.group() * shape.head_dim;
    for (row, part) in all.chunks_exact_mut(shape.q_width()).zip(part.chunks_exact(width)) {
        row[kv_head * width..(kv_head + 1) * width].copy_from_slice(part);
    }
}

/// The keys (or values) of one head in a range of rows: `[len, head_dim]`.
fn head_rows<'a>(
    all: &'a [f32],
    shape: HeadShape,
    kv_head: usize,
    rows: &Range<usize>,
) -> MatRef<'a> {
    let start = rows.start * shape.kv_width() + kv_head * shape.head_dim;
    MatRef::new(&all[start..], rows.len(), shape.head_dim, shape.kv_width())
}

/// Attention weights of a block for one key/value head: `[rows · group, keys]`.
fn weights(block: &Block<'_>, q: &[f32], k: &[f32], shape: HeadShape, head: usize) -> Vec<f32> {
    let (n, keys) = (block.rows * shape.group(), block.keys());
    let mut p = vec![0.0; n * keys];
    let q = MatRef::new(q, n, shape.head_dim, shape.head_dim);
    let mut column = 0;
    for range in block.key_ranges() {
        let k = head_rows(k, shape, head, &range);
        gemm(&mut p[column..], keys, false, 1.0, q, k.t(), false);
        column += range.len();
    }
    for (i, row) in p.chunks_exact_mut(keys).enumerate() {
        let (seen, hidden) = row.split_at_mut(block.visible(i / shape.group()));
        softmax(seen, shape.scale());
        hidden.fill(0.0);
    }
    p
}

/// Splits row-major data of `width` values a row into one slice per block.
fn split_rows<'a, 'b>(
    blocks: &'b [Block<'b>],
    mut data: &'a mut [f32],
    width: usize,
) -> Vec<(&'b Block<'b>, &'a mut [f32])> {
    blocks
        .iter()
        .map(|block| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(block.rows * width);
            data = tail;
            (block, head)
        })
        .collect()
}

/// Attention without a graph: `q: [rows, heads, head_dim]`, `k`, `v: [keys, kv_heads, head_dim]`,
/// `out` as `q`.
///
/// # Panics
/// If the plan covers another number of rows or keys beyond the slices.
pub fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: HeadShape,
    plan: &AttentionPlan,
    out: &mut [f32],
) {
    assert_eq!(q.len(), plan.rows() * shape.q_width(), "the plan is for other queries");
    let blocks = plan.blocks();
    split_rows(&blocks, out, shape.q_width()).into_par_iter().for_each(|(block, out)| {
        let q = &q[block.row * shape.q_width()..];
        let (n, keys) = (block.rows * shape.group(), block.keys());
        let mut q_head = Vec::with_capacity(n * shape.head_dim);
        let mut o_head = vec![0.0; n * shape.head_dim];
        for head in 0..shape.kv_heads {
            gather(q, shape, head, block.rows, &mut q_head);
            let p = weights(block, &q_head, k, shape, head);
            let mut column = 0;
            for range in block.key_ranges() {
                let p = MatRef::new(&p[column..], n, range.len(), keys);
                let v = head_rows(v, shape, head, &range);
                gemm(&mut o_head, shape.head_dim, column > 0, 1.0, p, v, false);
                column += range.len();
            }
            scatter(&o_head, shape, head, out);
        }
    });
}

/// Gradients of [`attend`] from `g` of its output: to the queries, the keys and the values.
fn attend_backward(
    (q, k, v): (&[f32], &[f32], &[f32]),
    g: &[f32],
    shape: HeadShape,
    plan: &AttentionPlan,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let blocks = plan.blocks();
    let mut dq = vec![0.0; q.len()];
    let mut rows = split_rows(&blocks, &mut dq, shape.q_width());
    let part = rows.len().div_ceil(BACKWARD_PARTS).max(1);
    let sums: Vec<(Vec<f32>, Vec<f32>)> = rows
        .par_chunks_mut(part)
        .map(|blocks| {
            let (mut dk, mut dv) = (vec![0.0; k.len()], vec![0.0; v.len()]);
            for (block, dq) in blocks {
                block_backward((q, k, v), g, shape, block, (dq, &mut dk, &mut dv));
            }
            (dk, dv)
        })
        .collect();
    let add = |into: &mut Vec<f32>, from: Vec<f32>| {
        into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
    };
    let (dk, dv) = sums
        .into_iter()
        .reduce(|(mut dk, mut dv), (k, v)| {
            add(&mut dk, k);
            add(&mut dv, v);
            (dk, dv)
        })
        .unwrap_or_else(|| (vec![0.0; k.len()], vec![0.0; v.len()]));
    (dq, dk, dv)
}

/// One block's share: dV += Pᵀg, dP = g·Vᵀ, dS = P∘(dP − rowsum(dP∘P))·scale, dQ = dS·K, dK += dSᵀQ.
fn block_backward(
    (q, k, v): (&[f32], &[f32], &[f32]),
    g: &[f32],
    shape: HeadShape,
    block: &Block<'_>,
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let d = shape.head_dim;
    let (n, keys) = (block.rows * shape.group(), block.keys());
    let from = block.row * shape.q_width();
    let (mut q_head, mut g_head) = (Vec::with_capacity(n * d), Vec::with_capacity(n * d));
    let mut dq_head = vec![0.0; n * d];
    let mut ds = vec![0.0; n * keys];
    for head in 0..shape.kv_heads {
        gather(&q[from..], shape, head, block.rows, &mut q_head);
        gather(&g[from..], shape, head, block.rows, &mut g_head);
        let p = weights(block, &q_head, k, shape, head);
        let (q_view, g_view) = (MatRef::new(&q_head, n, d, d), MatRef::new(&g_head, n, d, d));

        let mut column = 0;
        for range in block.key_ranges() {
            let p = MatRef::new(&p[column..], n, range.len(), keys);
            let start = range.start * shape.kv_width() + head * d;
            gemm(&mut dv[start..], shape.kv_width(), true, 1.0, p.t(), g_view, false);
            let v = head_rows(v, shape, head, &range);
            gemm(&mut ds[column..], keys, false, 1.0, g_view, v.t(), false);
            column += range.len();
        }
        for (ds, p) in ds.chunks_exact_mut(keys).zip(p.chunks_exact(keys)) {
            let mean = dot(ds, p);
            for (s, p) in ds.iter_mut().zip(p) {
                *s = p * (*s - mean) * shape.scale();
            }
        }
        let mut column = 0;
        for range in block.key_ranges() {
            let ds = MatRef::new(&ds[column..], n, range.len(), keys);
            let k = head_rows(k, shape, head, &range);
            gemm(&mut dq_head, d, column > 0, 1.0, ds, k, false);
            let start = range.start * shape.kv_width() + head * d;
            gemm(&mut dk[start..], shape.kv_width(), true, 1.0, ds.t(), q_view, false);
            column += range.len();
        }
        scatter(&dq_head, shape, head, dq);
    }
}

struct Attention {
    shape: HeadShape,
    plan: Arc<AttentionPlan>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "tree-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (values(q, q_layout)?, values(k, k_layout)?, values(v, v_layout)?);
        let mut out = vec![0.0; q.len()];
        attend(&q, &k, &v, self.shape, &self.plan, &mut out);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dq, dk, dv) = with_values(q, |q| {
            with_values(k, |k| {
                with_values(v, |v| {
                    with_values(grad, |g| attend_backward((q, k, v), g, self.shape, &self.plan))
                })
            })
        })????;
        let (dq, dk) = (tensor(dq, q.shape())?, tensor(dk, k.shape())?);
        Ok((Some(dq), Some(dk), Some(tensor(dv, v.shape())?)))
    }
}

/// Scaled dot-product attention of `q: [rows, heads, head_dim]` over `k`, `v: [keys, kv_heads,
/// head_dim]`, each row over the keys that `plan` lets it see.
///
/// # Errors
/// If the shapes and the plan don't fit together.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, plan: &Arc<AttentionPlan>) -> Result<Tensor> {
    let ((rows, heads, head_dim), (keys, kv_heads, _)) = (q.dims3()?, k.dims3()?);
    let shape = HeadShape { heads, kv_heads, head_dim };
    let fits = k.dims() == v.dims() && k.dim(2)? == head_dim && heads.is_multiple_of(kv_heads);
    if !fits || plan.rows() != rows || plan.keys() > keys {
        candle_core::bail!(
            "attention of {:?} over {:?} with a plan for {} rows and {} keys",
            q.shape(),
            k.shape(),
            plan.rows(),
            plan.keys()
        );
    }
    q.apply_op3(k, v, Attention { shape, plan: Arc::clone(plan) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    /// A prompt of 3, a branch of 2 that sees it, and a branch of 70 (two blocks) that sees it.
    fn tree(branch: usize) -> Arc<AttentionPlan> {
        Arc::new(AttentionPlan {
            segments: vec![
                Segment { rows: 3, seen: vec![], own: Some(0) },
                Segment { rows: 2, seen: vec![0..3], own: Some(3) },
                Segment { rows: branch, seen: vec![0..3], own: Some(5) },
            ],
        })
    }

    /// Who sees whom in [`tree`], spelt out.
    fn sees(row: usize, key: usize) -> bool {
        let branch = |i: usize| if i < 3 { 0 } else { 1 + usize::from(i >= 5) };
        key <= row && (key < 3 || branch(key) == branch(row))
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let plan = tree(3);
        check::gradients(&[&[8, 4, 2], &[8, 2, 2], &[8, 2, 2]], |t| {
            attention(&t[0], &t[1], &t[2], &plan)
        });
    }

    #[test]
    fn agrees_with_masked_softmax_in_candle() -> Result<()> {
        let (rows, heads, kv_heads, dim) = (75, 6, 2, 16);
        let q = tensor(check::numbers(rows * heads * dim, 1), (rows, heads, dim))?;
        let k = tensor(check::numbers(rows * kv_heads * dim, 2), (rows, kv_heads, dim))?;
        let v = tensor(check::numbers(rows * kv_heads * dim, 3), (rows, kv_heads, dim))?;

        let got = attention(&q, &k, &v, &tree(70))?;

        let mask = (0..rows * rows)
            .map(|i| if sees(i / rows, i % rows) { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        let mask = tensor(mask, (rows, rows))?;
        let repeat = |t: &Tensor| -> Result<Tensor> {
            let t = t.transpose(0, 1)?.unsqueeze(1)?;
            t.repeat((1, heads / kv_heads, 1, 1))?.reshape((heads, rows, dim))
        };
        let q = q.transpose(0, 1)?.contiguous()?;
        let scores = (q.matmul(&repeat(&k)?.t()?)? / (dim as f64).sqrt())?.broadcast_add(&mask)?;
        let e = scores.broadcast_sub(&scores.max_keepdim(2)?)?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(2)?)?;
        let wanted = p.matmul(&repeat(&v)?)?.transpose(0, 1)?;
        let off = (got - wanted)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-5, "{off}");
        Ok(())
    }
}
