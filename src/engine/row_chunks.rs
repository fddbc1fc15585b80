//! How many rows are computed at a time.

use std::ops::Range;

use crate::ops::head::ROW_CHUNK;

/// Into what chunks many rows are cut: smaller ones take less memory and a little more time. Results
/// differ by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RowChunks {
    /// Rows that go through a feed-forward layer together: bounds the memory of its wide values.
    pub rows: usize,
    /// Rows whose logits exist at the same time when targets are scored.
    pub head_rows: usize,
}

impl Default for RowChunks {
    fn default() -> Self {
        Self { rows: 256, head_rows: ROW_CHUNK }
    }
}

impl RowChunks {
    /// `0..rows` in equal chunks.
    pub(crate) fn of(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let count = rows.div_ceil(self.rows.max(1));
        (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
    }

    /// The rows of the largest chunk of `rows`.
    #[must_use]
    pub fn largest(self, rows: usize) -> usize {
        rows.div_ceil(rows.div_ceil(self.rows.max(1)).max(1))
    }
}
