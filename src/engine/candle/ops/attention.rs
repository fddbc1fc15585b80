//! Attention over packed sequences and its gradient, as `ops::attention`, in dense products.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::engine::candle::ops::attention_plan::{Block, Plan};
use crate::engine::candle::ops::tensor::{product, reduce, softmax};
use crate::ops::attention::HeadShape;

/// The largest value of half precision.
const MOST_HALF: f32 = 65504.0;

/// Keys and values in slots: `[kv_heads, slots, head_dim]` each.
#[derive(Debug)]
pub struct KeyValues {
    keys: Tensor,
    values: Tensor,
}

impl KeyValues {
    /// Room for so many slots, in half precision if asked for.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn new(shape: HeadShape, slots: usize, half: bool, device: &Device) -> Result<Self> {
        let kind = if half { DType::F16 } else { DType::F32 };
        let zeros = || Tensor::zeros((shape.kv_heads, slots, shape.head_dim), kind, device);
        Ok(Self { keys: zeros()?, values: zeros()? })
    }

    /// The keys and values `[rows, kv_heads, head_dim]` of a pass alone.
    ///
    /// # Errors
    /// If the shapes don't fit together, or the device fails.
    pub fn of_pass(k: &Tensor, v: &Tensor, plan: &Plan) -> Result<Self> {
        let in_slots = |rows: &Tensor| by_head(rows)?.index_select(&plan.rows_of_slots, 1);
        Ok(Self { keys: in_slots(k)?, values: in_slots(v)? })
    }

    /// Stores the rows of a pass, `[rows, kv_heads, head_dim]`, in their slots.
    ///
    /// # Errors
    /// If a slot does not exist, or the device fails.
    pub fn store(&self, k: &Tensor, v: &Tensor, plan: &Plan) -> Result<()> {
        for (to, rows) in [(&self.keys, k), (&self.values, v)] {
            let rows = by_head(rows)?;
            let slots = plan.own_slots.reshape((1, (), 1))?.broadcast_as(rows.shape())?;
            let rows = match to.dtype() {
                DType::F16 => rows.clamp(-MOST_HALF, MOST_HALF)?.to_dtype(DType::F16)?,
                _ => rows,
            };
            to.scatter_set(&slots.contiguous()?, &rows, 1)?;
        }
        Ok(())
    }
}

/// `[rows, kv_heads, _]` as `[kv_heads, rows, _]`.
fn by_head(rows: &Tensor) -> Result<Tensor> {
    rows.transpose(0, 1)?.contiguous()
}

/// Attention of `q: [rows, heads, head_dim]`, each row over the slots that `plan` lets it see:
/// `[rows, heads · head_dim]`.
///
/// # Errors
/// If the shapes don't fit together, or the device fails.
pub fn attend(q: &Tensor, kv: &KeyValues, shape: HeadShape, plan: &Plan) -> Result<Tensor> {
    let q = (Queries::of(shape).wide(q)? * f64::from(shape.scale()))?;
    let mut results = Vec::with_capacity(plan.blocks.len());
    for block in &plan.blocks {
        let task = Task { block, shape };
        let q = task.take(&q)?;
        let weights = task.weights(&q, &kv.keys)?;
        let sums: Vec<Tensor> = task
            .views(&kv.values)
            .zip(&weights)
            .map(|(values, weights)| batched(weights, &values?))
            .collect::<Result<_>>()?;
        results.push(task.give(&reduce(&sums, |a, b| a + b)?)?);
    }
    Queries::of(shape).narrow(&Tensor::cat(&results, 1)?)
}

