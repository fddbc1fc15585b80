//! Root mean square normalization, as `ops::rms_norm`.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::rms_norm;

/// A norm's weight `[width]` and the number that keeps it from dividing by zero.
#[derive(Debug)]
pub struct RmsNorm<'a> {
    pub weight: &'a Tensor,
    pub eps: f32,
}

impl RmsNorm<'_> {
    /// 1 / √(mean(x²) + eps), `[rows, 1]`.
    fn inverse_rms(&self, x: &Tensor) -> Result<Tensor> {
        x.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, f64::from(self.eps))?.sqrt()?.recip()
    }

    /// y = x / √(mean(x²) + eps) · weight for each row of `x: [rows, width]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(&x.contiguous()?, self.weight, self.eps)
    }

    /// The gradient of the input from `g` of the output: r·(w·g − x·r²·mean(w·g·x)), where r = 1 /
    /// √(mean(x²) + eps).
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward(&self, x: &Tensor, g: &Tensor) -> Result<Tensor> {
        let r = self.inverse_rms(x)?;
        let weighted = g.broadcast_mul(self.weight)?;
        let shrink = ((&weighted * x)?.mean_keepdim(D::Minus1)? * r.sqr()?)?;
        (weighted - x.broadcast_mul(&shrink)?)?.broadcast_mul(&r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::tensor::check;
    use crate::ops::rms_norm as fused_norm;

    #[test]
    fn agrees_with_the_fused_one() {
        for (rows, width) in [(1, 64), (7, 576), (300, 48)] {
            let (weight, w) = check::random(&[width], 1);
            let (x, xs) = check::random(&[rows, width], 2);
            let (g, gs) = check::random(&[rows, width], 3);
            let fused = fused_norm::RmsNorm { weight: &w, eps: 1e-5 };
            let norm = RmsNorm { weight: &weight, eps: 1e-5 };
            let (mut y, mut dx) = (vec![0.0; xs.len()], vec![0.0; xs.len()]);
            fused.forward(&xs, &mut y);
            fused.backward(&xs, &gs, &mut dx);

            check::same(&norm.forward(&x).unwrap(), &y);
            check::same(&norm.backward(&x, &g).unwrap(), &dx);
        }
    }
}
