//! The backward pass through a block: from its input, which the forward pass has kept, what its
//! gradient needs is computed once more; then its steps are carried out backwards, chunk by chunk.

use std::mem::take;
use std::ops::Range;

use super::CpuEngine;
use super::adapter::{BlockLora, block_gradients};
use super::forward::{At, Rows};
use super::scratch::{
    BackwardScratch, ForwardScratch, GradientPlace, Scratch, gradient_place, sized, span,
};
use crate::arch::block::{Step, Value};
use crate::arch::lora::{LoraTensors, Target};
use crate::ops::attention_backward::attend_backward;
use crate::ops::linear::{self, FactorGradients, MOST};
use crate::ops::swiglu::swiglu_backward;

/// Gradients of a block's LoRA factors, by target.
type Gradients<'a> = [Option<FactorGradients<'a>>; Target::ALL.len()];

impl CpuEngine {
    /// From `g: [rows, hidden]`, the gradient of block `index`'s output, to the gradient of its input
    /// `x`, in the same place; adds the gradients of the block's LoRA factors to `sums`.
    ///
    /// The keys and values that rows see are those of the pass alone.
    pub(super) fn block_backward(
        &self,
        index: usize,
        (x, g): (&mut [f32], &mut [f32]),
        rows: &Rows,
        lora: &BlockLora,
        scratch: &mut Scratch,
        sums: &mut LoraTensors,
    ) {
        let (shape, hidden) = (self.head_shape(), self.spec.hidden);
        let mut factors = block_gradients(sums, index);
        self.before_attention(index, x, rows, Some(lora), &mut scratch.forward);
        let Scratch { forward: s, backward: b } = &mut *scratch;
        let [k, v] = [Value::K, Value::V].map(|value| &s.values[value]);
        b.kv.fill(shape, rows.plan.slots(), &rows.slots, k, v);
        self.attend(rows, b.kv.forward(), &mut s.values, &mut s.by_head);
        for value in [Value::K, Value::V, Value::Attended] {
            sized(&mut b.gradients[value], rows.len() * self.spec.width(value));
        }
        let mut residual = take(&mut b.residual);
        for chunk in self.row_chunks.of(rows.len()) {
            let at = At { index, chunk: &chunk, rotation: &rows.rotation, lora: Some(lora) };
            residual.copy_from(&x[span(&chunk, hidden)]);
            self.run(&self.again.after, at, &mut residual, s);
            let stream = (&residual[..], &mut g[span(&chunk, hidden)]);
            self.run_backward(&self.block.after, at, stream, (s, b), &mut factors);
        }
        b.residual = residual;

        let mut dk = take(&mut b.gradients[Value::K]);
        let mut dv = take(&mut b.gradients[Value::V]);
        let (q, d) = (&mut s.values[Value::Q], &b.gradients[Value::Attended]);
        attend_backward(q, &mut b.kv, d, shape, &rows.plan, (&rows.slots, &mut dk, &mut dv));
        b.gradients[Value::K] = dk;
        b.gradients[Value::V] = dv;
        for chunk in self.row_chunks.of(rows.len()) {
            let at = At { index, chunk: &chunk, rotation: &rows.rotation, lora: Some(lora) };
            let x = &mut x[span(&chunk, hidden)];
            self.run(&self.again.before, at, x, s);
            let stream = (&*x, &mut g[span(&chunk, hidden)]);
            self.run_backward(&self.block.before, at, stream, (s, b), &mut factors);
        }
    }

    /// Carries out steps backwards on a chunk of rows: `g` becomes the gradient of the residual stream
    /// in front of them. `x` is the residual stream as the norm among them reads it.
    fn run_backward(
        &self,
        steps: &[Step],
        at: At<'_>,
        (x, g): (&[f32], &mut [f32]),
        (s, b): (&mut ForwardScratch, &mut BackwardScratch),
        factors: &mut Gradients<'_>,
    ) {
        for step in steps.iter().rev() {
            match *step {
                Step::Norm { weight, from, to } => {
                    assert_eq!(from, Value::Residual, "norms read the residual stream");
                    let d = &b.gradients[to][self.extent(to, at.chunk)];
                    self.norm(at.index, weight).backward(x, d, g);
                }
                Step::Linear { .. } => self.linear_backward(step, at, (x, g), (s, b), factors),
                Step::Rope { value } => {
                    let d = self.gradient_mut(value, at.chunk, s, b);
                    at.rotation.backward(at.chunk.start, d, self.heads(value), self.spec.head_dim);
                }
                // The gate's gradient is taken with that of the layer that reads it; a sum and a bias
                // pass theirs on.
                Step::Gate | Step::Add { .. } | Step::Bias { .. } => {}
            }
        }
    }

