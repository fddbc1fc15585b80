//! The forward pass: the steps of each block, carried out on chunks of rows.
//!
//! One implementation for sampling, scoring and training. Training runs the same steps backwards
//! (`backward`).

use std::mem::take;
use std::ops::Range;

use super::CpuEngine;
use super::adapter::{BlockLora, PackedAdapter};
use super::kv_cache::KvCache;
use super::scratch::{Buffers, ForwardScratch, Scratch, sized, span};
use crate::arch::block::{Step, Value, Vector};
use crate::arch::lora::Target;
use crate::engine::ModelError;
use crate::engine::interrupt::Interrupt;
use crate::kernels::elementwise::add;
use crate::kernels::threads::in_rows;
use crate::kernels::{Compute, Floats, fast_is_close};
use crate::ops::attention::{HeadShape, attend};
use crate::ops::attention_plan::AttentionPlan;
use crate::ops::key_values::KeyValues;
use crate::ops::linear::{self, Layer, MOST};
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::Rotation;
use crate::ops::swiglu::swiglu;

/// What a pass over some rows needs beside their hidden states.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub rotation: Rotation,
    pub plan: AttentionPlan,
    /// The slot in which each row's keys and values are kept.
    pub slots: Vec<usize>,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Where the keys and values that rows attend to come from.
pub(super) enum Keys<'a> {
    /// From the rows of this pass alone.
    Pass,
    /// From a cache, in which the rows of this pass are stored first, each in its slot.
    Cache(&'a mut KvCache),
}

/// The rows that steps are carried out on, and with what.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The block's number.
    pub index: usize,
    /// The rows in the pass.
    pub chunk: &'a Range<usize>,
    pub rotation: &'a Rotation,
    pub lora: Option<&'a BlockLora>,
}

impl CpuEngine {
    /// What a pass needs to know of rows at `positions` that see each other by `plan`.
    pub(super) fn rows(&self, positions: &[u32], plan: AttentionPlan) -> Rows {
        let rotation = Rotation::new(self.spec.family.rope, &self.frequencies, positions);
        Rows { rotation, slots: plan.own_slots(), plan }
    }

    /// The embeddings of `tokens`, `[tokens, hidden]`.
    pub(super) fn embed(&self, tokens: &[u32]) -> Floats {
        let hidden = self.spec.hidden;
        let mut x = Floats::default();
        let x_rows = sized(&mut x, tokens.len() * hidden);
        let macs = 8 * x_rows.len();
        in_rows(x_rows, hidden, macs, |first, x| {
            for (row, &id) in x.chunks_exact_mut(hidden).zip(&tokens[first..]) {
                self.weights.embedding.decode_row(id as usize, row);
            }
        });
        x
    }

    /// All blocks and the output norm on the embeddings of `tokens`: `[tokens, hidden]`.
    pub(super) fn all_blocks(
        &self,
        tokens: &[u32],
        rows: &Rows,
        mut keys: Keys<'_>,
        lora: Option<&PackedAdapter>,
        scratch: &mut Scratch,
        interrupt: &Interrupt,
    ) -> Result<Floats, ModelError> {
        let mut x = self.embed(tokens);
        for index in 0..self.spec.layers {
            interrupt.check()?;
            let lora = lora.map(|l| l.block(index));
            self.block(index, &mut x, rows, &mut keys, lora, &mut scratch.forward);
        }
        let mut normed = Floats::zeroed(x.len());
        self.output_norm().forward(&x, &mut normed);
        Ok(normed)
    }

    /// Applies block `index` to `x: [rows, hidden]` in place, with LoRA if given.
    pub(super) fn block(
        &self,
        index: usize,
        x: &mut [f32],
        rows: &Rows,
        keys: &mut Keys<'_>,
        lora: Option<&BlockLora>,
        s: &mut ForwardScratch,
    ) {
        self.before_attention(index, x, rows, lora, s);
        let shape = self.head_shape();
        let [k, v] = [Value::K, Value::V].map(|value| &s.values[value]);
        let kv: &KeyValues = match keys {
            Keys::Pass => {
                s.kv.resize(shape, rows.plan.slots());
                s.kv.store(shape, &rows.slots, k, v);
                &s.kv
            }
            Keys::Cache(cache) => {
                let kv = cache.layer(index);
                kv.store(shape, &rows.slots, k, v);
                kv
            }
        };
        self.attend(rows, kv, &mut s.values, &mut s.by_head);
        for chunk in self.row_chunks.of(rows.len()) {
            let at = At { index, chunk: &chunk, rotation: &rows.rotation, lora };
            self.run(&self.block.after, at, &mut x[span(&chunk, self.spec.hidden)], s);
        }
    }

    /// Attention: from the queries among `values` and from `kv` to [`Value::Attended`]; `by_head` is
    /// memory.
    pub(super) fn attend(
        &self,
        rows: &Rows,
        kv: &KeyValues,
        values: &mut Buffers,
        by_head: &mut Floats,
    ) {
        let shape = self.head_shape();
        let mut attended = take(&mut values[Value::Attended]);
        let to = sized(&mut attended, rows.len() * shape.q_width());
        attend(&values[Value::Q], kv, shape, &rows.plan, (by_head, to));
        values[Value::Attended] = attended;
    }

