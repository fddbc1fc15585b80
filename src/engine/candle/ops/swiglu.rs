//! The gated activation between a block's feed-forward projections, as `ops::swiglu`.

use candle_core::{Result, Tensor};

/// gate·σ(gate)·up, element by element.
///
/// # Errors
/// If the shapes differ, or the device fails.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// The gradients of `gate` and `up` from `g` of the output.
///
/// # Errors
/// If the shapes differ, or the device fails.
pub fn swiglu_backward(gate: &Tensor, up: &Tensor, g: &Tensor) -> Result<(Tensor, Tensor)> {
    // exp may be infinite; its reciprocal is then 0, as it should be.
    let sigmoid = gate.neg()?.exp()?.affine(1.0, 1.0)?.recip()?;
    let slope = (&sigmoid * (gate * sigmoid.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)?;
    let d_gate = ((g * up)? * slope)?;
    let d_up = (g * gate.silu()?)?;
    Ok((d_gate, d_up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::tensor::{check, values};
    use crate::ops::swiglu as fused;

    #[test]
    fn agrees_with_the_fused_one() {
        for rows in [1, 7, 300] {
            let (gate, mut a) = check::random(&[rows, 48], 1);
            let (up, mut b) = check::random(&[rows, 48], 2);
            let (g, mut d) = check::random(&[rows, 48], 3);
            let mut y = a.clone();
            fused::swiglu(&mut y, &b);
            fused::swiglu_backward(&mut a, &mut b, &mut d);

            let (d_gate, d_up) = swiglu_backward(&gate, &up, &g).unwrap();

            check::same(&swiglu(&gate, &up).unwrap(), &y);
            check::same(&d_gate, &a);
            check::same(&d_up, &b);
        }
    }

    #[test]
    fn gates_far_from_zero_have_finite_gradients() {
        let gate = Tensor::new(&[-200f32, 200.0], &candle_core::Device::Cpu).unwrap();
        let one = gate.ones_like().unwrap();

        let (d_gate, d_up) = swiglu_backward(&gate, &one, &one).unwrap();

        assert_eq!(values(&d_gate).unwrap(), [0.0, 1.0]);
        assert_eq!(values(&d_up).unwrap()[1], 200.0);
    }
}
