//! Rows of activations rounded to 8 bits, for int8 products.
//!
//! Per block of 32 columns: `x ≈ d·q` with `d = max|x| / 127`, as ggml's `Q8_1` does, plus the sums
//! that the `m` of the weights is multiplied with.

use crate::kernels::isa::Isa;
use crate::kernels::packing::BLOCK;

/// Rows that one call for a weight tile serves, and that are adjacent in memory.
pub(in crate::kernels) const GROUP_ROWS: usize = 16;

/// Blocks whose largest value is below this count as zero: 127 / max would overflow.
pub(in crate::kernels) const TINY: f32 = 1e-30;

/// 32 columns of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(in crate::kernels) struct ActBlock {
    /// Rounded to nearest, ties to even, in -127..=127.
    pub(in crate::kernels) q: [i8; BLOCK],
    /// NaN or infinite if the block holds such a value, so that products propagate it.
    pub(in crate::kernels) d: f32,
    /// `d` times the sum of `q`: of all, of the first 16, of the last 16.
    pub(in crate::kernels) sum: f32,
    pub(in crate::kernels) sums: [f32; 2],
}

impl ActBlock {
    pub(in crate::kernels) const ZERO: Self =
        Self { q: [0; BLOCK], d: 0.0, sum: 0.0, sums: [0.0; 2] };

    /// Sets everything that follows from the largest absolute value and the sums of the halves of `q`.
    #[inline(always)]
    pub(in crate::kernels) fn set_scale(&mut self, max: f32, sums: [i32; 2]) {
        self.d = max / 127.0;
        self.sums = sums.map(|s| self.d * s as f32);
        self.sum = self.d * (sums[0] + sums[1]) as f32;
    }
}

/// Rows in groups of at most [`GROUP_ROWS`]; inside a group block after block, each with all its rows.
pub(in crate::kernels) struct Activations {
    blocks: Vec<ActBlock>,
    rows: usize,
    per_row: usize,
}

impl Activations {
    /// Reuses `store` for `rows` rows of `per_row` blocks, not yet filled.
    pub(in crate::kernels) fn with_store(
        mut store: Vec<ActBlock>,
        rows: usize,
        per_row: usize,
    ) -> Self {
        if store.len() < rows * per_row {
            store.resize(rows * per_row, ActBlock::ZERO);
        }
        Self { blocks: store, rows, per_row }
    }

    /// Gives the memory back for the next product.
    pub(in crate::kernels) fn into_store(self) -> Vec<ActBlock> {
        self.blocks
    }

    /// The groups in order, each `[blocks of a row][rows of the group]`.
    pub(in crate::kernels) fn groups(&self) -> impl Iterator<Item = &[ActBlock]> {
        self.blocks[..self.rows * self.per_row].chunks(GROUP_ROWS * self.per_row)
    }

    /// All blocks, for tasks that fill different groups.
    pub(in crate::kernels) fn blocks_mut(&mut self) -> &mut [ActBlock] {
        &mut self.blocks
    }
}

/// Rounds one group: `x: [rows of the group, per_row * 32]`.
pub(in crate::kernels) fn quantize_group(
    isa: Isa,
    x: &[f32],
    per_row: usize,
    group: &mut [ActBlock],
) {
    let rows = group.len() / per_row;
    for (r, row) in x.chunks_exact(per_row * BLOCK).enumerate() {
        let (values, _) = row.as_chunks::<BLOCK>();
        for (b, values) in values.iter().enumerate() {
            isa.quantize_block(values, &mut group[b * rows + r]);
        }
    }
}