/// The gradients of queries `[rows, heads, head_dim]`, keys and values `[rows, kv_heads, head_dim]`
/// from `g: [rows, heads · head_dim]` of [`attend`]'s result, for the keys and values of the pass
/// alone: dV = Pᵀg, dP = g·Vᵀ, dS = P∘(dP − rowsum(dP∘P)), dQ = scale·dS·K, dK = dSᵀ·(scale·Q).
///
/// # Errors
/// If the shapes don't fit together, or the device fails.
pub fn attend_backward(
    q: &Tensor,
    kv: &KeyValues,
    g: &Tensor,
    shape: HeadShape,
    plan: &Plan,
) -> Result<(Tensor, Tensor, Tensor)> {
    let queries = Queries::of(shape);
    let q = (queries.wide(q)? * f64::from(shape.scale()))?;
    let g = queries.wide(g)?;
    let (mut dk, mut dv) = (kv.keys.zeros_like()?, kv.values.zeros_like()?);
    let mut results = Vec::with_capacity(plan.blocks.len());
    for block in &plan.blocks {
        let task = Task { block, shape };
        let (q, g) = (task.take(&q)?, task.take(&g)?);
        let weights = task.weights(&q, &kv.keys)?;
        let d_weights: Vec<Tensor> = task
            .views(&kv.values)
            .map(|values| batched(&g, &values?.transpose(1, 2)?))
            .collect::<Result<_>>()?;
        let means: Vec<Tensor> = weights
            .iter()
            .zip(&d_weights)
            .map(|(p, dp)| (p * dp)?.sum_keepdim(D::Minus1))
            .collect::<Result<_>>()?;
        let mean = reduce(&means, |a, b| a + b)?;
        let mut dq = Vec::with_capacity(weights.len());
        let both = task.views(&kv.keys).zip(task.slots()).zip(weights.iter().zip(&d_weights));
        for ((keys, slots), (p, dp)) in both {
            let ds = (p * dp.broadcast_sub(&mean)?)?;
            dq.push(batched(&ds, &keys?)?);
            let add = |to: &Tensor, p: &Tensor, a: &Tensor| {
                let part = task.transposed_product(p, a, slots.elem_count())?;
                to.index_add(slots, &part, 1)
            };
            (dk, dv) = (add(&dk, &ds, &q)?, add(&dv, p, &g)?);
        }
        results.push(task.give(&reduce(&dq, |a, b| a + b)?)?);
    }
    let dq = (queries.narrow(&Tensor::cat(&results, 1)?)? * f64::from(shape.scale()))?;
    let of_rows = |d: Tensor| d.index_select(&plan.own_slots, 1)?.transpose(0, 1)?.contiguous();
    let dq = dq.reshape(((), shape.heads, shape.head_dim))?;
    Ok((dq, of_rows(dk)?, of_rows(dv)?))
}

/// How rows of queries stand: the heads that share keys belong together.
struct Queries {
    kv_heads: usize,
    width: usize,
}

impl Queries {
    fn of(shape: HeadShape) -> Self {
        Self { kv_heads: shape.kv_heads, width: shape.group() * shape.head_dim }
    }

    /// `[rows, heads, head_dim]` as `[kv_heads, rows, group · head_dim]`.
    fn wide(&self, rows: &Tensor) -> Result<Tensor> {
        by_head(&rows.reshape(((), self.kv_heads, self.width))?)
    }

    /// The inverse, as `[rows, heads · head_dim]`.
    fn narrow(&self, rows: &Tensor) -> Result<Tensor> {
        by_head(rows)?.reshape(((), self.kv_heads * self.width))
    }
}

/// A block of rows, whose `n = parts · part_rows · group` query vectors are computed together.
struct Task<'a> {
    block: &'a Block,
    shape: HeadShape,
}

