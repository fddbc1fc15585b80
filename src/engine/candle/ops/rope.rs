//! Rotary position embedding, as `ops::rope`.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::rotary_emb::{rope_i, rope_thd};

use crate::engine::candle::ops::tensor::matrix;
use crate::ops::rope;
use crate::ops::rope::RopeStyle;

/// The rotation of each row.
#[derive(Debug)]
pub struct Rotation {
    style: RopeStyle,
    /// How many leading values of each head are rotated.
    dim: usize,
    /// `[rows, dim / 2]`
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// The same rotation on a device.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn new(rotation: &rope::Rotation, rows: usize, device: &Device) -> Result<Self> {
        let on_device = |values| matrix(values, rows, device);
        let (cos, sin) = (on_device(&rotation.cos)?, on_device(&rotation.sin)?);
        Ok(Self { style: rotation.style, dim: rotation.dim, cos, sin })
    }

    /// Rotates each head of `x: [rows, heads, head_dim]` by its row's position.
    ///
    /// # Errors
    /// If the shapes don't fit together, or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.rotate(x, &self.sin)
    }

    /// The gradient of [`Self::forward`]: rotates back.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn backward(&self, g: &Tensor) -> Result<Tensor> {
        self.rotate(g, &self.sin.neg()?)
    }

    fn rotate(&self, x: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let head_dim = x.dim(D::Minus1)?;
        let turned = x.narrow(D::Minus1, 0, self.dim)?;
        let turned = match self.style {
            RopeStyle::Interleaved => {
                let by_head = turned.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
                rope_i(&by_head, &self.cos, sin)?.squeeze(0)?.transpose(0, 1)?.contiguous()?
            }
            RopeStyle::Halves => {
                rope_thd(&turned.contiguous()?.unsqueeze(0)?, &self.cos, sin)?.squeeze(0)?
            }
        };
        if head_dim == self.dim {
            return Ok(turned);
        }
        let rest = x.narrow(D::Minus1, self.dim, head_dim - self.dim)?;
        Tensor::cat(&[turned, rest], D::Minus1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::tensor::check;

    #[test]
    fn agrees_with_the_fused_one() {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for (rows, heads, head_dim, dim) in
                [(1, 3, 64, 64), (7, 2, 80, 80), (300, 1, 256, 256), (7, 2, 80, 32)]
            {
                let frequencies: Vec<f32> = (0..dim / 2).map(|i| 0.9f32.powi(i)).collect();
                let positions: Vec<u32> = (0..rows as u32).map(|i| i * 5 % 37).collect();
                let fused = rope::Rotation::new(style, &frequencies, &positions);
                let rotation = Rotation::new(&fused, rows, &Device::Cpu).unwrap();
                let (x, values) = check::random(&[rows, heads, head_dim], 4);
                let (mut there, mut back) = (values.clone(), values);
                fused.forward(0, &mut there, heads, head_dim);
                fused.backward(0, &mut back, heads, head_dim);

                check::same(&rotation.forward(&x).unwrap(), &there);
                check::same(&rotation.backward(&x).unwrap(), &back);
            }
        }
    }
}
