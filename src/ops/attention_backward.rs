//! The gradient of attention. Attention weights are recomputed, not kept.

use std::cell::Cell;

use super::attention::{HeadShape, Task, block_rows, split_rows};
use super::attention_plan::{AttentionPlan, Block};
use super::key_values::{ByDimension, BySlot, KeyValues, KvDtype, aligned};
use crate::kernels::elementwise::{add, dot, scale};
use crate::kernels::gemm::{MatRef, gemm};
use crate::kernels::threads::{for_each, in_rows_of};
use crate::kernels::{Compute, Floats, float_bytes};

/// Parts into which the rows are split, each with its own key and value gradients; fixed, so that
/// sums don't depend on the number of threads.
const PARTS: usize = 4;

/// Keys and values in both orders, since each is multiplied with and summed over.
#[derive(Debug)]
pub struct BackwardKeyValues {
    forward: KeyValues,
    keys: BySlot,
    values: ByDimension,
    /// Memory for the gradients of keys and of values, in parts: `[slots, kv_heads, head_dim]`.
    gradients: [[Floats; 2]; PARTS],
}

impl Default for BackwardKeyValues {
    fn default() -> Self {
        let (keys, values) = (BySlot::new(KvDtype::F32), ByDimension::new(KvDtype::F32));
        Self { forward: KeyValues::default(), keys, values, gradients: Default::default() }
    }
}

