//! Linear layers with LoRA updates, as `ops::linear`.

use candle_core::{Result, Tensor};

use crate::engine::candle::ops::matrix::Matrix;
use crate::engine::candle::ops::tensor::product;
use crate::kernels::Compute;

/// The factors of one layer's update `scale · B·A`.
#[derive(Debug)]
pub struct Factors {
    /// `[rank, in]`
    pub a: Tensor,
    /// scale · B: `[out, rank]`
    pub b: Tensor,
    pub scale: f32,
}

/// A frozen layer, how it is computed, and its update if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    pub weight: &'a Matrix,
    pub compute: Compute,
    pub lora: Option<&'a Factors>,
}

/// The gradients of a layer's factors, A's first.
pub type FactorGradients = (Tensor, Tensor);

impl Layer<'_> {
    /// `y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ` for `x: [rows, in]`.
    ///
    /// # Errors
    /// If the shapes don't fit together, or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.forward(x, self.compute)?;
        match self.lora {
            Some(Factors { a, b, .. }) => y + product(&product(x, &a.t()?)?, &b.t()?)?,
            None => Ok(y),
        }
    }

    /// From `g` of the result to the gradients of the input `x` and of the factors:
    /// `dx = g·W + dh·A` with `dh = scale·g·B`, `dA = dhᵀ·x` and `dB = scale·gᵀ·(x·Aᵀ)`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn backward(&self, x: &Tensor, g: &Tensor) -> Result<(Tensor, Option<FactorGradients>)> {
        let dx = self.weight.backward(g)?;
        let Some(Factors { a, b, scale }) = self.lora else { return Ok((dx, None)) };
        let dh = product(g, b)?;
        let da = product(&dh.t()?, x)?;
        let db = (product(&g.t()?, &product(x, &a.t()?)?)? * f64::from(*scale))?;
        Ok(((dx + product(&dh, a)?)?, Some((da, db))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::matrix::tests::both;
    use crate::engine::candle::ops::tensor::check;
    use crate::gguf::GgmlType;
    use crate::kernels::Floats;
    use crate::ops::linear as fused;

    #[test]
    fn agrees_with_the_fused_one() {
        let (out, input, rank, scale) = (40, 64, 3, 0.5);
        let (weight, packed) = both(GgmlType::Q4_1, out, input, 16, 1);
        let (a, a_values) = check::random(&[rank, input], 2);
        let (b, b_values) = check::random(&[out, rank], 3);
        let factors = Factors { a, b: (b * f64::from(scale)).unwrap(), scale };
        let of_fused = fused::Factors { rank, a: &a_values, b: &b_values };
        let group = fused::LoraGroup::new(&[Some(of_fused)], input, scale);
        for rows in [1, 7, 300] {
            let (x, xs) = check::random(&[rows, input], 4);
            let (g, gs) = check::random(&[rows, out], 5);
            for with_lora in [true, false] {
                let group = group.as_ref().filter(|_| with_lora);
                let layers = [(&packed, Compute::Exact)];
                let (mut y, mut dx) = (vec![0.0; gs.len()], vec![0.0; xs.len()]);
                let (mut da, mut db) = (vec![0.0; a_values.len()], vec![0.0; b_values.len()]);
                let (mut h, mut dh) = (Floats::default(), Floats::default());
                fused::forward(&layers, group, (&xs, rows), &mut h, &mut [&mut y]);
                fused::input_gradient(&layers, group, &[&gs], rows, (&mut dx, &mut dh));
                let sums = fused::FactorGradients { a: &mut da, b: &mut db };
                fused::factor_gradients(&layers, group, (&xs, rows), &[&gs], &dh, [Some(sums)]);

                let lora = Some(&factors).filter(|_| with_lora);
                let layer = Layer { weight: &weight, compute: Compute::Exact, lora };
                let (gradient, of_factors) = layer.backward(&x, &g).unwrap();

                check::same(&layer.forward(&x).unwrap(), &y);
                check::same(&gradient, &dx);
                assert_eq!(of_factors.is_some(), with_lora);
                if let Some((a, b)) = of_factors {
                    check::same(&a, &da);
                    check::same(&b, &db);
                }
            }
        }
    }
}