impl Task<'_> {
    /// The block's rows of `[kv_heads, rows, group · head_dim]`, filled up: `[kv_heads, n,
    /// head_dim]`. What is filled up is 0, so that it adds nothing to gradients.
    fn take(&self, all: &Tensor) -> Result<Tensor> {
        let rows = all.narrow(1, self.block.row, self.block.rows)?;
        let rows = match &self.block.filling {
            None => rows.contiguous()?,
            Some(filling) => {
                rows.pad_with_zeros(1, 0, 1)?.contiguous()?.index_select(&filling.from, 1)?
            }
        };
        rows.reshape((self.shape.kv_heads, (), self.shape.head_dim))
    }

    /// The inverse of [`Self::take`]: `[kv_heads, rows of the block, group · head_dim]`.
    fn give(&self, rows: &Tensor) -> Result<Tensor> {
        let width = self.shape.group() * self.shape.head_dim;
        let rows = rows.reshape((self.shape.kv_heads, (), width))?;
        match &self.block.filling {
            None => Ok(rows),
            Some(filling) => rows.index_select(&filling.back, 1),
        }
    }

    /// What the block's rows see of keys or values, in f32: each seen range as `[kv_heads, keys,
    /// head_dim]`, then own ones as `[kv_heads · parts, own, head_dim]`.
    fn views(&self, all: &Tensor) -> impl Iterator<Item = Result<Tensor>> {
        let seen = self
            .block
            .seen
            .iter()
            .map(|(range, _)| all.narrow(1, range.start, range.len())?.to_dtype(DType::F32));
        let own = || {
            let (block, shape) = (self.block, self.shape);
            let own = all.index_select(&block.own_slots, 1)?.to_dtype(DType::F32)?;
            own.reshape((shape.kv_heads * block.parts, block.own, shape.head_dim))
        };
        seen.chain(std::iter::once_with(own))
    }

    /// The slots of [`Self::views`].
    fn slots(&self) -> impl Iterator<Item = &Tensor> {
        self.block.seen.iter().map(|(_, slots)| slots).chain([&self.block.own_slots])
    }

    /// `pᵀ·a` for `p: [kv_heads, n, keys]` and `a: [kv_heads, n, head_dim]`, part by part if `slots`
    /// are those of all parts: `[kv_heads, slots, head_dim]`.
    fn transposed_product(&self, p: &Tensor, a: &Tensor, slots: usize) -> Result<Tensor> {
        let (heads, _, keys) = p.dims3()?;
        let batch = heads * slots / keys;
        let p = p.reshape((batch, (), keys))?;
        let a = a.reshape((batch, (), self.shape.head_dim))?;
        product(&p.transpose(1, 2)?, &a)?.reshape((heads, slots, ()))
    }

    /// Attention weights of scaled queries for each of [`Self::views`]: `[kv_heads, n, keys]`.
    fn weights(&self, q: &Tensor, keys: &Tensor) -> Result<Vec<Tensor>> {
        let (block, shape) = (self.block, self.shape);
        let mut scores: Vec<Tensor> = self
            .views(keys)
            .map(|keys| batched(q, &keys?.transpose(1, 2)?))
            .collect::<Result<_>>()?;
        let own = scores.pop().expect("a block has own keys");
        let (dims, by_row) = (
            own.dims3()?,
            (shape.kv_heads, block.parts, block.part_rows, shape.group(), block.own),
        );
        scores.push(own.reshape(by_row)?.broadcast_add(&block.mask)?.reshape(dims)?);
        softmax(&scores)
    }
}

