//! Left operands in tiles.

use std::cell::RefCell;
use std::ops::Range;

use crate::kernels::isa::Left;
use crate::kernels::isa::amx::{DEPTH, ROWS, Tile, pack_left, tiles_of};
use crate::kernels::products::pieces::pieces_of;
use crate::kernels::threads::{Shared, in_parts};

/// Tiles of a left operand that stay in a second cache of 2 MB, beside what else is in use.
const CACHED_TILES: usize = 1024;
/// Rounding a value costs about as much as so many multiplications.
const ROUNDING_MACS: usize = 4;

thread_local! {
    /// Memory of left operands that are not in use.
    static UNUSED: RefCell<Vec<Vec<Tile>>> = const { RefCell::new(Vec::new()) };
}

/// A left operand in tiles: for each piece of the summed dimension, for each group of [`ROWS`] rows, what
/// [`pack_left`] makes of it.
pub(super) struct LeftTiles {
    tiles: Vec<Tile>,
    pub(super) rows: usize,
    pub(super) depth: usize,
    /// Most values of the summed dimension in a piece.
    most_depth: usize,
}

impl LeftTiles {
    /// Rounds `a`, in memory that the thread keeps for the next product.
    ///
    /// # Safety
    /// `amx::available()`.
    pub(super) unsafe fn pack(a: Left<'_>, most_depth: usize) -> Self {
        let mut tiles = UNUSED.with_borrow_mut(Vec::pop).unwrap_or_default();
        let count = a.rows.div_ceil(ROWS) * tiles_of(a.depth);
        if tiles.len() < count {
            tiles.resize(count, Tile::ZERO);
        }
        let packed = Self { tiles: Vec::new(), rows: a.rows, depth: a.depth, most_depth };
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
    pub(super) fn keep(self) {
        UNUSED.with_borrow_mut(|unused| unused.push(self.tiles));
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Pieces of the summed dimension.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> {
        pieces_of(self.depth, self.most_depth, DEPTH)
    }

    /// Where the tiles of a group lie.
    fn place(&self, piece: &Range<usize>, group: usize) -> Range<usize> {
        let size = tiles_of(piece.len());
        let first = self.groups() * tiles_of(piece.start) + group * size;
        first..first + size
    }

    /// The tiles of all groups in a piece.
    pub(super) fn piece(&self, piece: &Range<usize>) -> &[Tile] {
        let first = self.groups() * tiles_of(piece.start);
        &self.tiles[first..first + self.groups() * tiles_of(piece.len())]
    }

    /// Pieces of the summed dimension and panels, each with each: panel by panel, as weights lie in memory, if a cache
    /// holds the left operand, or else piece by piece.
    pub(super) fn jobs(&self, panels: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        let by_panel = self.groups() * tiles_of(self.depth) <= CACHED_TILES;
        let (pieces, count) = (self.pieces().count(), panels.len());
        (0..pieces * count).filter_map(move |i| {
            let (piece, panel) =
                if by_panel { (i % pieces, i / pieces) } else { (i / count, i % count) };
            Some((self.pieces().nth(piece)?, panels.start + panel))
        })
    }
}
