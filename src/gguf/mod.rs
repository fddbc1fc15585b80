//! GGUF files (ggml `docs/gguf.md`): a strict reader that treats every byte as hostile.
//!
//! Owns the file format. What the metadata means is in [`crate::arch::spec`] and [`crate::text::tokenizer`];
//! how blocks are decoded is the kernels' business.

mod cursor;
mod error;
mod file;
mod header;
mod metadata;
mod tensor;
mod types;

pub use error::{GgufError, printable};
pub use file::GgufFile;
pub use header::Header;
pub use metadata::{Array, Metadata, Value};
pub use tensor::TensorInfo;
pub use types::GgmlType;

#[cfg(test)]
#[path = "../../tests/common/gguf.rs"]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
