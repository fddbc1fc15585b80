//! Products of many rows on bf16 tiles: cuts them into pieces that fit a cache.
//!
//! The left operand is rounded to tiles once, by all threads; then each task decodes panels of the
//! weights to tiles, and multiplies them with all of it.

mod left;

use std::cell::Cell;
use std::ops::Range;

use self::left::LeftTiles;
use super::{Panels, Update};
use crate::kernels::isa::amx::{Product, Right, Tile, Tiles, tiles_of};
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::packing::{self, BLOCK, PackedMatrix};
use crate::kernels::threads::in_parts;

/// Most values of the summed dimension in a piece: a panel of them takes 32 KB, most of a first cache.
const MOST_DEPTH: usize = 512;

thread_local! {
    /// Memory for right operands.
    static RIGHT: Cell<Vec<Tile>> = const { Cell::new(Vec::new()) };
}

/// Where products go: `[rows, columns]`.
struct To {
    c: Output,
    columns: usize,
    /// Whether they are added to what is there.
    accumulate: bool,
}

impl LeftTiles {
    /// The product of a piece of a panel, whose tiles are in `right`. The last piece comes with the update.
    fn product<'a>(
        &'a self,
        update: Option<&'a Self>,
        (piece, panel): &(Range<usize>, usize),
        right: &'a [Tile],
        to: &To,
    ) -> Product<'a> {
        let update = update.filter(|_| piece.end == self.depth);
        let first = panel * PANEL;
        Product {
            left: self.piece(piece),
            update: update.map_or(&[], |update| update.piece(&(0..update.depth))),
            right,
            // SAFETY: the panel exists.
            c: unsafe { to.c.from(0, first) },
            rows: self.rows,
            width: PANEL.min(to.columns - first),
            accumulate: to.accumulate || piece.start > 0,
        }
    }

    /// Products with some panels, one after the other, each computed while the next one is decoded. `right` says what
    /// a piece of a panel is made of. An update comes with its own right operand.
    ///
    /// # Safety
    /// `amx::available()`; what `right` names exists, and these columns of `to` are this task's.
    unsafe fn multiply<'r>(
        &self,
        update: Option<(&Self, &Panels)>,
        panels: Range<usize>,
        right: &impl Fn(&Range<usize>, usize) -> Right<'r>,
        to: &To,
    ) {
        let none = Left::new(&[], 0, 0, 0);
        let behind = |(piece, panel): &(Range<usize>, usize)| match update {
            Some((_, b)) if piece.end == self.depth => dense(b, &(0..b.cols()), *panel),
            _ => none,
        };
        let update = update.map(|(left, _)| left);
        let tiles = tiles_of(MOST_DEPTH) + tiles_of(update.map_or(0, |update| update.depth));
        with_right(tiles, |[mut now, mut then]| {
            let (mut jobs, mut before) = (self.jobs(panels), None);
            // SAFETY: the caller's promises.
            let tiles = unsafe { Tiles::configure() };
            loop {
                let job = jobs.next();
                let product = before.as_ref().map(|job| self.product(update, job, now, to));
                let (next, behind) = match &job {
                    Some(job) => (right(&job.0, job.1), behind(job)),
                    None => (Right::Dense(none), none),
                };
                // SAFETY: the caller's promises.
                unsafe { tiles.multiply_and_make(product, next, behind, then) };
                std::mem::swap(&mut now, &mut then);
                if job.is_none() {
                    break;
                }
                before = job;
            }
        });
    }

    /// As [`Self::multiply`] with all panels, on all threads.
    ///
    /// # Safety
    /// As [`Self::multiply`], with all of `to`.
    unsafe fn multiply_all<'r>(
        &self,
        update: Option<(&Self, &Panels)>,
        right: impl Fn(&Range<usize>, usize) -> Right<'r> + Sync,
        to: &To,
    ) {
        in_parts(to.columns.div_ceil(PANEL), self.rows * self.depth * to.columns, |panels| {
            // SAFETY: the caller's promise; the panels' columns belong to this task.
            unsafe { self.multiply(update, panels, &right, to) };
        });
    }
}