impl BackwardKeyValues {
    /// Bytes that `slots` slots take.
    #[must_use]
    pub fn bytes(shape: HeadShape, slots: usize) -> u64 {
        [
            KeyValues::bytes(shape, slots, KvDtype::F32),
            BySlot::bytes(shape, slots, KvDtype::F32),
            ByDimension::bytes(shape, slots, KvDtype::F32),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Stores `k` and `v: [rows, kv_heads, head_dim]`, row i in slot `slots[i]`, for a plan that
    /// sees `total` slots.
    ///
    /// # Panics
    /// If a slot is beyond `total` or rows are missing.
    pub fn fill(&mut self, shape: HeadShape, total: usize, slots: &[usize], k: &[f32], v: &[f32]) {
        self.forward.resize(shape, total);
        self.forward.store(shape, slots, k, v);
        self.keys.resize(shape, total);
        self.keys.store(shape, slots, k);
        self.values.resize(shape, total);
        self.values.store(shape, slots, v);
    }

    /// What the forward pass reads.
    #[must_use]
    pub fn forward(&self) -> &KeyValues {
        &self.forward
    }
}

thread_local! {
    static STORE: Cell<Scratch> = Cell::default();
}

/// Gradients of [`super::attention::attend`] from `g` of its output, `[rows, heads, head_dim]`.
/// `q` becomes the queries' gradient; the keys' and values' are written to row i of `dk`, `dv: [_,
/// kv_heads, head_dim]` for slot `slots[i]`.
///
/// # Panics
/// If the plan covers another number of rows or slots than the arguments.
pub fn attend_backward(
    q: &mut [f32],
    kv: &mut BackwardKeyValues,
    g: &[f32],
    shape: HeadShape,
    plan: &AttentionPlan,
    (slots, dk, dv): (&[usize], &mut [f32], &mut [f32]),
) {
    assert_eq!(q.len(), plan.rows() * shape.q_width(), "the plan is for other queries");
    assert_eq!(q.len(), g.len(), "a gradient for every query");
    let blocks = plan.blocks(block_rows(plan, shape, PARTS));
    let mut rows = split_rows(&blocks, q, shape.q_width());
    let part = rows.len().div_ceil(PARTS).max(1);
    let length = kv.forward.slots() * shape.kv_width();
    let mut gradients = std::mem::take(&mut kv.gradients);
    let mut parts: Vec<_> = rows.chunks_mut(part).zip(&mut gradients).collect();
    let kept = &*kv;
    for_each(&mut parts, usize::MAX, |(blocks, [dk, dv])| {
        let mut scratch = STORE.take();
        for part in [&mut *dk, &mut *dv] {
            part.resize(length);
            part.fill(0.0);
        }
        for (block, q) in blocks.iter_mut() {
            for head in 0..shape.kv_heads {
                let task = Task { block, shape, head };
                scratch.task(&task, q, kept, g, (dk, dv));
            }
        }
        STORE.set(scratch);
    });
    let (width, used) = (shape.kv_width(), parts.len());
    let rows = slots.len() * width;
    let sums = [&mut dk[..rows], &mut dv[..rows]];
    in_rows_of(sums, width, 2 * PARTS * rows, |first, sums| {
        for (side, sum) in sums.into_iter().enumerate() {
            for (i, part) in gradients[..used].iter().enumerate() {
                for (to, slot) in sum.chunks_exact_mut(width).zip(&slots[first..]) {
                    let from = &part[side][slot * width..(slot + 1) * width];
                    match i {
                        0 => to.copy_from_slice(from),
                        _ => add(from, to),
                    }
                }
            }
        }
    });
    kv.gradients = gradients;
}

/// Bytes of the gradients of `slots` slots' keys and values, which [`attend_backward`] adds up in
/// parts.
#[must_use]
pub fn gradient_bytes(shape: HeadShape, slots: usize) -> u64 {
    float_bytes(&[PARTS, 2, shape.kv_width(), aligned(slots)])
}

/// A task's memory, kept for the next one.
#[derive(Default)]
struct Scratch {
    q: Floats,
    g: Floats,
    p: Floats,
    ds: Floats,
    dq: Floats,
}

impl Scratch {
    /// One block under one head: dV += Pᵀg, dP = g·Vᵀ, dS = P∘(dP − rowsum(dP∘P)), dQ =
    /// scale·dS·K, dK += dSᵀ·(scale·Q). `rows` are the block's queries and become their gradient.
    fn task(
        &mut self,
        task: &Task<'_>,
        rows: &mut [f32],
        kv: &BackwardKeyValues,
        g: &[f32],
        (dk, dv): (&mut [f32], &mut [f32]),
    ) {
        let (shape, head, width) = (task.shape, task.head, task.block.width());
        let alone = Block { row: 0, parts: Vec::new(), ..*task.block };
        Task { block: &alone, shape, head }.gather(rows, &mut self.q);
        task.gather(g, &mut self.g);
        scale(&mut self.q, shape.scale());
        task.weights(&self.q, &kv.forward.keys, &mut self.p);
        // Columns beyond a row's own keys get no product and keep what they held.
        self.ds.resize(self.p.len());
        self.ds.fill(0.0);
        task.products(&self.g, &kv.values, &mut self.ds);
        for (ds, p) in self.ds.chunks_exact_mut(width).zip(self.p.chunks_exact(width)) {
            let mean = dot(ds, p);
            for (s, p) in ds.iter_mut().zip(p) {
                *s = p * (*s - mean);
            }
        }
        self.dq.resize(self.q.len());
        task.sums(&self.ds, &kv.keys, &mut self.dq);
        scale(&mut self.dq, shape.scale());
        add_transposed(task, &self.ds, &self.q, dk);
        add_transposed(task, &self.p, &self.g, dv);
        task.scatter(&self.dq, rows);
    }
}

/// `to[slot] += Σᵢ p[i, column of the slot] · a[i]` for `p: [n, width]`, `a: [n, head_dim]`, `to:
/// [slots, kv_heads, head_dim]`.
fn add_transposed(task: &Task<'_>, p: &[f32], a: &[f32], to: &mut [f32]) {
    let (block, shape) = (task.block, task.shape);
    let (d, group, width) = (shape.head_dim, shape.group(), block.width());
    let (kv_width, seen_width) = (shape.kv_width(), block.seen_width());
    let mut product = |first: usize, rows: usize, column: usize, slots: &std::ops::Range<usize>| {
        let p = MatRef::new(&p[first * width + column..], rows, slots.len(), width);
        let a = MatRef::new(&a[first * d..], rows, d, d);
        let to = &mut to[slots.start * kv_width + task.head * d..];
        gemm(Compute::Exact, (to, kv_width), true, p.t(), a, false);
    };
    for (column, range) in block.seen_columns() {
        product(0, task.n(), column, range);
    }
    for (first, part) in block.part_rows() {
        product(first * group, part.rows * group, seen_width, &part.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::attend;
    use crate::ops::attention_plan::Segment;
    use crate::ops::check;

    const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 3 };

    fn forward(x: &[f32], plan: &AttentionPlan) -> Vec<f32> {
        let rows = plan.rows();
        let (q, rest) = x.split_at(rows * SHAPE.q_width());
        let (k, v) = rest.split_at(rows * SHAPE.kv_width());
        let mut kv = KeyValues::default();
        kv.resize(SHAPE, plan.slots());
        kv.store(SHAPE, &plan.own_slots(), k, v);
        let mut out = vec![0.0; q.len()];
        attend(q, &kv, SHAPE, plan, (&mut Floats::default(), &mut out));
        out
    }

    fn backward(x: &[f32], g: &[f32], plan: &AttentionPlan) -> Vec<f32> {
        let rows = plan.rows();
        let (q, rest) = x.split_at(rows * SHAPE.q_width());
        let (k, v) = rest.split_at(rows * SHAPE.kv_width());
        let slots = plan.own_slots();
        let mut kv = BackwardKeyValues::default();
        kv.fill(SHAPE, plan.slots(), &slots, k, v);
        let (mut q, mut dk, mut dv) = (q.to_vec(), vec![9.0; k.len()], vec![9.0; v.len()]);
        attend_backward(&mut q, &mut kv, g, SHAPE, plan, (&slots, &mut dk, &mut dv));
        [q, dk, dv].concat()
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let branch = |rows, own| Segment { rows, seen: vec![0..3], own, past: 0 };
        let prompt = Segment { rows: 3, seen: vec![], own: 0, past: 0 };
        let plan = AttentionPlan { segments: vec![prompt, branch(2, 32), branch(4, 64)] };
        let x = check::numbers(plan.rows() * (SHAPE.q_width() + 2 * SHAPE.kv_width()), 7);

        check::gradient(&x, |x| forward(x, &plan), |x, g| backward(x, g, &plan));
    }

    /// More rows than a block holds, on one thread and on three.
    #[test]
    fn gradient_does_not_depend_on_the_number_of_threads() {
        let plan = AttentionPlan::causal(300);
        let x = check::numbers(300 * (SHAPE.q_width() + 2 * SHAPE.kv_width()), 7);
        let g = check::numbers(300 * SHAPE.q_width(), 8);
        let on = |threads| {
            let pool = crate::kernels::threads::Pool::new(threads);
            pool.install(|| backward(&x, &g, &plan))
        };

        assert_eq!(on(1), on(3));
    }
}
