//! A forward pass whose gradient can be taken, on the CPU.
//!
//! The forward pass keeps only each block's input. The backward pass computes one block's values at a
//! time once more from that input and runs them backwards, so that the memory of activations is one
//! block's, not the model's.

use crate::arch::lora::LoraTensors;
use crate::engine::cpu::adapter::PackedAdapter;
use crate::engine::cpu::scratch::Scratch;
use crate::engine::cpu::transformer::{Keys, Rows, Transformer};
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

impl Transformer {
    /// Runs a policy over `input` and keeps what its gradient needs.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] between blocks; [`ModelError::Token`] on foreign tokens.
    pub fn trace(
        &self,
        input: Input<'_>,
        adapter: &PackedAdapter,
        interrupt: &Interrupt,
    ) -> Result<Trace, ModelError> {
        let rows = self.rows(input.positions, input.plan);
        let mut scratch = Scratch::default();
        let mut x = Floats::default();
        self.embed(input.tokens, &mut x)?;
        let mut inputs = Vec::with_capacity(self.depth() + 1);
        for index in 0..self.depth() {
            interrupt.check()?;
            inputs.push(x.clone());
            let lora = Some(adapter.block(index));
            self.block(index, &mut x, &rows, &mut Keys::Pass, lora, &mut scratch);
        }
        inputs.push(x);
        Ok(Trace { rows, inputs })
    }

    /// The hidden states behind a traced pass, `[rows, hidden]`.
    ///
    /// # Panics
    /// Never: a trace has inputs.
    #[must_use]
    pub fn traced(&self, trace: &Trace) -> Floats {
        self.output_norm(trace.inputs.last().expect("a trace has inputs"))
    }

    /// From `g: [rows, hidden]`, the gradient of [`Self::traced`], to those of the LoRA factors,
    /// which are added to `sums`.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] between blocks.
    ///
    /// # Panics
    /// If the shapes of `g`, `adapter` and `sums` don't fit together.
    pub fn backward(
        &self,
        mut trace: Trace,
        g: Vec<f32>,
        adapter: &PackedAdapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        let top = trace.inputs.pop().expect("the output norm has an input");
        let mut gradient = self.output_norm_backward(&top, &g);
        drop((g, top));
        let mut scratch = Scratch::default();
        for index in (0..self.depth()).rev() {
            interrupt.check()?;
            let input = trace.inputs.pop().expect("an input a block");
            let (lora, x) = (adapter.block(index), (&input[..], &mut gradient[..]));
            self.block_backward(index, x, &trace.rows, lora, &mut scratch, sums);
        }
        Ok(())
    }
}