/// `a·b` for `a: [kv_heads, n, _]` and `b` with a batch of `kv_heads`, or of `kv_heads · parts`:
/// `[kv_heads, n, _]`.
fn batched(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (heads, n, width) = a.dims3()?;
    let a = a.reshape((b.dim(0)?, (), width))?;
    product(&a, b)?.reshape((heads, n, ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::tensor::{check, values};
    use crate::kernels::Floats;
    use crate::ops::attention as fused;
    use crate::ops::attention_backward::{BackwardKeyValues, attend_backward as fused_backward};
    use crate::ops::attention_plan::{AttentionPlan, Segment};

    const SHAPES: [HeadShape; 3] = [
        HeadShape { heads: 6, kv_heads: 2, head_dim: 64 },
        HeadShape { heads: 2, kv_heads: 2, head_dim: 80 },
        HeadShape { heads: 2, kv_heads: 1, head_dim: 256 },
    ];

    /// Prompts alone, and one with branches of different lengths, one of them of two ranges.
    fn plans() -> Vec<AttentionPlan> {
        let branch = |rows, own| Segment { rows, seen: vec![0..33], own, past: 0 };
        let segments = vec![
            Segment { rows: 33, seen: vec![], own: 0, past: 0 },
            branch(2, 64),
            branch(3, 96),
            branch(70, 128),
            Segment { rows: 4, seen: vec![0..33, 64..66], own: 224, past: 0 },
        ];
        let mut plans = vec![AttentionPlan { segments }];
        plans.extend([1, 7, 300].map(AttentionPlan::causal));
        plans
    }

    #[test]
    fn agrees_with_the_fused_one() {
        for (shape, plan) in SHAPES.iter().flat_map(|s| plans().into_iter().map(|p| (*s, p))) {
            let HeadShape { heads, kv_heads, head_dim } = shape;
            let (rows, slots) = (plan.rows(), plan.own_slots());
            let (q, mut qs) = check::random(&[rows, heads, head_dim], 1);
            let (k, ks) = check::random(&[rows, kv_heads, head_dim], 2);
            let (v, vs) = check::random(&[rows, kv_heads, head_dim], 3);
            let (g, gs) = check::random(&[rows, heads * head_dim], 4);
            let mut kv = BackwardKeyValues::default();
            kv.fill(shape, plan.slots(), &slots, &ks, &vs);
            let (mut y, mut dk, mut dv) = (qs.clone(), ks.clone(), vs.clone());
            fused::attend(&qs, kv.forward(), shape, &plan, (&mut Floats::default(), &mut y));
            fused_backward(&mut qs, &mut kv, &gs, shape, &plan, (&slots, &mut dk, &mut dv));

            // All in few blocks, and in many.
            for scores in [1 << 24, heads * 500] {
                let plan = Plan::with_scores(&plan, heads, scores, &Device::Cpu).unwrap();
                let kv = KeyValues::of_pass(&k, &v, &plan).unwrap();
                let gradients = attend_backward(&q, &kv, &g, shape, &plan).unwrap();

                check::same(&attend(&q, &kv, shape, &plan).unwrap(), &y);
                check::same(&gradients.0, &qs);
                check::same(&gradients.1, &dk);
                check::same(&gradients.2, &dv);
            }
        }
    }

    /// Branches with different numbers of keys in the cache, and a prompt beside them.
    #[test]
    fn decoding_over_a_cache_agrees_with_the_fused_one() {
        let shape = SHAPES[0];
        let branch = |own, past| Segment { rows: 1, seen: vec![0..33], own, past };
        let prompt = Segment { rows: 20, seen: vec![], own: 192, past: 0 };
        let segments = vec![branch(64, 0), branch(96, 4), branch(128, 31), prompt];
        let plan = AttentionPlan { segments };
        let slots = 224;
        let (_, ks) = check::random(&[slots, shape.kv_width()], 2);
        let (_, vs) = check::random(&[slots, shape.kv_width()], 3);
        let (q, qs) = check::random(&[plan.rows(), shape.heads, shape.head_dim], 1);
        let mut kv = crate::ops::key_values::KeyValues::default();
        kv.resize(shape, slots);
        kv.store(shape, &(0..slots).collect::<Vec<_>>(), &ks, &vs);
        let mut wanted = vec![0.0; qs.len()];
        fused::attend(&qs, &kv, shape, &plan, (&mut Floats::default(), &mut wanted));

        let all = AttentionPlan::causal(slots);
        let all = Plan::new(&all, shape.heads, &Device::Cpu).unwrap();
        let plan = Plan::new(&plan, shape.heads, &Device::Cpu).unwrap();
        let rows = |x: &[f32]| {
            Tensor::from_slice(x, (slots, shape.kv_heads, shape.head_dim), &Device::Cpu).unwrap()
        };
        for (half, most) in [(false, 1e-5), (true, 2e-3)] {
            let kv = KeyValues::new(shape, slots, half, &Device::Cpu).unwrap();
            kv.store(&rows(&ks), &rows(&vs), &all).unwrap();

            let got = attend(&q, &kv, shape, &plan).unwrap();

            check::close(&values(&got).unwrap(), &wanted, most);
        }
    }
}
