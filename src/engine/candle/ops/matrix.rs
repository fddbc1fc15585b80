//! A frozen weight on a device, quantized as in the file.
//!
//! A product in f32 decodes some rows of a weight at a time (a panel), so that a large one never
//! exists whole in f32. In `fast` mode the forward product is candle's quantized kernel, which
//! rounds activations to 8 bits as `kernels` does; gradients always come from panels.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Result, Tensor};

use crate::engine::candle::ops::tensor::product;
use crate::gguf::GgmlType;
use crate::kernels::Compute;

/// Values of a panel, at most: 64 MiB.
const PANEL: usize = 1 << 24;

/// A frozen weight `[rows, cols]`.
#[derive(Clone)]
pub struct Matrix {
    tensor: Arc<QTensor>,
    rows: usize,
    cols: usize,
    /// The numbers of at least as many rows.
    numbers: Tensor,
    /// Rows that are decoded together.
    panel: usize,
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} [{}, {}]", self.tensor.dtype(), self.rows, self.cols)
    }
}

impl Matrix {
    /// A matrix from its bytes in a file; `numbers` counts at least as many rows from 0.
    ///
    /// # Errors
    /// If candle does not know the type, or the device has no memory for it.
    pub fn new(
        kind: GgmlType,
        (rows, cols): (usize, usize),
        bytes: Vec<u8>,
        numbers: &Tensor,
    ) -> Result<Self> {
        let device = numbers.device();
        let storage = QStorage::from_data(Cow::Owned(bytes), device, candle_type(kind)?)?;
        let tensor = Arc::new(QTensor::new(storage, (rows, cols))?);
        let panel = (PANEL / cols).max(1);
        Ok(Self { tensor, rows, cols, numbers: numbers.clone(), panel })
    }

    /// Bytes that it takes on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tensor.storage_size_in_bytes()
    }

    /// The rows with these numbers, decoded: `[ids, cols]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn select(&self, ids: &Tensor) -> Result<Tensor> {
        self.tensor.embedding(ids)
    }

    /// `x·Wᵀ` for `x: [n, cols]`.
    ///
    /// # Errors
    /// If the shapes don't fit together, or the device fails.
    pub fn forward(&self, x: &Tensor, compute: Compute) -> Result<Tensor> {
        if compute == Compute::Fast && self.tensor.dtype().block_size() > 1 {
            // Metal's kernel reads from the start of the memory, whatever the tensor says.
            let x = if x.layout().start_offset() == 0 {
                x.contiguous()?
            } else {
                x.force_contiguous()?
            };
            return x.apply_op1_no_bwd(&*self.tensor);
        }
        let parts: Vec<Tensor> =
            self.panels().map(|panel| product(x, &panel?.1.t()?)).collect::<Result<_>>()?;
        match &parts[..] {
            [whole] => Ok(whole.clone()),
            parts => Tensor::cat(parts, 1),
        }
    }

    /// `g·W` for `g: [n, rows]`, the gradient of [`Self::forward`]'s input.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn backward(&self, g: &Tensor) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for panel in self.panels() {
            let (first, panel) = panel?;
            let part = product(&g.narrow(1, first, panel.dim(0)?)?, &panel)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        Ok(sum.expect("a matrix has rows"))
    }

    /// The decoded panels, each with the number of its first row.
    fn panels(&self) -> impl Iterator<Item = Result<(usize, Tensor)>> {
        (0..self.rows).step_by(self.panel).map(|first| {
            let n = self.panel.min(self.rows - first);
            Ok((first, self.select(&self.numbers.narrow(0, first, n)?)?))
        })
    }
}

fn candle_type(kind: GgmlType) -> Result<GgmlDType> {
    Ok(match kind {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        GgmlType::Other(_) => candle_core::bail!("tensors of type {kind} have no kernel"),
    })
}

#[cfg(test)]
pub mod tests {
    use candle_core::Device;

    use super::*;
    use crate::engine::candle::ops::tensor::{check, values};
    use crate::kernels::PackedMatrix;

    /// Bytes of random values in a type of candle's, and both matrices made of them.
    pub fn both(
        kind: GgmlType,
        rows: usize,
        cols: usize,
        panel: usize,
        seed: u64,
    ) -> (Matrix, PackedMatrix) {
        let (values, _) = check::random(&[rows, cols], seed);
        let quantized = QTensor::quantize(&values, candle_type(kind).unwrap()).unwrap();
        let bytes = quantized.data().unwrap().into_owned();
        let packed = PackedMatrix::pack(kind, rows, cols, &bytes).unwrap();
        let numbers = Tensor::arange(0, rows as u32, &Device::Cpu).unwrap();
        let matrix = Matrix::new(kind, (rows, cols), bytes, &numbers).unwrap();
        (Matrix { panel, ..matrix }, packed)
    }

    /// All types, in one panel and in several of which the last is short.
    #[test]
    fn products_agree_with_the_packed_ones() {
        for kind in crate::arch::spec::WEIGHT_TYPES {
            for (n, panel) in [(1, 40), (7, 16), (40, 40)] {
                let (matrix, packed) = both(kind, 40, 256, panel, 5);
                let (x, xs) = check::random(&[n, 256], 6);
                let (g, gs) = check::random(&[n, 40], 7);
                let (mut y, mut dx) = (vec![0.0; n * 40], vec![0.0; n * 256]);
                packed.matmul(Compute::Exact, &xs, n, &mut y);
                packed.matmul_transposed(Compute::Exact, &gs, n, &mut dx, false);

                check::same(&matrix.forward(&x, Compute::Exact).unwrap(), &y);
                check::same(&matrix.backward(&g).unwrap(), &dx);
                let fast = values(&matrix.forward(&x, Compute::Fast).unwrap());
                check::close(&fast.unwrap(), &y, 2e-2);
            }
        }
    }
}
