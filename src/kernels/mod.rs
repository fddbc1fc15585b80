//! CPU kernels: products with quantized weights and plain f32 products.
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
//! | `tiles`, `amx` | the same for products of bf16 tiles |
//! | `isa` | which instruction set runs: `portable`, `avx2`, `avx512`, `neon` |
//! | `view` | what the vector instruction sets share |
//! | `lines` | the memory of weights, in huge pages |
//! | `floats` | buffers that begin with a cache line |
//! | `heap` | freed memory goes back to the system |
//! | `gemm` | f32 products with strides |
//! | `panels` | dense f32 matrices: LoRA factors, keys, values |
//! | `threads`, `pool` | how work is spread over threads |
//! | `elementwise` | dot products, exponentials, softmax |
//! | `peak` | what the processor can do at most, to judge the others by |

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
pub mod elementwise;
mod error;
mod floats;
pub mod gemm;
mod heap;
mod isa;
mod layout;
mod lines;
mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod panels;
pub mod peak;
mod pool;
mod portable;
#[cfg(test)]
mod tests;
pub mod threads;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod view;

pub use error::KernelError;
pub use floats::{Floats, float_bytes};
pub use layout::PackedMatrix;
pub use matmul::{Product, Update, matmul_shared};
pub use panels::{PANEL_ROWS, Panel, Panels, multiply_panel};

/// The name of the instruction set that products with weights run on: the best of this machine, or
/// the one that the environment variable `LATROD_ISA` names (see
/// [`KernelError::NoSuchIsa`]). The variable is read once.
///
/// # Errors
/// [`KernelError::NoSuchIsa`] if it names one that this machine does not have.
pub fn isa_name() -> Result<&'static str, KernelError> {
    isa::Isa::chosen().map(isa::Isa::name)
}

/// Whether [`Compute::Fast`] multiplies bf16 for so many rows: 15 times closer to [`Compute::Exact`]
/// than int8 is.
#[must_use]
pub fn fast_is_close(rows: usize) -> bool {
    isa::Isa::detect().multiplies_tiles(rows)
}

/// How products with quantized weights are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Weights decoded to f32, f32 products.
    Exact,
    /// Activations rounded to 8 bits per block of 32 where a kernel gains from it.
    Fast,
}
