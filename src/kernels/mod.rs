//! CPU kernels.
pub mod elementwise;
pub mod gemm;
use crate::model::gguf::GgmlType;

/// How products with quantised weights are computed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Weights decoded to f32, f32 products.
    Exact,
    /// Activations rounded to 8 bits per block of 32 where a kernel gains from it.
    Fast,
}
fn threads() -> usize {
    rayon::current_num_threads()
}
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("bad")]
    Bad,
}
#[derive(Debug)]
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}
impl PackedMatrix {
    pub fn pack(ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, KernelError> {
        use candle_core::quantized::{GgmlDType, QStorage, QTensor};
        let dt = match ty {
            GgmlType::F32 => GgmlDType::F32,
            GgmlType::Q4_1 => GgmlDType::Q4_1,
            GgmlType::Q8_0 => GgmlDType::Q8_0,
            _ => return Err(KernelError::Bad),
        };
        let s = QStorage::from_data(
            std::borrow::Cow::Owned(bytes.to_vec()),
            &candle_core::Device::Cpu,
            dt,
        )
        .unwrap();
        let q = QTensor::new(s, (rows, cols)).unwrap();
        let data = q
            .dequantize(&candle_core::Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        Ok(Self { rows, cols, data })
    }
    pub fn rows(&self) -> usize {
        self.rows
    }
    pub fn cols(&self) -> usize {
        self.cols
    }
    pub fn resident_bytes(&self) -> usize {
        self.data.len() * 4
    }
    pub fn matmul(&self, _c: Compute, x: &[f32], m: usize, y: &mut [f32]) {
        use gemm::*;
        gemm(
            y,
            self.rows,
            false,
            1.0,
            MatRef::new(x, m, self.cols, self.cols),
            MatRef::new(&self.data, self.rows, self.cols, self.cols).t(),
            true,
        );
    }
    pub fn matmul_transposed(&self, g: &[f32], m: usize, dx: &mut [f32], acc: bool) {
        use gemm::*;
        gemm(
            dx,
            self.cols,
            acc,
            1.0,
            MatRef::new(g, m, self.rows, self.rows),
            MatRef::new(&self.data, self.rows, self.cols, self.cols),
            true,
        );
    }
    pub fn decode_row(&self, r: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.data[r * self.cols..(r + 1) * self.cols]);
    }
}