    /// The gradients of a linear step's input and of its LoRA factors.
    fn linear_backward(
        &self,
        step: &Step,
        at: At<'_>,
        (x, g): (&[f32], &[f32]),
        (s, b): (&mut ForwardScratch, &mut BackwardScratch),
        factors: &mut Gradients<'_>,
    ) {
        let Step::Linear { group, layers: targets, from, to } = *step else { return };
        let rows = at.chunk.len();
        let lora = at.lora.and_then(|lora| lora.group(group));
        let (layers, n) = self.layers(at.index, targets, rows);
        let (mut dx, mut dh) = (take(&mut b.gradients[from]), take(&mut b.dh));
        {
            let d = self.output_gradients(to, at.chunk, g, s, b);
            let dx = self.output(from, at.chunk, &mut dx);
            linear::input_gradient(&layers[..n], lora, &d[..n], rows, (dx, &mut dh));
        }
        b.gradients[from] = dx;
        if from == Value::Gated {
            // Where the gradient of the gated value was, the value itself is afterwards.
            let mut d = take(&mut b.gradients[Value::Gated]);
            let (mut gate, mut up) =
                (take(&mut s.values[Value::Gate]), take(&mut s.values[Value::Up]));
            swiglu_backward(&mut gate, &mut up, &mut d);
            s.values[Value::Gate] = gate;
            s.values[Value::Up] = up;
            b.gradients[Value::Gated] = d;
        }
        let input = match from {
            Value::Gated => &b.gradients[Value::Gated],
            from => self.input(from, at.chunk, x, s),
        };
        let d = self.output_gradients(to, at.chunk, g, s, b);
        let (x, factors) = ((input, rows), take_factors(factors, targets));
        linear::factor_gradients(&layers[..n], lora, x, &d[..n], &dh, factors);
        b.dh = dh;
    }

    /// The gradients of a linear step's results.
    fn output_gradients<'a>(
        &self,
        values: &[Value],
        chunk: &Range<usize>,
        g: &'a [f32],
        s: &'a ForwardScratch,
        b: &'a BackwardScratch,
    ) -> [&'a [f32]; MOST] {
        let of = |value: Value| match gradient_place(value) {
            GradientPlace::Stream => g,
            GradientPlace::Value => self.input(value, chunk, &[], s),
            GradientPlace::Own => &b.gradients[value][self.extent(value, chunk)],
        };
        std::array::from_fn(|i| values.get(i).map_or(&[][..], |value| of(*value)))
    }

    /// The gradient of a chunk's queries or keys.
    fn gradient_mut<'a>(
        &self,
        value: Value,
        chunk: &Range<usize>,
        s: &'a mut ForwardScratch,
        b: &'a mut BackwardScratch,
    ) -> &'a mut [f32] {
        let buffers = match gradient_place(value) {
            GradientPlace::Own => &mut b.gradients,
            GradientPlace::Value => &mut s.values,
            GradientPlace::Stream => unreachable!("only queries and keys are rotated"),
        };
        self.output(value, chunk, &mut buffers[value])
    }
}

/// Borrows the gradients of some targets' factors, in their order.
fn take_factors<'a>(
    factors: &'a mut Gradients<'_>,
    targets: &[Target],
) -> [Option<FactorGradients<'a>>; MOST] {
    let mut taken = [const { None }; MOST];
    for (target, gradient) in Target::ALL.into_iter().zip(factors) {
        if let Some(i) = targets.iter().position(|t| *t == target) {
            taken[i] = gradient.as_mut().map(FactorGradients::reborrow);
        }
    }
    taken
}
