//! The gated activation between a block's feed-forward projections (Shazeer 2020, arXiv 2002.05202).

use crate::kernels::elementwise;
use crate::kernels::threads::{in_rows, in_rows_of};

/// What a value costs, in multiplications.
const MACS: usize = 8;
/// Values of one part; work is cut at multiples of it.
const PART: usize = 256;

/// `gate` becomes gate·σ(gate)·up, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "as many gates as values");
    let macs = MACS * up.len();
    let width = if up.len().is_multiple_of(PART) { PART } else { 1 };
    in_rows(gate, width, macs, |first, gate| {
        elementwise::swiglu(gate, &up[first * width..]);
    });
}

/// The backward pass: from `d: [n]`, the gradient of the output, to `gate`'s and `up`'s gradients,
/// which take the place of their values; `d` becomes the output itself, gate·σ(gate)·up.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], d: &mut [f32]) {
    let macs = 2 * MACS * up.len();
    let width = if up.len().is_multiple_of(PART) { PART } else { 1 };
    in_rows_of([gate, up, d], width, macs, |_, [gate, up, d]| {
        elementwise::swiglu_backward(gate, up, d);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    fn forward(x: &[f32]) -> Vec<f32> {
        let (gate, up) = x.split_at(x.len() / 2);
        let mut out = gate.to_vec();
        swiglu(&mut out, up);
        out
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        check::gradient(&check::numbers(30, 7), forward, |x, g| {
            let (mut gate, mut up) = (x[..15].to_vec(), x[15..].to_vec());
            let mut d = g.to_vec();
            swiglu_backward(&mut gate, &mut up, &mut d);
            d.iter().zip(forward(x)).for_each(|(d, y)| assert!((d - y).abs() < 1e-6));
            [gate, up].concat()
        });
    }
}
