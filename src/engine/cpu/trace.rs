//! A forward pass whose gradient can be taken, on the CPU.
//!
//! The forward pass keeps only each block's input. The backward pass computes one block's values at a
//! time once more from that input and runs them backwards, so that the memory of activations is one
//! block's, not the model's. With [`Compute::Fast`], inputs are kept in half precision.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::CpuEngine;
use super::adapter::PackedAdapter;
use super::forward::{Keys, Rows};
use super::scratch::Scratch;
use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Input, ModelError};
use crate::kernels::{Compute, Floats, float_bytes};

/// What the backward pass needs of a forward pass.
#[derive(Debug)]
pub struct Trace {
    rows: Rows,
    /// The input of each block, `[rows, hidden]`.
    inputs: Vec<Kept>,
    /// That of the output norm.
    top: Floats,
}

impl Trace {
    /// What the output norm is given, `[rows, hidden]`.
    pub(super) fn top(&self) -> &Floats {
        &self.top
    }

    /// Bytes of a trace of `rows` rows whose numbers fit half precision. While blocks run backwards, the place of the
    /// top is taken by one input after the other.
    #[must_use]
    pub fn bytes(spec: &ModelSpec, rows: usize, compute: Compute) -> u64 {
        let state = float_bytes(&[rows, spec.hidden]);
        let kept = match compute {
            Compute::Exact => state,
            Compute::Fast => state / 2,
        };
        state.saturating_add(kept.saturating_mul(spec.layers as u64))
    }
}

/// A block's input, kept until its gradient is computed.
#[derive(Debug)]
enum Kept {
    Whole(Floats),
    Half(Vec<f16>),
}

impl Kept {
    /// In half precision for [`Compute::Fast`], unless a number is too large for it or not finite.
    fn new(x: &Floats, compute: Compute) -> Self {
        if compute == Compute::Fast {
            let mut halves = vec![f16::ZERO; x.len()];
            halves.convert_from_f32_slice(x);
            if halves.iter().all(|value| value.is_finite()) {
                return Self::Half(halves);
            }
        }
        Self::Whole(x.clone())
    }

    /// The input in `x`, as large as it.
    fn take_to(self, x: &mut Floats) {
        match self {
            Self::Whole(values) => *x = values,
            Self::Half(halves) => halves.convert_to_f32_slice(x),
        }
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
        let mut inputs = Vec::with_capacity(self.spec.layers);
        for index in 0..self.spec.layers {
            interrupt.check()?;
            inputs.push(Kept::new(&x, self.compute));
            let lora = Some(adapter.block(index));
            self.block(index, &mut x, &rows, &mut Keys::Pass, lora, &mut scratch.forward);
        }
        Ok(Trace { rows, inputs, top: x })
    }

    /// From the gradient of the hidden states behind the output norm to those of the LoRA factors.
    pub(super) fn blocks_backward(
        &self,
        trace: Trace,
        g: Vec<f32>,
        adapter: &PackedAdapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        let Trace { rows, inputs, top } = trace;
        let mut gradient = Floats::zeroed(top.len());
        self.output_norm().backward(&top, &g, &mut gradient);
        drop(g);
        let (mut x, mut scratch) = (top, Scratch::default());
        for (index, input) in inputs.into_iter().enumerate().rev() {
            interrupt.check()?;
            input.take_to(&mut x);
            let stream = (&mut x[..], &mut gradient[..]);
            let lora = adapter.block(index);
            self.block_backward(index, stream, &rows, lora, &mut scratch, sums);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(values: &[f32], compute: Compute) -> (Kept, Vec<f32>) {
        let mut x = Floats::zeroed(values.len());
        x.copy_from_slice(values);
        let back = |kept: Kept| {
            let mut to = Floats::zeroed(values.len());
            kept.take_to(&mut to);
            to.to_vec()
        };
        (Kept::new(&x, compute), back(Kept::new(&x, compute)))
    }

    #[test]
    fn inputs_are_kept_in_half_precision_where_they_fit_it() {
        let values = [0.1, -3.0, 65504.0];
        assert!(matches!(kept(&values, Compute::Exact), (Kept::Whole(_), back) if back == values));
        let (halves, back) = kept(&values, Compute::Fast);
        assert!(matches!(halves, Kept::Half(_)));
        assert_eq!(back, values.map(|v| f16::from_f32(v).to_f32()));

        let large = [0.1, 70000.0];
        assert!(matches!(kept(&large, Compute::Fast), (Kept::Whole(_), back) if back == large));
        assert!(kept(&[0.1, f32::NAN], Compute::Fast).1[1].is_nan());
    }
}
