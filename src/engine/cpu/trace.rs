//! A forward pass whose gradient can be taken, on the CPU.
//!
//! The forward pass keeps only each block's input. The backward pass computes one block's values at a
//! time once more from that input and runs them backwards, so that the memory of activations is one
//! block's, not the model's.

use super::CpuEngine;
use super::adapter::PackedAdapter;
use super::forward::{Keys, Rows};
use super::scratch::Scratch;
use crate::arch::lora::LoraTensors;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Input, ModelError};
use crate::kernels::Floats;

/// What the backward pass needs of a forward pass.
#[derive(Debug)]
pub struct Trace {
    rows: Rows,
    /// The input of each block and, last, of the output norm: `[rows, hidden]` each.
    inputs: Vec<Floats>,
}

impl Trace {
    /// What the output norm is given, `[rows, hidden]`.
    pub(super) fn top(&self) -> &Floats {
        self.inputs.last().expect("a trace has inputs")
    }
}

impl CpuEngine {
    /// All blocks, of which each one's input is kept.
    pub(super) fn trace_blocks(
        &self,
        input: Input<'_>,
        adapter: &PackedAdapter,
        interrupt: &Interrupt,
    ) -> Result<Trace, ModelError> {
        let rows = self.rows(input.positions, input.plan);
        let mut scratch = Scratch::default();
        let mut x = self.embed(input.tokens);
        let mut inputs = Vec::with_capacity(self.spec.layers + 1);
        for index in 0..self.spec.layers {
            interrupt.check()?;
            inputs.push(x.clone());
            let lora = Some(adapter.block(index));
            self.block(index, &mut x, &rows, &mut Keys::Pass, lora, &mut scratch.forward);
        }
        inputs.push(x);
        Ok(Trace { rows, inputs })
    }

    /// From the gradient of the hidden states behind the output norm to those of the LoRA factors.
    pub(super) fn blocks_backward(
        &self,
        mut trace: Trace,
        g: Vec<f32>,
        adapter: &PackedAdapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        let top = trace.inputs.pop().expect("the output norm has an input");
        let mut gradient = Floats::zeroed(top.len());
        self.output_norm().backward(&top, &g, &mut gradient);
        drop((g, top));
        let mut scratch = Scratch::default();
        for index in (0..self.spec.layers).rev() {
            interrupt.check()?;
            let mut x = trace.inputs.pop().expect("an input a block");
            let stream = (&mut x[..], &mut gradient[..]);
            let lora = adapter.block(index);
            self.block_backward(index, stream, &trace.rows, lora, &mut scratch, sums);
        }
        Ok(())
    }
}
