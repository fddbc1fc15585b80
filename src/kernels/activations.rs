//! Rows of activations rounded to 8 bits, for int8 products.
//!
//! Per block of 32 columns: `x ≈ d·q` with `d = max|x| / 127`, as ggml's `Q8_1` does, plus the sums
//! that the `m` of the weights is multiplied with.

use super::isa::Isa;
use super::layout::BLOCK;

/// Rows that one pass over a weight tile serves; also how rows lie together in memory.
pub(super) const ROWS: usize = 8;

/// Blocks whose largest value is below this count as zero: 127 / max would overflow.
pub(super) const TINY: f32 = 1e-30;

/// 32 columns of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(super) struct ActBlock {
    /// Rounded to nearest, ties to even, in -127..=127.
    pub(super) q: [i8; BLOCK],
    /// NaN or infinite if the block holds such a value, so that products carry it on.
    pub(super) d: f32,
    /// `d` times the sum of `q`: of all, of the first 16, of the last 16.
    pub(super) sum: f32,
    pub(super) sums: [f32; 2],
}

impl ActBlock {
    pub(super) const ZERO: Self = Self { q: [0; BLOCK], d: 0.0, sum: 0.0, sums: [0.0; 2] };
}

/// Rows in groups of at most [`ROWS`]; inside a group block after block, each with all its rows.
pub(super) struct Activations {
    blocks: Vec<ActBlock>,
    rows: usize,
    per_row: usize,
}

impl Activations {
    /// Reuses `store` for `rows` rows of `per_row` blocks, not yet filled.
    pub(super) fn with_store(mut store: Vec<ActBlock>, rows: usize, per_row: usize) -> Self {
        if store.len() < rows * per_row {
            store.resize(rows * per_row, ActBlock::ZERO);
        }
        Self { blocks: store, rows, per_row }
    }

    /// Gives the memory back for the next product.
    pub(super) fn into_store(self) -> Vec<ActBlock> {
        self.blocks
    }

    /// The groups in order, each `[blocks of a row][rows of the group]`.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[ActBlock]> {
        self.blocks[..self.rows * self.per_row].chunks(ROWS * self.per_row)
    }

    /// The first block, for tasks that fill different groups.
    pub(super) fn as_mut_ptr(&mut self) -> *mut ActBlock {
        self.blocks.as_mut_ptr()
    }
}

/// Rounds one group: `x: [rows of the group, per_row * 32]`.
pub(super) fn quantize_group(isa: Isa, x: &[f32], per_row: usize, group: &mut [ActBlock]) {
    let rows = group.len() / per_row;
    for (r, row) in x.chunks_exact(per_row * BLOCK).enumerate() {
        let (values, _) = row.as_chunks::<BLOCK>();
        for (b, values) in values.iter().enumerate() {
            isa.quantize_block(values, &mut group[b * rows + r]);
        }
    }
}
