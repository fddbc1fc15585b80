//! Root mean square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{tensor, values, with_values};
use crate::kernels::elementwise::dot;

/// Rows of fewer values than this in total are not worth a second thread.
const PARALLEL_VALUES: usize = 1 << 15;

struct RmsNorm {
    weight: Arc<[f32]>,
    eps: f32,
}

impl RmsNorm {
    fn inverse_rms(&self, x: &[f32]) -> f32 {
        (dot(x, x) / x.len() as f32 + self.eps).sqrt().recip()
    }

    fn forward_row(&self, x: &[f32], y: &mut [f32]) {
        let r = self.inverse_rms(x);
        for ((y, x), w) in y.iter_mut().zip(x).zip(self.weight.iter()) {
            *y = x * r * w;
        }
    }

    /// dx = r·(w·g − x·r²·mean(w·g·x))
    fn backward_row(&self, x: &[f32], g: &[f32], dx: &mut [f32]) {
        let r = self.inverse_rms(x);
        for ((d, g), w) in dx.iter_mut().zip(g).zip(self.weight.iter()) {
            *d = g * w;
        }
        let shrink = dot(dx, x) / x.len() as f32 * r * r;
        for (d, x) in dx.iter_mut().zip(x) {
            *d = r * (*d - x * shrink);
        }
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let width = self.weight.len();
        let mut y = vec![0.0; x.len()];
        let rows = (PARALLEL_VALUES / width).max(1) * width;
        y.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                self.forward_row(x, y);
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = self.weight.len();
        let mut dx = vec![0.0; x.elem_count()];
        with_values(x, |x| {
            with_values(grad, |g| {
                let rows = dx.par_chunks_mut(width).with_min_len(PARALLEL_VALUES / width + 1);
                rows.zip(x.par_chunks(width))
                    .zip(g.par_chunks(width))
                    .for_each(|((dx, x), g)| self.backward_row(x, g, dx));
            })
        })??;
        tensor(dx, x.shape()).map(Some)
    }
}

/// y = x / √(mean(x²) + eps) · weight over the last dimension of `x: [.., width]`.
///
/// # Errors
/// If the last dimension is not the weight's length.
pub fn rms_norm(x: &Tensor, weight: &Arc<[f32]>, eps: f32) -> Result<Tensor> {
    if x.dim(candle_core::D::Minus1)? != weight.len() {
        candle_core::bail!("a norm of width {} for {:?}", weight.len(), x.shape());
    }
    x.apply_op1(RmsNorm { weight: Arc::clone(weight), eps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let weight: Arc<[f32]> = check::numbers(6, 1).into();
        check::gradients(&[&[3, 6]], |t| rms_norm(&t[0], &weight, 1e-5));
    }

    #[test]
    fn rows_have_unit_mean_square_under_unit_weight() {
        let x = tensor(check::numbers(4 * 64, 2), (4, 64)).unwrap();
        let y = rms_norm(&x, &vec![1.0; 64].into(), 0.0).unwrap();
        for row in y.to_vec2::<f32>().unwrap() {
            assert!((row.iter().map(|v| v * v).sum::<f32>() / 64.0 - 1.0).abs() < 1e-5);
        }
    }
}
