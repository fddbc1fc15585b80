//! The gated activation between a block's feed-forward projections.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{tensor, values, with_values};
use crate::kernels::elementwise;

/// Values that one task of the thread pool works on.
const CHUNK: usize = 1 << 15;

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(gate, gate_layout)?, values(up, up_layout)?);
        let mut out = vec![0.0; gate.len()];
        out.par_chunks_mut(CHUNK)
            .zip(gate.par_chunks(CHUNK))
            .zip(up.par_chunks(CHUNK))
            .for_each(|((out, gate), up)| elementwise::swiglu(gate, up, out));
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let shape = gate.shape();
        let (mut d_gate, mut d_up) = (vec![0.0; shape.elem_count()], vec![0.0; shape.elem_count()]);
        with_values(gate, |gate| {
            with_values(up, |up| {
                with_values(grad, |grad| {
                    d_gate
                        .par_chunks_mut(CHUNK)
                        .zip(d_up.par_chunks_mut(CHUNK))
                        .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)))
                        .zip(grad.par_chunks(CHUNK))
                        .for_each(|(((d_gate, d_up), (gate, up)), grad)| {
                            elementwise::swiglu_backward(gate, up, grad, d_gate, d_up);
                        });
                })
            })
        })???;
        Ok((Some(tensor(d_gate, shape)?), Some(tensor(d_up, shape)?)))
    }
}

/// SwiGLU: gate·σ(gate)·up, element by element (Shazeer 2020, arXiv 2002.05202).
///
/// # Errors
/// If the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        candle_core::bail!("a gate of shape {:?} for {:?}", gate.shape(), up.shape());
    }
    gate.apply_op2(up, Swiglu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradient_agrees_with_finite_differences() {
        check::gradients(&[&[3, 5], &[3, 5]], |t| swiglu(&t[0], &t[1]));
    }

    #[test]
    fn agrees_with_candle() {
        let gate = tensor(check::numbers(70_000, 4), (700, 100)).unwrap();
        let up = tensor(check::numbers(70_000, 5), (700, 100)).unwrap();
        let wanted = (gate.silu().unwrap() * &up).unwrap();
        let off = (swiglu(&gate, &up).unwrap() - wanted).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
