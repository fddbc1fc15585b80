//! Products of many rows on bf16 tiles: cuts them into pieces that fit a cache.
//!
//! The left operand is rounded to tiles once, by all threads; then each task decodes panels of the
//! weights to tiles, and multiplies them with all of it.

use std::cell::Cell;
use std::ops::Range;

use super::pieces::pieces_of;
use crate::kernels::isa::amx::{DEPTH, Product, ROWS, Tile, Tiles, Weights, pack_left, tiles_of};
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::packing::{self, BLOCK, PackedMatrix};
use crate::kernels::threads::{Shared, in_parts};

/// Most values of the summed dimension in a piece: a panel of them takes 32 KB, most of a first cache.
const MOST_DEPTH: usize = 512;
/// Tiles of a left operand that stay in a second cache of 2 MB, beside what else is in use.
const CACHED_TILES: usize = 1024;
/// Rounding a value costs about as much as so many multiplications.
const ROUNDING_MACS: usize = 4;

thread_local! {
    static LEFT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
}

/// A left operand in tiles: for each piece of the summed dimension, for each group of [`ROWS`] rows, what
/// [`pack_left`] makes of it.
struct LeftTiles {
    tiles: Vec<Tile>,
    rows: usize,
    depth: usize,
}

impl LeftTiles {
    /// Rounds `a`, in memory that the thread keeps for the next product.
    ///
    /// # Safety
    /// `amx::available()`.
    unsafe fn pack(a: Left<'_>) -> Self {
        let mut tiles = LEFT.take();
        let count = a.rows.div_ceil(ROWS) * tiles_of(a.depth);
        if tiles.len() < count {
            tiles.resize(count, Tile::ZERO);
        }
        let packed = Self { tiles: Vec::new(), rows: a.rows, depth: a.depth };
        let to = &Shared::of(&mut tiles);
        let (groups, pieces) = (packed.groups(), packed.pieces().count());
        in_parts(groups * pieces, a.rows * a.depth * ROUNDING_MACS, |range| {
            for (group, piece) in range.map(|i| (i / pieces, i % pieces)) {
                let Some(piece) = packed.pieces().nth(piece) else { continue };
                let first = group * ROWS;
                let values = &a.values[first * a.stride + piece.start..];
                let part = Left::new(values, a.stride, ROWS.min(a.rows - first), piece.len());
                // SAFETY: the place lies in `tiles` and is this task's; the caller's promise.
                unsafe { pack_left(part, to.part(packed.place(&piece, group))) };
            }
        });
        Self { tiles, ..packed }
    }