    /// Carries out the steps before attention, which leave queries, keys and values of all rows.
    pub(super) fn before_attention(
        &self,
        index: usize,
        x: &mut [f32],
        rows: &Rows,
        lora: Option<&BlockLora>,
        s: &mut ForwardScratch,
    ) {
        for value in [Value::Q, Value::K, Value::V] {
            sized(&mut s.values[value], rows.len() * self.spec.width(value));
        }
        for chunk in self.row_chunks.of(rows.len()) {
            let at = At { index, chunk: &chunk, rotation: &rows.rotation, lora };
            self.run(&self.block.before, at, &mut x[span(&chunk, self.spec.hidden)], s);
        }
    }

    /// Carries out steps on a chunk of rows, whose residual stream is `x: [_, hidden]`.
    pub(super) fn run(&self, steps: &[Step], at: At<'_>, x: &mut [f32], s: &mut ForwardScratch) {
        let n = at.chunk.len();
        for step in steps {
            match *step {
                Step::Norm { weight, from, to } => {
                    let mut out = take(&mut s.values[to]);
                    let from = self.input(from, at.chunk, x, s);
                    let y = self.output(to, at.chunk, &mut out);
                    self.norm(at.index, weight).forward(from, y);
                    s.values[to] = out;
                }
                Step::Linear { group, layers, from, to } => {
                    let mut outs: [Floats; MOST] = Default::default();
                    for (out, value) in outs.iter_mut().zip(to) {
                        *out = take(&mut s.values[*value]);
                    }
                    let mut h = take(&mut s.h);
                    let input = (self.input(from, at.chunk, x, s), n);
                    let mut places = to.iter();
                    let mut y = outs.each_mut().map(|out| match places.next() {
                        Some(value) => self.output(*value, at.chunk, out),
                        None => &mut [],
                    });
                    let lora = at.lora.and_then(|lora| lora.group(group));
                    let (layers, n) = self.layers(at.index, layers, n);
                    linear::forward(&layers[..n], lora, input, &mut h, &mut y[..n]);
                    s.h = h;
                    for (out, value) in outs.into_iter().zip(to) {
                        s.values[*value] = out;
                    }
                }
                Step::Bias { weight, value } => {
                    let bias = self.vector(at.index, weight);
                    let y = self.output(value, at.chunk, &mut s.values[value]);
                    in_rows(y, bias.len(), y.len(), |_, y| {
                        y.chunks_exact_mut(bias.len()).for_each(|row| add(bias, row));
                    });
                }
                Step::Rope { value } => {
                    let y = self.output(value, at.chunk, &mut s.values[value]);
                    at.rotation.forward(at.chunk.start, y, self.heads(value), self.spec.head_dim);
                }
                Step::Gate => {
                    let mut gate = take(&mut s.values[Value::Gate]);
                    swiglu(&mut gate, &s.values[Value::Up]);
                    s.values[Value::Gated] = gate;
                }
                Step::Add { from } => {
                    let out = self.input(from, at.chunk, &[], s);
                    let (hidden, macs) = (self.spec.hidden, x.len());
                    in_rows(x, hidden, macs, |first, x| add(&out[first * hidden..], x));
                }
            }
        }
    }

    /// The rows of a chunk of a value.
    pub(super) fn input<'a>(
        &self,
        value: Value,
        chunk: &Range<usize>,
        x: &'a [f32],
        s: &'a ForwardScratch,
    ) -> &'a [f32] {
        match value {
            Value::Residual => x,
            value => &s.values[value][self.extent(value, chunk)],
        }
    }

    /// The same, to be written.
    pub(super) fn output<'a>(
        &self,
        value: Value,
        chunk: &Range<usize>,
        buffer: &'a mut Floats,
    ) -> &'a mut [f32] {
        let extent = self.extent(value, chunk);
        if !value.is_whole() {
            buffer.resize(extent.len());
        }
        &mut buffer[extent]
    }

    /// Where the rows of a chunk are in the buffer of a value.
    pub(super) fn extent(&self, value: Value, chunk: &Range<usize>) -> Range<usize> {
        let width = self.spec.width(value);
        if value.is_whole() { span(chunk, width) } else { 0..chunk.len() * width }
    }

    /// The heads of a row of queries or keys.
    pub(super) fn heads(&self, value: Value) -> usize {
        self.spec.width(value) / self.spec.head_dim
    }

    pub(super) fn norm(&self, index: usize, weight: Vector) -> RmsNorm<'_> {
        RmsNorm { weight: self.vector(index, weight), eps: self.spec.rms_eps }
    }

    pub(super) fn output_norm(&self) -> RmsNorm<'_> {
        RmsNorm { weight: &self.weights.output_norm, eps: self.spec.rms_eps }
    }

    fn vector(&self, index: usize, vector: Vector) -> &[f32] {
        self.weights.blocks[index].vector(vector)
    }

    /// The linear layers of a step for `rows` rows, and how many there are.
    pub(super) fn layers(
        &self,
        index: usize,
        targets: &[Target],
        rows: usize,
    ) -> ([Layer<'_>; MOST], usize) {
        let layer = |target: Target| {
            let exact = target.is_exact() && !fast_is_close(rows);
            let compute = if exact { Compute::Exact } else { self.compute };
            (&**self.weights.blocks[index].linear(target), compute)
        };
        let of = |i: usize| layer(*targets.get(i).unwrap_or(&targets[0]));
        (std::array::from_fn(of), targets.len())
    }

    /// The heads of each block's attention.
    pub(super) fn head_shape(&self) -> HeadShape {
        HeadShape::from(&self.spec)
    }
}
