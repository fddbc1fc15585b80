//! Products of operands in tiles, each computed while the right operand of the next one is made.
//!
//! Vectors decode weights in units of the processor that tiles leave idle. For that, the instructions of both must be
//! mixed finely: a processor looks only some hundred instructions ahead.

use super::operands::{Both, Columns, Dense, Rows, Source};
use super::registers::{Sums, Tiles};
use super::{ROWS, Tile, tiles_of};
use crate::kernels::isa::vector::with_reader;
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::packing::PackedMatrix;

/// A product of all rows with one right operand.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Product<'a> {
    /// The tiles of each group of [`ROWS`] rows.
    pub(in crate::kernels) left: &'a [Tile],
    /// Those of another left operand, whose product is added. May be empty.
    pub(in crate::kernels) update: &'a [Tile],
    /// As many tiles as a group of each has, one after the other.
    pub(in crate::kernels) right: &'a [Tile],
    pub(in crate::kernels) c: Output,
    pub(in crate::kernels) rows: usize,
    /// At most [`PANEL`].
    pub(in crate::kernels) width: usize,
    /// Whether it is added to what is there.
    pub(in crate::kernels) accumulate: bool,
}

/// What a right operand is made of.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Right<'a> {
    /// `count` block columns of the tiles `2 pair` and `2 pair + 1`, to be summed over columns.
    Rows { w: &'a PackedMatrix, pair: usize, first: usize, count: usize },
    /// A block column of `count` tiles, to be summed over rows.
    Columns { w: &'a PackedMatrix, block: usize, first: usize, count: usize },
    /// Rows of at most [`PANEL`] values, to be summed over rows.
    Dense(Left<'a>),
}

impl Right<'_> {
    /// Tiles that it takes.
    pub(in crate::kernels) fn tiles(&self) -> usize {
        match *self {
            Self::Rows { count, .. } => 2 * count,
            Self::Columns { count, .. } => count.next_multiple_of(2),
            Self::Dense(rows) => tiles_of(rows.rows),
        }
    }
}

impl Tiles {
    /// Computes `product`, if there is one, and makes the tiles of the next right operand, and behind them those of
    /// the one for its update.
    ///
    /// # Safety
    /// The product's `c` holds its rows and columns, which nothing else touches meanwhile; the weights exist.
    pub(in crate::kernels) unsafe fn multiply_and_make(
        &self,
        product: Option<Product<'_>>,
        next: Right<'_>,
        update: Left<'_>,
        to: &mut [Tile],
    ) {
        let (to, behind) = to.split_at_mut(next.tiles());
        let update = Dense::new(update, behind);
        // SAFETY: the caller's promise; the reader is that of the matrix.
        unsafe {
            match next {
                Right::Rows { w, pair, first, count } => with_reader!(w, R => {
                    self.run(product, &Both(Rows::<R>::new(w, pair, (first, count), to), update));
                }),
                Right::Columns { w, block, first, count } => with_reader!(w, R => {
                    self.run(product, &Both(Columns::<R>::new(w, block, (first, count), to), update));
                }),
                Right::Dense(rows) => self.run(product, &Both(Dense::new(rows, to), update)),
            }
        }
    }

    /// Computes `product`, if there is one, and makes the tiles of `next` in the meantime, since that occupies other
    /// units of the processor.
    ///
    /// # Safety
    /// As [`Self::multiply_and_make`]; `next` is as [`Source`] demands.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn run(&self, product: Option<Product<'_>>, next: &impl Source) {
        // SAFETY: the caller's promise.
        unsafe {
            let Some(product) = product else { return next.make(|| {}) };
            let mut steps = Steps::new(self, product);
            let (total, ticks, mut due) = (steps.count(), next.ticks(), 0);
            next.make(|| {
                due += total;
                while due >= ticks {
                    steps.next();
                    due -= ticks;
                }
            });
            while steps.group < steps.groups {
                steps.next();
            }
        }
    }
}

/// The steps of a product, one at a time.
struct Steps<'a> {
    tiles: &'a Tiles,
    product: Product<'a>,
    groups: usize,
    group: usize,
    /// Whether the group's own product is done, and its update is next.
    updates: bool,
    /// Steps until then, or until the group ends.
    left: usize,
    /// The next tiles of the operands.
    operands: [*const Tile; 2],
    ahead: *const f32,
}

impl<'a> Steps<'a> {
    /// # Safety
    /// As [`Tiles::multiply_and_make`].
    unsafe fn new(tiles: &'a Tiles, product: Product<'a>) -> Self {
        let groups = product.rows.div_ceil(ROWS);
        let operands = [product.left.as_ptr(), product.right.as_ptr()];
        let ahead = product.c.at.cast_const();
        let mut steps =
            Self { tiles, product, groups, group: 0, updates: false, left: 0, operands, ahead };
        let sizes = [steps.size(false), steps.size(true)];
        assert!(sizes[0] > 0 && product.right.len() >= sizes[0] + sizes[1], "operand too short");
        // SAFETY: the caller's promise.
        unsafe { steps.begin() };
        steps
    }

    /// Tiles of a group of one of the left operands.
    fn size(&self, updates: bool) -> usize {
        let left = if updates { self.product.update } else { self.product.left };
        left.len() / self.groups
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.groups * (self.size(false) + self.size(true)) / 2
    }

    /// Where the sums of the group go.
    fn sums(&self) -> Sums {
        let Product { c, rows, width, accumulate, .. } = self.product;
        let first = self.group * ROWS;
        // SAFETY: the group exists.
        let c = unsafe { c.from(first, 0) };
        Sums { c, rows: ROWS.min(rows - first), width, accumulate }
    }

    /// Does one.
    ///
    /// # Safety
    /// As [`Self::new`]; one is left.
    #[inline(always)]
    unsafe fn next(&mut self) {
        let stride = self.product.c.stride;
        let ahead = [self.ahead, self.ahead.wrapping_add(stride)];
        self.ahead = ahead[1].wrapping_add(stride);
        // SAFETY: the caller's promise; each step has two tiles of both operands.
        unsafe {
            self.tiles.step(self.operands, ahead);
            self.operands = self.operands.map(|tile| tile.add(2));
            self.left -= 1;
            if self.left == 0 {
                self.turn();
            }
        }
    }

    /// Goes on to the update, or to the next group.
    ///
    /// # Safety
    /// As [`Self::new`].
    #[inline(never)]
    unsafe fn turn(&mut self) {
        let size = self.size(true);
        if !self.updates && size > 0 {
            self.updates = true;
            self.left = size / 2;
            self.operands[0] = self.product.update[self.group * size..].as_ptr();
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.tiles.end(&self.sums());
            self.group += 1;
            if self.group < self.groups {
                self.begin();
            }
        }
    }

    /// Begins a group.
    ///
    /// # Safety
    /// As [`Self::new`].
    unsafe fn begin(&mut self) {
        let Product { left, right, c, .. } = self.product;
        let size = self.size(false);
        self.updates = false;
        self.left = size / 2;
        self.operands = [left[self.group * size..].as_ptr(), right.as_ptr()];
        // After the last rows of these columns come the first of the next ones.
        let after = self.group + 1;
        let after = if after < self.groups { after * ROWS * c.stride } else { PANEL };
        self.ahead = c.at.cast_const().wrapping_add(after);
        // SAFETY: the caller's promise.
        unsafe { self.tiles.begin(&self.sums()) };
    }
}