    /// Keeps the memory for the next product of this thread.
    fn keep(self) {
        LEFT.set(self.tiles);
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Pieces of the summed dimension.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> {
        pieces_of(self.depth, MOST_DEPTH, DEPTH)
    }

    /// Where the tiles of a group lie.
    fn place(&self, piece: &Range<usize>, group: usize) -> Range<usize> {
        let size = tiles_of(piece.len());
        let first = self.groups() * tiles_of(piece.start) + group * size;
        first..first + size
    }

    /// The tiles of all groups in a piece.
    fn piece(&self, piece: &Range<usize>) -> &[Tile] {
        let first = self.groups() * tiles_of(piece.start);
        &self.tiles[first..first + self.groups() * tiles_of(piece.len())]
    }

    /// Pieces of the summed dimension and panels, each with each: panel by panel, as weights lie in memory, if a cache
    /// holds the left operand, or else piece by piece.
    fn jobs(&self, panels: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        let by_panel = self.groups() * tiles_of(self.depth) <= CACHED_TILES;
        let (pieces, count) = (self.pieces().count(), panels.len());
        (0..pieces * count).filter_map(move |i| {
            let (piece, panel) =
                if by_panel { (i % pieces, i / pieces) } else { (i / count, i % count) };
            Some((self.pieces().nth(piece)?, panels.start + panel))
        })
    }

    /// The products of some panels of weights, one after the other: `weights` says which ones and where they go.
    ///
    /// # Safety
    /// `amx::available()`; the weights exist; `c` holds the rows and columns, which are this task's.
    unsafe fn multiply(
        &self,
        w: &PackedMatrix,
        panels: Range<usize>,
        accumulate: bool,
        weights: impl Fn(&Range<usize>, usize) -> Weights,
        c: impl Fn(usize) -> (Output, usize),
    ) {
        let mut jobs = self.jobs(panels).peekable();
        // SAFETY: the caller's promises.
        unsafe {
            with_tiles(|tiles, [mut now, mut then]| {
                if let Some((piece, panel)) = jobs.peek() {
                    tiles.multiply_and_decode(None, w, Some(weights(piece, *panel)), now);
                }
                while let Some((piece, panel)) = jobs.next() {
                    let (c, width) = c(panel);
                    let product = Product {
                        left: self.piece(&piece),
                        right: &now[..tiles_of(piece.len())],
                        c,
                        rows: self.rows,
                        width,
                        accumulate: accumulate || piece.start > 0,
                    };
                    let next = jobs.peek().map(|(piece, panel)| weights(piece, *panel));
                    tiles.multiply_and_decode(Some(product), w, next, then);
                    std::mem::swap(&mut now, &mut then);
                }
            });
        }
    }
}

/// Runs `f` with this thread's tile registers and memory for two right operands.
///
/// # Safety
/// `amx::available()`.
unsafe fn with_tiles(f: impl FnOnce(&Tiles, [&mut [Tile]; 2])) {
    let mut right = RIGHT.take();
    right.resize(2 * tiles_of(MOST_DEPTH), Tile::ZERO);
    let halves = right.split_at_mut(tiles_of(MOST_DEPTH));
    // SAFETY: the caller's promise.
    let tiles = unsafe { Tiles::configure() };
    f(&tiles, halves.into());
    drop(tiles);
    RIGHT.set(right);
}

/// `y[m, rows] = x[m, cols] · Wᵀ` for several W, one after the other; `x: [m, cols]`.
///
/// # Safety
/// `amx::available()`; every `y` holds its rows and columns, which nothing else touches meanwhile.
pub(super) unsafe fn multiply(
    (x, m, cols): (&[f32], usize, usize),
    products: &[(&PackedMatrix, Output)],
) {
    // SAFETY: the caller's promise.
    let left = unsafe { LeftTiles::pack(Left::new(x, cols, m, cols)) };
    for (w, y) in products {
        in_parts(w.rows.div_ceil(PANEL), m * w.rows * cols, |pairs| {
            let weights = |piece: &Range<usize>, pair| Weights::Rows {
                pair,
                first: piece.start / BLOCK,
                count: piece.len().div_ceil(BLOCK),
            };
            // SAFETY: the caller's promise; the pair's columns belong to this task.
            unsafe {
                let y = |pair| (y.from(0, pair * PANEL), PANEL.min(w.rows - pair * PANEL));
                left.multiply(w, pairs, false, weights, y);
            }
        });
    }
    left.keep();
}

/// `dx[m, cols] (+)= g[m, rows] · W`.
///
/// # Safety
/// As [`multiply`], with `dx`.
pub(super) unsafe fn multiply_transposed(
    (g, m): (&[f32], usize),
    w: &PackedMatrix,
    dx: Output,
    accumulate: bool,
) {
    // SAFETY: the caller's promise.
    let left = unsafe { LeftTiles::pack(Left::new(g, w.rows, m, w.rows)) };
    in_parts(w.blocks, m * w.cols * w.rows, |blocks| {
        let weights = |piece: &Range<usize>, block| Weights::Columns {
            block,
            first: piece.start / packing::TILE,
            count: piece.len().div_ceil(packing::TILE),
        };
        // SAFETY: the caller's promise; the block's columns belong to this task.
        unsafe {
            let dx = |block| (dx.from(0, block * BLOCK), BLOCK.min(w.cols - block * BLOCK));
            left.multiply(w, blocks, accumulate, weights, dx);
        }
    });
    left.keep();
}
