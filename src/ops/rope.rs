//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{tensor, values, with_values};
use crate::model::spec::RopeStyle;

/// The rotation of each row: cos and sin of position · frequency, `[rows, dim/2]` each.
#[derive(Debug)]
pub struct Rotation {
    pub style: RopeStyle,
    /// How many leading values of each head are rotated; the rest pass through.
    pub dim: usize,
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

impl Rotation {
    /// The rotation of rows at these `positions` under `frequencies: [dim/2]` (radians a position).
    #[must_use]
    pub fn new(style: RopeStyle, frequencies: &[f32], positions: &[u32]) -> Self {
        let n = positions.len() * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for &p in positions {
            for &f in frequencies {
                let (s, c) = (p as f32 * f).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        Self { style, dim: 2 * frequencies.len(), cos, sin }
    }

    /// Rotates `x: [rows, heads, head_dim]` in place, backwards if `inverse`.
    fn apply(&self, x: &mut [f32], heads: usize, head_dim: usize, inverse: bool) {
        let half = self.dim / 2;
        let turn = if inverse { -1.0 } else { 1.0 };
        for (row, values) in x.chunks_exact_mut(heads * head_dim).enumerate() {
            let cos = &self.cos[row * half..(row + 1) * half];
            let sin = &self.sin[row * half..(row + 1) * half];
            for head in values.chunks_exact_mut(head_dim) {
                for i in 0..half {
                    let (a, b) = match self.style {
                        RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                        RopeStyle::Halves => (i, i + half),
                    };
                    let (x, y, c, s) = (head[a], head[b], cos[i], turn * sin[i]);
                    head[a] = x * c - y * s;
                    head[b] = x * s + y * c;
                }
            }
        }
    }
}

struct Rope(Arc<Rotation>);

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, head_dim) = layout.shape().dims3()?;
        let mut x = values(storage, layout)?.into_owned();
        self.0.apply(&mut x, heads, head_dim, false);
        Ok((CpuStorage::F32(x), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, heads, head_dim) = x.dims3()?;
        let mut dx = with_values(grad, <[f32]>::to_vec)?;
        self.0.apply(&mut dx, heads, head_dim, true);
        tensor(dx, x.shape()).map(Some)
    }
}

/// Rotates each head of `x: [rows, heads, head_dim]` by its row's position.
///
/// # Errors
/// If `rotation` was made for another number of rows or a larger head.
pub fn rope(x: &Tensor, rotation: &Arc<Rotation>) -> Result<Tensor> {
    let (rows, _, head_dim) = x.dims3()?;
    if rotation.cos.len() != rows * rotation.dim / 2 || head_dim < rotation.dim {
        candle_core::bail!("a rotation of {} values for {:?}", rotation.cos.len(), x.shape());
    }
    x.apply_op1(Rope(Arc::clone(rotation)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    fn rotation(style: RopeStyle) -> Arc<Rotation> {
        Arc::new(Rotation::new(style, &[1.0, 0.1], &[0, 3, 7]))
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            check::gradients(&[&[3, 2, 5]], |t| rope(&t[0], &rotation(style)));
        }
    }

    #[test]
    fn agrees_with_plain_tensor_operations() {
        let x = tensor(check::numbers(3 * 2 * 4, 3), (3, 2, 4)).unwrap();
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            let r = rotation(style);
            let cos = tensor(r.cos.clone(), (3, 2)).unwrap();
            let sin = tensor(r.sin.clone(), (3, 2)).unwrap();
            let heads_first =
                x.transpose(0, 1).unwrap().contiguous().unwrap().unsqueeze(0).unwrap();
            let wanted = match style {
                RopeStyle::Interleaved => plain_interleaved(&heads_first, &cos, &sin),
                RopeStyle::Halves => plain_halves(&heads_first, &cos, &sin),
            };
            let wanted = wanted.unwrap().squeeze(0).unwrap().transpose(0, 1).unwrap();
            let got = rope(&x, &r).unwrap();
            let off = (got - wanted).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 1e-6, "{style:?}");
        }
    }

    /// [`RopeStyle::Halves`] in plain tensor operations; `x: [1, heads, rows, dim]`.
    fn plain_halves(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let half = x.dim(3)? / 2;
        let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
        let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
        let second = (a.broadcast_mul(sin)? + b.broadcast_mul(cos)?)?;
        Tensor::cat(&[first, second], 3)
    }

    /// [`RopeStyle::Interleaved`] in plain tensor operations.
    fn plain_interleaved(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let (b, h, t, d) = x.dims4()?;
        let halves = x.reshape((b, h, t, d / 2, 2))?.transpose(3, 4)?.reshape((b, h, t, d))?;
        let turned = plain_halves(&halves, cos, sin)?;
        turned.reshape((b, h, t, 2, d / 2))?.transpose(3, 4)?.reshape((b, h, t, d))
    }
}
