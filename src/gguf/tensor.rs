//! One entry of a GGUF file's tensor table.

use crate::gguf::GgmlType;

/// A tensor's position and shape. Dimensions and range were checked by the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, for example `blk.0.attn_q.weight`; unique in its file.
    pub name: String,
    /// One to four sizes, none zero, in the file's order: the fastest-moving dimension first.
    pub dims: Vec<usize>,
    /// The format in which the values are stored.
    pub ggml_type: GgmlType,
    /// The first byte of the data, counted from the start of the file.
    pub(super) start: u64,
    /// The length of the data; `None` for a type of unknown geometry.
    pub(super) bytes: Option<u64>,
}

impl TensorInfo {
    /// The length of a row: the fastest-moving dimension.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.dims[0]
    }

    /// The number of rows: all other dimensions multiplied; 1 for a vector.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// The number of values.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The number of bytes in the file; `None` for a type of unknown geometry.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The position of the first byte, counted from the start of the file.
    #[must_use]
    pub const fn file_offset(&self) -> u64 {
        self.start
    }
}
