//! GGUF files.

mod types;

pub use types::GgmlType;
