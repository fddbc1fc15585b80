//! The linear layer: a frozen quantised weight and, beside it, a trainable LoRA update
//! (Hu et al. 2021, arXiv 2106.09685).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use super::{tensor, values, with_values};
use crate::kernels::gemm::{MatRef, gemm};
use crate::kernels::{Compute, PackedMatrix};

/// The update `scale · B·A` of one linear layer.
#[derive(Debug, Clone)]
pub struct LoraFactors {
    /// `[rank, in]`
    pub a: Tensor,
    /// `[out, rank]`
    pub b: Tensor,
    /// alpha / rank
    pub scale: f32,
}

struct Frozen {
    weight: Arc<PackedMatrix>,
    compute: Compute,
}

impl Frozen {
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.weight.cols();
        let mut y = vec![0.0; rows * self.weight.rows()];
        self.weight.matmul(self.compute, x, rows, &mut y);
        y
    }

    /// `dx = g · W`, whatever `compute` says in f32.
    fn backward(&self, g: &[f32]) -> Vec<f32> {
        let rows = g.len() / self.weight.rows();
        let mut dx = vec![0.0; rows * self.weight.cols()];
        self.weight.matmul_transposed(g, rows, &mut dx, false);
        dx
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "quantised-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(&values(storage, layout)?);
        let rows = y.len() / self.weight.rows();
        Ok((CpuStorage::F32(y), (rows, self.weight.rows()).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        tensor(with_values(grad, |g| self.backward(g))?, x.shape()).map(Some)
    }
}

struct WithLora {
    frozen: Frozen,
    rank: usize,
    scale: f32,
}

impl WithLora {
    /// `h = x · Aᵀ: [rows, rank]`
    fn down(&self, x: &[f32], a: &[f32]) -> Vec<f32> {
        let (cols, rank) = (self.frozen.weight.cols(), self.rank);
        let rows = x.len() / cols;
        let mut h = vec![0.0; rows * rank];
        let (x, a) = (MatRef::new(x, rows, cols, cols), MatRef::new(a, rank, cols, cols));
        gemm(&mut h, rank, false, 1.0, x, a.t(), true);
        h
    }
}

impl CustomOp3 for WithLora {
    fn name(&self) -> &'static str {
        "quantised-linear-with-lora"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, a, b) = (values(x, x_layout)?, values(a, a_layout)?, values(b, b_layout)?);
        let (out, rank) = (self.frozen.weight.rows(), self.rank);
        let mut y = self.frozen.forward(&x);
        let rows = y.len() / out;
        let h = self.down(&x, &a);
        let (h, b) = (MatRef::new(&h, rows, rank, rank), MatRef::new(&b, out, rank, rank));
        gemm(&mut y, out, true, self.scale, h, b.t(), true);
        Ok((CpuStorage::F32(y), (rows, out).into()))
    }

    /// dB = s·gᵀh, dh = s·g·B, dA = dhᵀx, dx = g·W + dh·A
    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (out, cols, rank) = (self.frozen.weight.rows(), self.frozen.weight.cols(), self.rank);
        let rows = x.dim(0)?;
        let (dx, da, db) = with_values(grad, |g| {
            with_values(x, |x| {
                with_values(a, |a| {
                    with_values(b, |b| {
                        let h = self.down(x, a);
                        let g_view = MatRef::new(g, rows, out, out);
                        let mut db = vec![0.0; out * rank];
                        let h_view = MatRef::new(&h, rows, rank, rank);
                        gemm(&mut db, rank, false, self.scale, g_view.t(), h_view, true);

                        let mut dh = vec![0.0; rows * rank];
                        let b_view = MatRef::new(b, out, rank, rank);
                        gemm(&mut dh, rank, false, self.scale, g_view, b_view, true);

                        let mut da = vec![0.0; rank * cols];
                        let dh_view = MatRef::new(&dh, rows, rank, rank);
                        let x_view = MatRef::new(x, rows, cols, cols);
                        gemm(&mut da, cols, false, 1.0, dh_view.t(), x_view, true);

                        let mut dx = self.frozen.backward(g);
                        let a_view = MatRef::new(a, rank, cols, cols);
                        gemm(&mut dx, cols, true, 1.0, dh_view, a_view, true);
                        (dx, da, db)
                    })
                })
            })
        })????;
        Ok((
            Some(tensor(dx, x.shape())?),
            Some(tensor(da, a.shape())?),
            Some(tensor(db, b.shape())?),
        ))
    }
}

/// `y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ` for `x: [rows, in]`; without `lora` the frozen part alone.
///
/// # Errors
/// If the shapes don't fit together.
pub fn linear(
    x: &Tensor,
    weight: &Arc<PackedMatrix>,
    compute: Compute,
    lora: Option<&LoraFactors>,
) -> Result<Tensor> {
    let (out, cols) = (weight.rows(), weight.cols());
    if x.dims2()?.1 != cols {
        candle_core::bail!("a weight of {out} x {cols} for {:?}", x.shape());
    }
    let frozen = Frozen { weight: Arc::clone(weight), compute };
    let Some(LoraFactors { a, b, scale }) = lora else {
        return x.apply_op1(frozen);
    };
    let rank = a.dim(0)?;
    if a.dims() != [rank, cols] || b.dims() != [out, rank] {
        candle_core::bail!("LoRA factors {:?}, {:?} for {out} x {cols}", a.shape(), b.shape());
    }
    x.apply_op3(a, b, WithLora { frozen, rank, scale: *scale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::GgmlType;
    use crate::ops::check;

    fn weight(rows: usize, cols: usize) -> Arc<PackedMatrix> {
        let bytes: Vec<u8> =
            check::numbers(rows * cols, 5).into_iter().flat_map(f32::to_le_bytes).collect();
        Arc::new(PackedMatrix::pack(GgmlType::F32, rows, cols, &bytes).unwrap())
    }

    #[test]
    fn gradient_of_the_input_agrees_with_finite_differences() {
        let w = weight(5, 32);
        check::gradients(&[&[3, 32]], |t| linear(&t[0], &w, Compute::Exact, None));
    }

    #[test]
    fn gradients_with_lora_agree_with_finite_differences() {
        let w = weight(5, 32);
        check::gradients(&[&[3, 32], &[2, 32], &[5, 2]], |t| {
            let lora = LoraFactors { a: t[1].clone(), b: t[2].clone(), scale: 0.5 };
            linear(&t[0], &w, Compute::Exact, Some(&lora))
        });
    }
}
