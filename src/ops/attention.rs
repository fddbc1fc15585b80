//! Attention over packed sequences: prompts and branches side by side, without padding.
//!
//! A row attends to some ranges of keys entirely and, in its own sequence, to the keys up to itself.
//! This one rule covers a prompt, a tree of rationales behind a shared prompt, and a decoding step.
//! Scores exist for one block of rows at a time, never as a whole matrix. What several branches
//! attend to is read once for all of them.

use std::cell::Cell;
use std::ops::Range;

use super::attention_plan::{AttentionPlan, Block, panels};
use super::key_values::{ByDimension, BySlot, KeyValues, SLOTS};
use crate::kernels::elementwise::{scale, softmax};
use crate::kernels::threads::{for_each, in_rows};
use crate::kernels::{Floats, multiply_panel};

/// Scores of one task: 1 MB, half an L2 cache.
const SCORES: usize = 1 << 18;
/// The most query rows (times heads that share keys) that are multiplied at once.
const ROWS: usize = 192;

/// Tasks (blocks times heads) that a decoding step is cut into if it has enough rows; fixed, so that
/// sums don't depend on the number of threads. Each block reads the keys of its rows separately.
const TASKS: usize = 6;

/// The shape of attention heads; query head h reads key/value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl HeadShape {
    /// Query heads per key/value head.
    pub(crate) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Values of one row of queries, over all heads.
    #[must_use]
    pub fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of one row of keys, over all heads.
    #[must_use]
    pub fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(crate) fn scale(self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

thread_local! {
    static STORE: Cell<Scratch> = Cell::default();
}

/// A task's memory, kept for the next one.
#[derive(Default)]
struct Scratch {
    q: Floats,
    p: Floats,
}

/// One block of rows under one key/value head, whose `n = rows · group` query vectors are computed
/// together.
pub(super) struct Task<'a> {
    pub block: &'a Block<'a>,
    pub shape: HeadShape,
    pub head: usize,
}

impl Task<'_> {
    pub fn n(&self) -> usize {
        self.block.rows * self.shape.group()
    }

    /// Copies the block's query heads out of `all: [rows, heads, head_dim]`: `[n, head_dim]`.
    pub fn gather(&self, all: &[f32], out: &mut Floats) {
        let width = self.shape.group() * self.shape.head_dim;
        out.resize(self.block.rows * width);
        let rows = all.chunks_exact(self.shape.q_width()).skip(self.block.row);
        for (to, row) in out.chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&row[self.head * width..(self.head + 1) * width]);
        }
    }

    /// Attention weights of scaled queries `q: [n, head_dim]`, into `p: [n, width of the block]`;
    /// 0 where a row must not attend.
    pub fn weights(&self, q: &[f32], keys: &ByDimension, p: &mut Floats) {
        let (block, shape) = (self.block, self.shape);
        let (group, d) = (shape.group(), shape.head_dim);
        let (width, seen_width) = (block.width(), block.seen_width());
        p.resize(self.n() * width);
        self.products(q, keys, p);
        for (first, part) in block.part_rows() {
            for i in 0..part.rows {
                let visible = seen_width + part.own.len() - (part.rows - 1 - i);
                for row in p[(first + i) * group * width..].chunks_exact_mut(width).take(group) {
                    for (column, range) in block.seen_columns() {
                        let end = column + range.len();
                        row[end..end.next_multiple_of(SLOTS)].fill(f32::NEG_INFINITY);
                    }
                    row[visible..].fill(f32::NEG_INFINITY);
                    softmax(row, 1.0);
                }
            }
        }
        debug_assert_eq!(q.len(), self.n() * d);
    }

    /// `to[i, column] = a[i] · b[slot of the column]` for all columns of a block's scores, `a: [n,
    /// head_dim]`; columns beyond a row's own keys are left as they are or set to arbitrary numbers.
    pub fn products(&self, a: &[f32], b: &ByDimension, to: &mut [f32]) {
        let (shape, head) = (self.shape, self.head);
        let (group, d, n) = (shape.group(), shape.head_dim, self.n());
        let (width, seen_width) = (self.block.width(), self.block.seen_width());
        for (column, range) in self.block.seen_columns() {
            for (i, slot) in panels(range).enumerate() {
                let to = &mut to[column + i * SLOTS..];
                let b = b.panel(shape, head, slot);
                multiply_panel((a, d, n, d), b, (to, width, SLOTS), false);
            }
        }
        for (first, part) in self.block.part_rows() {
            let (first, rows) = (first * group, part.rows * group);
            for (i, slot) in panels(&part.own).enumerate() {
                let to = &mut to[first * width + seen_width + i * SLOTS..];
                let a = (&a[first * d..], d, rows, d);
                let b = b.panel(shape, head, slot);
                multiply_panel(a, b, (to, width, SLOTS), false);
            }
        }
    }

    /// `out[i] = Σ p[i, column] · v[slot of the column]`, `out: [n, head_dim]`.
    pub fn sums(&self, p: &[f32], v: &BySlot, out: &mut [f32]) {
        let (shape, head) = (self.shape, self.head);
        let (group, d, n) = (shape.group(), shape.head_dim, self.n());
        let (width, seen_width) = (self.block.width(), self.block.seen_width());
        for (g, from) in (0..d).step_by(SLOTS).enumerate() {
            let columns = SLOTS.min(d - from);
            for (column, range) in self.block.seen_columns() {
                let a = (&p[column..], width, n, range.len());
                let v = v.panel(shape, (head, g), range);
                multiply_panel(a, v, (&mut out[from..], d, columns), column > 0);
            }
            for (first, part) in self.block.part_rows() {
                let (first, rows) = (first * group, part.rows * group);
                let a = (&p[first * width + seen_width..], width, rows, part.own.len());
                let to = (&mut out[first * d + from..], d, columns);
                let v = v.panel(shape, (head, g), &part.own);
                multiply_panel(a, v, to, seen_width > 0);
            }
        }
    }

    /// The inverse of [`Self::gather`], for the rows of the block alone.
    pub fn scatter(&self, part: &[f32], rows: &mut [f32]) {
        let width = self.shape.group() * self.shape.head_dim;
        for (row, part) in rows.chunks_exact_mut(self.shape.q_width()).zip(part.chunks_exact(width))
        {
            row[self.head * width..(self.head + 1) * width].copy_from_slice(part);
        }
    }
}

