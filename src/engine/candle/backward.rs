//! The backward pass on a device, block by block: the steps carried out backwards.

use candle_core::{Result, Tensor};

use super::CandleEngine;
use super::forward::{Adapter, At, BlockFactors, Rows, Values, input, joined};
use crate::arch::block::{Step, Value};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::engine::candle::ops::attention::{KeyValues, attend, attend_backward};
use crate::engine::candle::ops::linear::FactorGradients;
use crate::engine::candle::ops::swiglu::{swiglu, swiglu_backward};
use crate::engine::candle::ops::tensor::{matrix, values};
use crate::engine::interrupt::Interrupt;
use crate::engine::{Input, ModelError};
use crate::kernels::elementwise::add;

/// A forward pass whose gradient can be taken: the input of each block and, last, of the output
/// norm, `[rows, hidden]` each.
#[derive(Debug)]
pub struct Trace {
    rows: Rows,
    inputs: Vec<Tensor>,
}

impl Trace {
    /// What the output norm is given, `[rows, hidden]`.
    pub(super) fn top(&self) -> &Tensor {
        self.inputs.last().expect("a trace has inputs")
    }
}

/// The gradients of one block's factors so far, by target.
#[derive(Default)]
struct Sums([Option<FactorGradients>; Target::ALL.len()]);

impl Sums {
    fn add(&mut self, target: Target, gradients: Option<FactorGradients>) -> Result<()> {
        let Some((a, b)) = gradients else { return Ok(()) };
        let sum = &mut self.0[target as usize];
        *sum = Some(match sum.take() {
            Some((sum_a, sum_b)) => ((sum_a + a)?, (sum_b + b)?),
            None => (a, b),
        });
        Ok(())
    }

    /// Adds them to those of all blocks.
    fn add_to(self, layer: usize, sums: &mut LoraTensors) -> Result<()> {
        for (target, gradients) in Target::ALL.into_iter().zip(self.0) {
            let Some((a, b)) = gradients else { continue };
            for (factor, gradient) in [(Factor::A, a), (Factor::B, b)] {
                let sum = sums.get_mut(&LoraKey { layer, target, factor });
                let sum = sum.expect("gradients for every factor");
                add(&values(&gradient)?, &mut sum.data);
            }
        }
        Ok(())
    }
}

impl CandleEngine {
    /// All blocks, of which each one's input is kept.
    pub(super) fn trace_blocks(
        &self,
        input: &Input<'_>,
        lora: &Adapter,
        interrupt: &Interrupt,
    ) -> std::result::Result<Trace, ModelError> {
        let rows = self.rows(input)?;
        let mut inputs = vec![self.embed(input.tokens)?];
        for (index, lora) in lora.blocks.iter().enumerate() {
            interrupt.check()?;
            let x = self.block(index, &inputs[index], &rows, None, Some(lora))?;
            inputs.push(x);
        }
        Ok(Trace { rows, inputs })
    }

