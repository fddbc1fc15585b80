//! The operations of a transformer in f32 on the CPU, each with its gradient.
//!
//! All work on row-major slices that their callers own, so that buffers are reused from block to block
//! and from step to step. Frozen weights get no gradient. Each gradient is checked against finite
//! differences, and that of a whole model against PyTorch (`tests/learner/parity.rs`).

pub mod attention;
pub mod attention_backward;
pub mod attention_plan;
pub mod head;
pub mod key_values;
pub mod linear;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod check {
    //! Finite differences, the judge of every gradient.

    /// Numbers of about unit size, different for each `seed`.
    pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
        use rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 2.0).collect()
    }

    /// Checks `backward(x, g)`, the gradient of Σ g·f(x), against central differences.
    pub fn gradient(
        x: &[f32],
        f: impl Fn(&[f32]) -> Vec<f32>,
        backward: impl Fn(&[f32], &[f32]) -> Vec<f32>,
    ) {
        let g = numbers(f(x).len(), 99);
        let value = |x: &[f32]| -> f64 {
            f(x).iter().zip(&g).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum()
        };
        let gradient = backward(x, &g);
        assert_eq!(gradient.len(), x.len(), "a gradient for every input");
        for (i, d) in gradient.iter().enumerate() {
            let h = 1e-2;
            let mut moved = x.to_vec();
            moved[i] += h;
            let up = value(&moved);
            moved[i] -= 2.0 * h;
            let numeric = (up - value(&moved)) / f64::from(2.0 * h);
            let error = (f64::from(*d) - numeric).abs();
            assert!(error < 2e-3 * (1.0 + numeric.abs()), "input {i}: {d} {numeric}");
        }
    }
}
