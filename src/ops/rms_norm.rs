//! Root mean square normalization (Zhang & Sennrich 2019, arXiv 1910.07467).

use crate::kernels::elementwise::dot;
use crate::kernels::threads::in_rows;

/// What a value costs, in multiplications.
const MACS: usize = 2;

/// A norm's weight and the number that keeps it from dividing by zero.
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm<'a> {
    /// `[width]`
    pub weight: &'a [f32],
    pub eps: f32,
}

impl RmsNorm<'_> {
    fn inverse_rms(&self, x: &[f32]) -> f32 {
        (dot(x, x) / x.len() as f32 + self.eps).sqrt().recip()
    }

    /// y = x / √(mean(x²) + eps) · weight for each row of `x`, `y: [rows, width]`.
    ///
    /// # Panics
    /// If the lengths differ or are no whole number of rows.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let width = self.weight.len();
        assert_eq!(x.len(), y.len(), "as many values out as in");
        in_rows(y, width, MACS * x.len(), |first, y| {
            for (y, x) in y.chunks_exact_mut(width).zip(x[first * width..].chunks_exact(width)) {
                let r = self.inverse_rms(x);
                for ((y, x), w) in y.iter_mut().zip(x).zip(self.weight) {
                    *y = x * r * w;
                }
            }
        });
    }

    /// Adds the gradient of the input to `dx`, from `g` of the output; all `[rows, width]`:
    /// dx += r·(w·g − x·r²·mean(w·g·x)), where r = 1 / √(mean(x²) + eps).
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward(&self, x: &[f32], g: &[f32], dx: &mut [f32]) {
        let width = self.weight.len();
        assert!(x.len() == dx.len() && g.len() == dx.len(), "as many values out as in");
        in_rows(dx, width, 2 * MACS * x.len(), |first, dx| {
            let mut weighted = vec![0.0; width];
            let rows = x[first * width..].chunks_exact(width).zip(g[first * width..].chunks(width));
            for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                let r = self.inverse_rms(x);
                for ((d, g), w) in weighted.iter_mut().zip(g).zip(self.weight) {
                    *d = g * w;
                }
                let shrink = dot(&weighted, x) / width as f32 * r * r;
                for ((dx, d), x) in dx.iter_mut().zip(&weighted).zip(x) {
                    *dx += r * (d - x * shrink);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let weight = check::numbers(6, 1);
        let norm = RmsNorm { weight: &weight, eps: 1e-5 };
        check::gradient(
            &check::numbers(18, 7),
            |x| {
                let mut y = vec![0.0; 18];
                norm.forward(x, &mut y);
                y
            },
            |x, g| {
                let mut dx = vec![0.0; 18];
                norm.backward(x, g, &mut dx);
                dx
            },
        );
    }

    #[test]
    fn rows_have_unit_mean_square_under_unit_weight() {
        let (x, mut y) = (check::numbers(4 * 64, 2), vec![0.0; 4 * 64]);
        RmsNorm { weight: &[1.0; 64], eps: 0.0 }.forward(&x, &mut y);
        for row in y.chunks(64) {
            assert!((row.iter().map(|v| v * v).sum::<f32>() / 64.0 - 1.0).abs() < 1e-5);
        }
    }
}