/// Rows of a block, chosen so that its scores fit a cache and there are at least `parts` blocks.
pub(super) fn block_rows(plan: &AttentionPlan, shape: HeadShape, parts: usize) -> usize {
    let own = plan.segments.iter().map(|s| s.past + s.rows).max().unwrap_or(0);
    let seen = plan.segments.iter().flat_map(|s| &s.seen).map(Range::len).max().unwrap_or(0);
    let n = (SCORES / (own + seen).max(1)).clamp(SLOTS, ROWS);
    (n / shape.group()).min(plan.rows().div_ceil(parts)).max(1)
}

/// Splits row-major data of `width` values a row into one slice per block.
pub(super) fn split_rows<'a, 'b>(
    blocks: &'b [Block<'b>],
    mut data: &'a mut [f32],
    width: usize,
) -> Vec<(&'b Block<'b>, &'a mut [f32])> {
    let mut split = |block: &'b Block<'b>| {
        let (head, tail) = std::mem::take(&mut data).split_at_mut(block.rows * width);
        data = tail;
        (block, head)
    };
    blocks.iter().map(&mut split).collect()
}

/// Attention of `q: [rows, heads, head_dim]` over keys and values, each row over the slots that
/// `plan` lets it see; `out` has the shape of `q`, and `by_head` is memory for as many values.
///
/// # Panics
/// If the plan covers another number of rows, or slots beyond the keys.
pub fn attend(
    q: &[f32],
    kv: &KeyValues,
    shape: HeadShape,
    plan: &AttentionPlan,
    (by_head, out): (&mut Floats, &mut [f32]),
) {
    assert_eq!(q.len(), plan.rows() * shape.q_width(), "the plan is for other queries");
    assert_eq!(q.len(), out.len(), "as many values out as in");
    assert!(plan.slots() <= kv.slots(), "the plan sees keys that don't exist");
    let blocks = plan.blocks(block_rows(plan, shape, TASKS.div_ceil(shape.kv_heads)));
    let macs = 2 * out.len() * blocks.iter().map(Block::width).max().unwrap_or(0);
    let width = shape.group() * shape.head_dim;
    // `[kv_heads][rows][group, head_dim]`: a place for each task, and the tasks of a head in
    // succession, so that its keys and values stay in a cache.
    by_head.resize(out.len());
    let heads = by_head.chunks_exact_mut((plan.rows() * width).max(1)).enumerate();
    let of_head = |(head, part)| {
        let tasks = split_rows(&blocks, part, width).into_iter();
        tasks.map(move |(block, out)| (Task { block, shape, head }, out))
    };
    let mut tasks: Vec<_> = heads.flat_map(of_head).collect();
    for_each(&mut tasks, macs, |(task, out)| {
        let mut scratch = STORE.take();
        task.gather(q, &mut scratch.q);
        scale(&mut scratch.q, shape.scale());
        task.weights(&scratch.q, &kv.keys, &mut scratch.p);
        task.sums(&scratch.p, &kv.values, out);
        STORE.set(scratch);
    });
    in_rows(out, shape.q_width(), q.len(), |first, rows| {
        for (i, row) in rows.chunks_exact_mut(shape.q_width()).enumerate() {
            for (head, to) in row.chunks_exact_mut(width).enumerate() {
                to.copy_from_slice(&by_head[(head * plan.rows() + first + i) * width..][..width]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention_plan::Segment;
    use crate::ops::check;
    use crate::ops::key_values::KvDtype;

    const SHAPE: HeadShape = HeadShape { heads: 6, kv_heads: 2, head_dim: 40 };

    /// A prompt of 33, branches of 2 and of 70 rows that see it, and one whose first 4 keys were
    /// computed before.
    fn plan() -> AttentionPlan {
        let branch = |rows, own, past| Segment { rows, seen: vec![0..33], own, past };
        AttentionPlan {
            segments: vec![
                Segment { rows: 33, seen: vec![], own: 0, past: 0 },
                branch(2, 64, 0),
                branch(70, 96, 0),
                branch(1, 192, 4),
            ],
        }
    }

    /// Attention in f64, row by row, straight from the definition.
    fn plain(q: &[f32], k: &[f32], v: &[f32], plan: &AttentionPlan) -> Vec<f64> {
        let (d, group) = (SHAPE.head_dim, SHAPE.group());
        let mut out = Vec::new();
        let segments = plan.segments.iter();
        let seen = segments.flat_map(|s| (0..s.rows).map(move |i| (s, s.own + s.past + i)));
        for (row, (segment, last)) in seen.enumerate() {
            let own = segment.own..last + 1;
            let slots: Vec<usize> = segment.seen.iter().cloned().flatten().chain(own).collect();
            for head in 0..SHAPE.heads {
                let q = &q[(row * SHAPE.heads + head) * d..][..d];
                let at = |slot: usize| (slot * SHAPE.kv_heads + head / group) * d;
                let dot = |slot: &usize| -> f64 {
                    let k = &k[at(*slot)..];
                    q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let e: Vec<f64> =
                    slots.iter().map(|s| (dot(s) / (d as f64).sqrt()).exp()).collect();
                let z: f64 = e.iter().sum();
                out.extend((0..d).map(|i| {
                    let terms = slots.iter().zip(&e).map(|(s, e)| e * f64::from(v[at(*s) + i]));
                    terms.sum::<f64>() / z
                }));
            }
        }
        out
    }

    #[test]
    fn agrees_with_its_definition_in_f64() {
        let plan = plan();
        let slots = plan.slots();
        let q = check::numbers(plan.rows() * SHAPE.q_width(), 1);
        let k = check::numbers(slots * SHAPE.kv_width(), 2);
        let v = check::numbers(slots * SHAPE.kv_width(), 3);
        let mut kv = KeyValues::default();
        kv.resize(SHAPE, slots);
        kv.store(SHAPE, &(0..slots).collect::<Vec<_>>(), &k, &v);
        let mut out = vec![0.0; q.len()];

        attend(&q, &kv, SHAPE, &plan, (&mut Floats::default(), &mut out));

        for (i, (got, wanted)) in out.iter().zip(plain(&q, &k, &v, &plan)).enumerate() {
            assert!((f64::from(*got) - wanted).abs() < 1e-5, "{i}: {got} {wanted}");
        }
    }

    #[test]
    fn a_cache_of_half_precision_is_close() {
        let plan = plan();
        let slots = plan.slots();
        let q = check::numbers(plan.rows() * SHAPE.q_width(), 1);
        let k = check::numbers(slots * SHAPE.kv_width(), 2);
        let v = check::numbers(slots * SHAPE.kv_width(), 3);
        let mut kv = KeyValues::new(KvDtype::F16);
        kv.resize(SHAPE, slots);
        kv.store(SHAPE, &(0..slots).collect::<Vec<_>>(), &k, &v);
        let mut out = vec![0.0; q.len()];

        attend(&q, &kv, SHAPE, &plan, (&mut Floats::default(), &mut out));

        for (got, wanted) in out.iter().zip(plain(&q, &k, &v, &plan)) {
            assert!((f64::from(*got) - wanted).abs() < 2e-3, "{got} {wanted}");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_what_is_computed_with_it() {
        let plan = plan();
        let (slots, width) = (plan.slots(), SHAPE.q_width());
        let q = check::numbers(plan.rows() * width, 1);
        let mut kv = KeyValues::default();
        kv.resize(SHAPE, slots);
        let (k, v) = (check::numbers(slots * 80, 2), check::numbers(slots * 80, 3));
        kv.store(SHAPE, &(0..slots).collect::<Vec<_>>(), &k, &v);
        let (mut all, mut one) = (vec![0.0; q.len()], vec![0.0; width]);
        attend(&q, &kv, SHAPE, &plan, (&mut Floats::default(), &mut all));
        let alone = AttentionPlan { segments: plan.segments[3..].to_vec() };

        attend(&q[105 * width..], &kv, SHAPE, &alone, (&mut Floats::default(), &mut one));

        let off = one.iter().zip(&all[105 * width..]).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6);
    }
}
