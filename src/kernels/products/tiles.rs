//! Products of many rows on bf16 tiles: cuts them into pieces that fit a cache.
//!
//! The left operand is rounded to tiles once, by all threads; then each task decodes panels of the
//! weights, rounds them too, and multiplies them with all of it.

use std::cell::Cell;

use super::pieces::pieces_of;
use crate::kernels::isa::amx::{DEPTH, ROWS, Tile, Tiles, pack_left, pack_right, tiles_of};
use crate::kernels::isa::{Isa, Left, Output, PANEL};
use crate::kernels::memory::Floats;
use crate::kernels::packing::{BLOCK, PackedMatrix, TILE};
use crate::kernels::threads::{Shared, in_parts};

/// Most values of the summed dimension in a piece: with 512 rows the left operand takes 1 to 2 MB.
const MOST_DEPTH: usize = 1024;
/// Rounding a value costs about as much as so many multiplications.
const ROUNDING_MACS: usize = 4;

thread_local! {
    static LEFT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
    static PANEL_STORE: Cell<Floats> = Cell::default();
}

/// A left operand in tiles: for each group of [`ROWS`] rows what [`pack_left`] makes of it.
pub(super) struct LeftTiles {
    values: Vec<Tile>,
    rows: usize,
    depth: usize,
}

impl LeftTiles {
    /// Rounds `a`, in memory that the thread keeps for the next product.
    ///
    /// # Safety
    /// `amx::available()`.
    unsafe fn pack(a: Left<'_>) -> Self {
        let (groups, size) = (a.rows.div_ceil(ROWS), tiles_of(a.depth));
        let mut values = LEFT.take();
        if values.len() < groups * size {
            values.resize(groups * size, Tile::ZERO);
        }
        let to = &Shared::of(&mut values);
        in_parts(groups, a.rows * a.depth * ROUNDING_MACS, |range| {
            for group in range {
                let first = group * ROWS;
                let rows = ROWS.min(a.rows - first);
                let part = Left::new(&a.values[first * a.stride..], a.stride, rows, a.depth);
                // SAFETY: `values` has `groups` groups of this size, and this one is this task's;
                // the caller's promise.
                unsafe {
                    pack_left(part, to.part(group * size..(group + 1) * size));
                }
            }
        });
        Self { values, rows: a.rows, depth: a.depth }
    }

    /// Keeps the memory for the next product of this thread.
    fn keep(self) {
        LEFT.set(self.values);
    }

    /// `c (+)= self · panel` for all rows, `panel: [depth, PANEL]`.
    ///
    /// # Safety
    /// `amx::available()`; `c` holds the rows and `width` columns, which are this task's.
    unsafe fn multiply(
        &self,
        tiles: &Tiles,
        panel: &[f32],
        right: &mut [Tile],
        (c, width): (Output, usize),
        accumulate: bool,
    ) {
        let depth = self.depth;
        let size = tiles_of(depth);
        // SAFETY: the caller's promises; `pack` made whole groups.
        unsafe {
            pack_right(panel, depth, right);
            for (group, left) in self.values.chunks_exact(size).enumerate() {
                let first = group * ROWS;
                if first >= self.rows {
                    break;
                }
                let shape = (ROWS.min(self.rows - first), width);
                let c = c.from(first, 0);
                tiles.multiply((left, right), depth, c, shape, accumulate);
            }
        }
    }
}

/// Runs `f` with this thread's tile registers, panel and tiles of a right operand.
///
/// # Safety
/// `amx::available()`.
unsafe fn with_tiles(f: impl FnOnce(&Tiles, &mut [f32], &mut [Tile])) {
    let (mut panel, mut right) = (PANEL_STORE.take(), RIGHT.take());
    panel.resize(MOST_DEPTH * PANEL);
    right.resize(tiles_of(MOST_DEPTH), Tile::ZERO);
    // SAFETY: the caller's promise.
    let tiles = unsafe { Tiles::begin() };
    f(&tiles, &mut panel, &mut right);
    drop(tiles);
    PANEL_STORE.set(panel);
    RIGHT.set(right);
}

/// `y[m, rows] = x[m, cols] · Wᵀ` for several W, one after the other; `x: [m, cols]`.
///
/// # Safety
/// `amx::available()`; every `y` holds its rows and columns, which nothing else touches meanwhile.
pub(super) unsafe fn multiply(
    isa: Isa,
    (x, m, cols): (&[f32], usize, usize),
    products: &[(&PackedMatrix, Output)],
) {
    for depth in pieces_of(cols, MOST_DEPTH, DEPTH) {
        let a = Left::new(&x[depth.start..], cols, m, depth.len());
        // SAFETY: the caller's promise.
        let left = unsafe { LeftTiles::pack(a) };
        let blocks = depth.start / BLOCK..depth.end.div_ceil(BLOCK);
        for (w, y) in products {
            in_parts(w.rows.div_ceil(PANEL), m * w.rows * depth.len(), |pairs| {
                // SAFETY: the caller's promise; the pair's columns belong to this task.
                unsafe {
                    with_tiles(|tiles, panel, right| {
                        for pair in pairs {
                            isa.decode_panel(w, pair, blocks.start, blocks.len(), panel);
                            let width = PANEL.min(w.rows - pair * PANEL);
                            let y = (y.from(0, pair * PANEL), width);
                            left.multiply(tiles, panel, right, y, depth.start > 0);
                        }
                    });
                }
            });
        }
        left.keep();
    }
}

/// `dx[m, cols] (+)= g[m, rows] · W`.
///
/// # Safety
/// As [`multiply`], with `dx`.
pub(super) unsafe fn multiply_transposed(
    isa: Isa,
    (g, m): (&[f32], usize),
    w: &PackedMatrix,
    dx: Output,
    accumulate: bool,
) {
    for depth in pieces_of(w.rows, MOST_DEPTH, DEPTH) {
        let a = Left::new(&g[depth.start..], w.rows, m, depth.len());
        // SAFETY: the caller's promise.
        let left = unsafe { LeftTiles::pack(a) };
        let range = depth.start / TILE..depth.end.div_ceil(TILE);
        in_parts(w.blocks, m * w.cols * depth.len(), |blocks| {
            // SAFETY: the caller's promise; the block's columns belong to this task.
            unsafe {
                with_tiles(|tiles, panel, right| {
                    for b in blocks {
                        let (first, count) = (range.start, range.len());
                        isa.decode_panel_transposed(w, b, first, count, panel);
                        let width = BLOCK.min(w.cols - b * BLOCK);
                        let dx = (dx.from(0, b * BLOCK), width);
                        left.multiply(tiles, panel, right, dx, accumulate || depth.start > 0);
                    }
                });
            }
        });
        left.keep();
    }
}
