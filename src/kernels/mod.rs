//! CPU kernels: products with quantised weights and plain f32 products.
//!
//! Weights are repacked once ([`PackedMatrix::pack`]) into a lossless tiled layout and stay in it;
//! every product runs on that layout. The kernels know nothing of models, tensors or gradients, and
//! this is the only folder with `unsafe` code.
//!
//! | file | owns |
//! |---|---|
//! | `layout` | what the packed bytes mean |
//! | `blocks`, `pack` | GGUF blocks → packed bytes |
//! | `activations` | rows of x rounded to int8 |
//! | `matmul` | cache blocking, threads |
//! | `isa` | which instruction set runs; `portable` and `avx512` are the choices |
//! | `gemm` | f32 products with strides |
//! | `panels` | dense f32 matrices: LoRA factors, keys, values |
//! | `threads` | how work is spread over threads |
//! | `elementwise` | dot products, exponentials, softmax |

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
pub mod elementwise;
mod error;
pub mod gemm;
mod isa;
mod layout;
mod matmul;
mod pack;
mod panels;
mod portable;
#[cfg(test)]
mod tests;
pub mod threads;

pub use error::KernelError;
pub use layout::PackedMatrix;
pub use matmul::{Product, Update, matmul_shared};
pub use panels::{PANEL_ROWS, Panels, multiply_panel};

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
