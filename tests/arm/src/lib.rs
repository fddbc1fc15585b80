//! The kernels of latrod with as few dependencies as they have, so that their tests are soon built for
//! another processor.

#[path = "../../../src/kernels/mod.rs"]
pub mod kernels;
#[path = "../../../src/gguf/types.rs"]
mod types;

/// What the kernels know of GGUF files.
pub mod gguf {
    pub use crate::types::GgmlType;
}