    /// From the gradient of the hidden states behind the output norm to those of the LoRA factors.
    pub(super) fn blocks_backward(
        &self,
        mut trace: Trace,
        g: &[f32],
        lora: &Adapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> std::result::Result<(), ModelError> {
        let top = trace.inputs.pop().expect("the output norm has an input");
        let g = matrix(g, top.dim(0)?, &self.device)?;
        let mut g = self.output_norm().backward(&top, &g)?;
        for (index, lora) in lora.blocks.iter().enumerate().rev() {
            interrupt.check()?;
            let x = trace.inputs.pop().expect("an input a block");
            let mut of_block = Sums::default();
            g = self.block_backward(index, (&x, &g), &trace.rows, lora, &mut of_block)?;
            of_block.add_to(index, sums)?;
        }
        Ok(())
    }

    /// From `g`, the gradient of block `index`'s output, to that of its input `x`.
    fn block_backward(
        &self,
        index: usize,
        (x, g): (&Tensor, &Tensor),
        rows: &Rows,
        lora: &BlockFactors,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let at = At { index, rotation: &rows.rotation, lora: Some(lora) };
        let shape = self.head_shape();
        let mut values = Values::default();
        self.run(&self.block.before, at, &mut x.clone(), &mut values)?;
        let kv = KeyValues::of_pass(&values[Value::K], &values[Value::V], &rows.plan)?;
        let attended = attend(&values[Value::Q], &kv, shape, &rows.plan)?;
        values.set(Value::Attended, attended);

        let (mut d_attended, mut streams) = (Vec::new(), Vec::new());
        for chunk in self.row_chunks.of(x.dim(0)?) {
            let mut x = x.narrow(0, chunk.start, chunk.len())?;
            let mut g = g.narrow(0, chunk.start, chunk.len())?;
            let mut values = values.rows(Value::Attended, chunk.start, chunk.len())?;
            let mut gradients = Values::default();
            self.run(&self.again, at, &mut x, &mut values)?;
            let after = &self.block.after;
            self.run_backward(after, at, (&x, &mut g), &values, &mut gradients, sums)?;
            d_attended.push(gradients[Value::Attended].clone());
            streams.push(g);
        }
        let (d_attended, mut g) = (joined(&d_attended)?, joined(&streams)?);

        let mut gradients = Values::default();
        let (dq, dk, dv) = attend_backward(&values[Value::Q], &kv, &d_attended, shape, &rows.plan)?;
        for (value, d) in [(Value::Q, dq), (Value::K, dk), (Value::V, dv)] {
            gradients.set(value, d);
        }
        let before = &self.block.before;
        self.run_backward(before, at, (x, &mut g), &values, &mut gradients, sums)?;
        Ok(g)
    }

    /// Carries out steps backwards: `g` becomes the gradient of the residual stream in front of them.
    /// `x` is the residual stream as the norm among them reads it.
    fn run_backward(
        &self,
        steps: &[Step],
        at: At<'_>,
        (x, g): (&Tensor, &mut Tensor),
        values: &Values,
        gradients: &mut Values,
        sums: &mut Sums,
    ) -> Result<()> {
        for step in steps.iter().rev() {
            match *step {
                Step::Norm { weight, from, to } => {
                    let norm = self.norm(at.index, weight);
                    let d = norm.backward(input(from, x, values), &gradients[to])?;
                    match from {
                        Value::Residual => *g = (&*g + d)?,
                        from => gradients.set(from, d),
                    }
                }
                Step::Linear { layers, from, to, .. } => {
                    let gated;
                    let x = match from {
                        Value::Gated => {
                            gated = swiglu(&values[Value::Gate], &values[Value::Up])?;
                            &gated
                        }
                        from => input(from, x, values),
                    };
                    let mut sum: Option<Tensor> = None;
                    for (target, value) in layers.iter().zip(to) {
                        let layer = self.layer(at.index, *target, at.lora);
                        let d = gradients[*value].flatten_from(1)?;
                        let (dx, of_factors) = layer.backward(x, &d)?;
                        sums.add(*target, of_factors)?;
                        sum = Some(match sum {
                            Some(sum) => (sum + dx)?,
                            None => dx,
                        });
                    }
                    gradients.set(from, sum.expect("a linear step has layers"));
                }
                Step::Bias { .. } => {}
                Step::Rope { value } => {
                    gradients.set(value, at.rotation.backward(&gradients[value])?);
                }
                Step::Gate => {
                    let (gate, up) = (&values[Value::Gate], &values[Value::Up]);
                    let (d_gate, d_up) = swiglu_backward(gate, up, &gradients[Value::Gated])?;
                    gradients.set(Value::Gate, d_gate);
                    gradients.set(Value::Up, d_up);
                }
                Step::Add { from } => gradients.set(from, g.clone()),
            }
        }
        Ok(())
    }
}
