//! The backward pass on a device, block by block, as `model::backward`.
//!
//! ```text
//! x ─► norm ─► q k v ─► rope ─► attention ─► o ─(+ x)─► middle ─► norm ─► gate up ─► swiglu ─► down ─(+ middle)─► y
//! ```

use candle_core::{Result, Tensor};

use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::engine::candle::attention::{KeyValues, attend, attend_backward};
use crate::engine::candle::linear::FactorGradients;
use crate::engine::candle::model::{Adapter, Attention, BlockFactors, Model, Rows, joined};
use crate::engine::candle::swiglu::{swiglu, swiglu_backward};
use crate::engine::candle::tensor::{matrix, values};
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

impl Model {
    /// Runs a policy over `input` and keeps what its gradient needs.
    ///
    /// # Errors
    /// If the device fails; [`ModelError::Interrupted`] between blocks.
    pub fn trace(
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

    /// The hidden states behind a traced pass, `[rows, hidden]`.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// Never: a trace has inputs.
    pub fn traced(&self, trace: &Trace) -> Result<Tensor> {
        self.weights.output_norm.forward(trace.inputs.last().expect("a trace has inputs"))
    }

    /// From `g: [rows, hidden]`, the gradient of [`Self::traced`], to those of the LoRA factors,
    /// which are added to `sums`.
    ///
    /// # Errors
    /// If the device fails; [`ModelError::Interrupted`] between blocks.
    ///
    /// # Panics
    /// If the shapes of `g`, `lora` and `sums` don't fit together.
    pub fn backward(
        &self,
        mut trace: Trace,
        g: &[f32],
        lora: &Adapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> std::result::Result<(), ModelError> {
        let top = trace.inputs.pop().expect("the output norm has an input");
        let g = matrix(g, top.dim(0)?, &self.device)?;
        let mut g = self.weights.output_norm.backward(&top, &g)?;
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
        let lora = Some(lora);
        let [q, k, v, o, ..] = Target::ALL.map(|target| self.layer(index, target, lora));
        let shape = self.head_shape();
        let inputs = self.attention(index, x, rows, lora)?;
        let Attention { normed, .. } = &inputs;
        let kv = KeyValues::of_pass(&inputs.k, &inputs.v, &rows.plan)?;
        let attended = attend(&inputs.q, &kv, shape, &rows.plan)?;
        let middle = (x + o.forward(&attended)?)?;

        let g = self.feed_forward_backward(index, (&middle, g), lora, sums)?;

        let (d_attended, of_o) = o.backward(&attended, &g)?;
        sums.add(Target::O, of_o)?;
        let (dq, dk, dv) = attend_backward(&inputs.q, &kv, &d_attended, shape, &rows.plan)?;
        let d = [rows.rotation.backward(&dq)?, rows.rotation.backward(&dk)?, dv];
        let mut d_normed = normed.zeros_like()?;
        for ((target, layer), d) in [(Target::Q, q), (Target::K, k), (Target::V, v)].iter().zip(&d)
        {
            let (part, of_layer) = layer.backward(normed, &d.flatten_from(1)?)?;
            sums.add(*target, of_layer)?;
            d_normed = (d_normed + part)?;
        }
        g + self.weights.blocks[index].attention_norm.backward(x, &d_normed)?
    }

    /// The gradient of `middle`.
    fn feed_forward_backward(
        &self,
        index: usize,
        (middle, g): (&Tensor, &Tensor),
        lora: Option<&BlockFactors>,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let norm = &self.weights.blocks[index].ffn_norm;
        let layer = |target| self.layer(index, target, lora);
        let (gate, up, down) = (layer(Target::Gate), layer(Target::Up), layer(Target::Down));
        let mut row_chunks = Vec::new();
        for piece in self.row_chunks.of(middle.dim(0)?) {
            let part = |all: &Tensor| all.narrow(0, piece.start, piece.len());
            let (x, g) = (part(middle)?, part(g)?);
            let normed = norm.forward(&x)?;
            let (gates, ups) = (gate.forward(&normed)?, up.forward(&normed)?);
            let (d, of_down) = down.backward(&swiglu(&gates, &ups)?, &g)?;
            let (d_gates, d_ups) = swiglu_backward(&gates, &ups, &d)?;
            let (of_gate, of_up) =
                (gate.backward(&normed, &d_gates)?, up.backward(&normed, &d_ups)?);
            let d_normed = (of_gate.0 + of_up.0)?;
            sums.add(Target::Down, of_down)?;
            sums.add(Target::Gate, of_gate.1)?;
            sums.add(Target::Up, of_up.1)?;
            row_chunks.push((g + norm.backward(&x, &d_normed)?)?);
        }
        joined(&row_chunks)
    }
}
