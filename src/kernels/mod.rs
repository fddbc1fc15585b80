//! CPU kernels: products with quantized weights and plain f32 products.
//!
//! Weights are repacked once ([`PackedMatrix::pack`]) into a lossless tiled layout and stay in it;
//! every product runs on that layout. The kernels know nothing about models, tensors or gradients.
//! This is the only folder with `unsafe` code.
//!
//! | module | owns |
//! |---|---|
//! | `packing` | what the packed bytes mean; GGUF blocks → packed bytes |
//! | `products` | products of whole matrices: cache blocking, tasks; dense f32 matrices |
//! | `isa` | the instruction sets, each with the few operations that products are made of |
//! | `elementwise` | dot products, exponentials, softmax |
//! | `threads` | how work is spread over threads |
//! | `memory` | aligned buffers, huge pages, returning freed memory |
//! | `peak` | the most that the processor can do, to judge the others by |

pub mod elementwise;
mod error;
mod isa;
mod memory;
mod packing;
pub mod peak;
mod products;
#[cfg(test)]
mod tests;
pub mod threads;

pub use error::KernelError;
pub use memory::{Floats, float_bytes};
pub use packing::PackedMatrix;
pub use products::{
    PANEL_ROWS, Panel, Panels, Product, Update, gemm, matmul_shared, multiply_panel,
};

/// The name of the instruction set that products with weights run on: the best one of this machine,
/// or the one that the environment variable `LATROD_ISA` names. The variable is read once.
///
/// # Errors
/// [`KernelError::NoSuchIsa`] if it names one that this machine does not have.
pub fn isa_name() -> Result<&'static str, KernelError> {
    isa::Isa::chosen().map(isa::Isa::name)
}

/// Whether [`Compute::Fast`] multiplies this many rows in bf16, which is 15 times closer to
/// [`Compute::Exact`] than int8 is.
#[must_use]
pub fn fast_is_close(rows: usize) -> bool {
    isa::Isa::detect().multiplies_tiles(rows)
}

/// How products with quantized weights are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Decodes weights to f32 and multiplies in f32.
    Exact,
    /// Rounds activations to 8 bits per block of 32 where that makes a kernel faster.
    Fast,
}