/// Runs `f` with memory for two right operands.
fn with_right(tiles: usize, f: impl FnOnce([&mut [Tile]; 2])) {
    let mut right = RIGHT.take();
    right.resize(2 * tiles, Tile::ZERO);
    f(right.split_at_mut(tiles).into());
    RIGHT.set(right);
}

/// A piece of a panel.
fn dense<'a>(panels: &'a Panels, piece: &Range<usize>, panel: usize) -> Left<'a> {
    Left::new(&panels.panel(panel).0[piece.start * PANEL..], PANEL, piece.len(), PANEL)
}

/// A product with weights, and what LoRA adds to it.
pub(super) struct WithUpdate<'a> {
    pub(super) w: &'a PackedMatrix,
    pub(super) update: Option<Update<'a>>,
    pub(super) y: Output,
}

/// `y[m, rows] = x[m, cols] · Wᵀ` for several W, one after the other; `x: [m, cols]`.
///
/// # Safety
/// `amx::available()`; every `y` holds its rows and columns, which nothing else touches meanwhile.
pub(super) unsafe fn multiply<'a>(
    (x, m, cols): (&[f32], usize, usize),
    products: impl Iterator<Item = WithUpdate<'a>>,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let left = LeftTiles::pack(Left::new(x, cols, m, cols), MOST_DEPTH);
        for WithUpdate { w, update, y } in products {
            // In one piece, so that it needs no pass over `y` of its own.
            let update = update.map(|Update { h, stride, b }| {
                (LeftTiles::pack(Left::new(h, stride, m, b.cols()), usize::MAX), b)
            });
            let right = |piece: &Range<usize>, pair| {
                let (first, count) = (piece.start / BLOCK, piece.len().div_ceil(BLOCK));
                Right::Rows { w, pair, first, count }
            };
            let to = To { c: y, columns: w.rows, accumulate: false };
            left.multiply_all(update.as_ref().map(|(left, b)| (left, *b)), right, &to);
            if let Some((left, _)) = update {
                left.keep();
            }
        }
        left.keep();
    }
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
    let right = |piece: &Range<usize>, block| {
        let (first, count) = (piece.start / packing::TILE, piece.len().div_ceil(packing::TILE));
        Right::Columns { w, block, first, count }
    };
    let to = To { c: dx, columns: w.cols, accumulate };
    // SAFETY: the caller's promise.
    unsafe { multiply_one(Left::new(g, w.rows, m, w.rows), right, &to) };
}

/// `y[m, rows] (+)= x[m, cols] · Wᵀ` for f32 weights.
///
/// # Safety
/// As [`multiply`].
pub(super) unsafe fn multiply_panels(
    (x, m): (&[f32], usize),
    panels: &Panels,
    y: Output,
    accumulate: bool,
) {
    let x = Left::new(x, panels.cols(), m, panels.cols());
    let right = |piece: &Range<usize>, panel| Right::Dense(dense(panels, piece, panel));
    let to = To { c: y, columns: panels.rows(), accumulate };
    // SAFETY: the caller's promise.
    unsafe { multiply_one(x, right, &to) };
}

/// `c (+)= a · b` for `b: [depth of a, columns]`.
///
/// # Safety
/// As [`multiply`], with `c`.
pub(super) unsafe fn multiply_rows(a: Left<'_>, b: Left<'_>, c: Output, accumulate: bool) {
    let Left { values, stride, depth: columns, .. } = b;
    let right = |piece: &Range<usize>, panel| {
        let values = &values[piece.start * stride + panel * PANEL..];
        let width = PANEL.min(columns - panel * PANEL);
        Right::Dense(Left::new(values, stride, piece.len(), width))
    };
    // SAFETY: the caller's promise.
    unsafe { multiply_one(a, right, &To { c, columns, accumulate }) };
}

/// Products of `a` with one right operand.
///
/// # Safety
/// As [`LeftTiles::multiply_all`].
unsafe fn multiply_one<'r>(
    a: Left<'_>,
    right: impl Fn(&Range<usize>, usize) -> Right<'r> + Sync,
    to: &To,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let left = LeftTiles::pack(a, MOST_DEPTH);
        left.multiply_all(None, right, to);
        left.keep();
    }
}
