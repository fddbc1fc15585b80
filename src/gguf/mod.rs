//! GGUF files (ggml `docs/gguf.md`): a strict reader that treats every byte as hostile.
//!
//! Owns the file format. Doesn't know what the metadata means or how blocks are decoded.

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
