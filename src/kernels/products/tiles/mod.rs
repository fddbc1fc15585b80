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

impl LeftTiles {
    /// The product of a piece of a panel, whose tiles are in `right`. The last piece comes with the update.
    fn product<'a>(
        &'a self,
        update: Option<&'a Self>,
        (piece, panel): &(Range<usize>, usize),
        right: &'a [Tile],
        rights: &impl Rights,
    ) -> Product<'a> {
        let update = update.filter(|_| piece.end == self.depth);
        let (c, width) = rights.result(*panel);
        Product {
            left: self.piece(piece),
            update: update.map_or(&[], |update| update.piece(&(0..update.depth))),
            right,
            c,
            rows: self.rows,
            width,
            accumulate: rights.accumulates() || piece.start > 0,
        }
    }

    /// Products with some panels, one after the other, each computed while the next one is decoded.
    ///
    /// # Safety
    /// `amx::available()`; what `rights` names exists, and its results are this task's.
    unsafe fn multiply(&self, update: Option<&Self>, panels: Range<usize>, rights: &impl Rights) {
        let none = Left::new(&[], 0, 0, 0);
        let tiles = tiles_of(MOST_DEPTH) + tiles_of(update.map_or(0, |update| update.depth));
        with_right(tiles, |[mut now, mut then]| {
            let (mut jobs, mut before) = (self.jobs(panels), None);
            // SAFETY: the caller's promises.
            let tiles = unsafe { Tiles::configure() };
            loop {
                let job = jobs.next();
                let product = before.as_ref().map(|job| self.product(update, job, now, rights));
                let (right, behind) = match &job {
                    Some((piece, panel)) if piece.end == self.depth => {
                        (rights.right(piece, *panel), rights.update(*panel).unwrap_or(none))
                    }
                    Some((piece, panel)) => (rights.right(piece, *panel), none),
                    None => (Right::Dense(none), none),
                };
                // SAFETY: the caller's promises.
                unsafe { tiles.multiply_and_make(product, right, behind, then) };
                std::mem::swap(&mut now, &mut then);
                if job.is_none() {
                    break;
                }
                before = job;
            }
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

/// The panels of a right operand, and where their products go.
trait Rights: Sync {
    fn right(&self, piece: &Range<usize>, panel: usize) -> Right<'_>;

    /// The right operand of the update, `[rank, PANEL]`.
    fn update(&self, _panel: usize) -> Option<Left<'_>> {
        None
    }

    /// The result and its columns.
    fn result(&self, panel: usize) -> (Output, usize);

    /// Whether products are added to what is there.
    fn accumulates(&self) -> bool;
}

/// Columns `first ..` of a panel in a matrix of `columns`.
fn panel_of(c: Output, columns: usize, panel: usize) -> (Output, usize) {
    let first = panel * PANEL;
    // SAFETY: the panel exists.
    (unsafe { c.from(0, first) }, PANEL.min(columns - first))
}

/// Rows of weights.
struct ByRows<'a> {
    w: &'a PackedMatrix,
    update: Option<&'a Panels>,
    y: Output,
}

impl Rights for ByRows<'_> {
    fn right(&self, piece: &Range<usize>, pair: usize) -> Right<'_> {
        let (first, count) = (piece.start / BLOCK, piece.len().div_ceil(BLOCK));
        Right::Rows { w: self.w, pair, first, count }
    }

    fn update(&self, pair: usize) -> Option<Left<'_>> {
        self.update.map(|panels| dense(panels, &(0..panels.cols()), pair))
    }

    fn result(&self, pair: usize) -> (Output, usize) {
        panel_of(self.y, self.w.rows, pair)
    }

    fn accumulates(&self) -> bool {
        false
    }
}

/// Columns of weights.
struct ByColumns<'a> {
    w: &'a PackedMatrix,
    dx: Output,
    accumulate: bool,
}

impl Rights for ByColumns<'_> {
    fn right(&self, piece: &Range<usize>, block: usize) -> Right<'_> {
        let (first, count) = (piece.start / packing::TILE, piece.len().div_ceil(packing::TILE));
        Right::Columns { w: self.w, block, first, count }
    }

    fn result(&self, block: usize) -> (Output, usize) {
        panel_of(self.dx, self.w.cols, block)
    }

    fn accumulates(&self) -> bool {
        self.accumulate
    }
}

/// Rows of f32 weights.
struct OfPanels<'a> {
    panels: &'a Panels,
    y: Output,
    accumulate: bool,
}

impl Rights for OfPanels<'_> {
    fn right(&self, piece: &Range<usize>, panel: usize) -> Right<'_> {
        Right::Dense(dense(self.panels, piece, panel))
    }

    fn result(&self, panel: usize) -> (Output, usize) {
        panel_of(self.y, self.panels.rows(), panel)
    }

    fn accumulates(&self) -> bool {
        self.accumulate
    }
}

/// A piece of a panel.
fn dense<'a>(panels: &'a Panels, piece: &Range<usize>, panel: usize) -> Left<'a> {
    Left::new(&panels.panel(panel).0[piece.start * PANEL..], PANEL, piece.len(), PANEL)
}

/// A row-major f32 matrix `[depth, columns]`.
struct OfRows<'a> {
    b: Left<'a>,
    c: Output,
    accumulate: bool,
}

impl Rights for OfRows<'_> {
    fn right(&self, piece: &Range<usize>, panel: usize) -> Right<'_> {
        let Left { values, stride, depth, .. } = self.b;
        let values = &values[piece.start * stride + panel * PANEL..];
        Right::Dense(Left::new(values, stride, piece.len(), PANEL.min(depth - panel * PANEL)))
    }

    fn result(&self, panel: usize) -> (Output, usize) {
        panel_of(self.c, self.b.depth, panel)
    }

    fn accumulates(&self) -> bool {
        self.accumulate
    }
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
    // SAFETY: the caller's promise.
    let left = unsafe { LeftTiles::pack(Left::new(x, cols, m, cols), MOST_DEPTH) };
    for WithUpdate { w, update, y } in products {
        // In one piece, so that it needs no pass over `y` of its own.
        let updates = update.map(|Update { h, stride, b }| {
            // SAFETY: the caller's promise.
            unsafe { LeftTiles::pack(Left::new(h, stride, m, b.cols()), usize::MAX) }
        });
        let rights = ByRows { w, update: update.map(|update| update.b), y };
        in_parts(w.rows.div_ceil(PANEL), m * w.rows * cols, |pairs| {
            // SAFETY: the caller's promise; the pairs' columns belong to this task.
            unsafe { left.multiply(updates.as_ref(), pairs, &rights) };
        });
        if let Some(updates) = updates {
            updates.keep();
        }
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
    let g = Left::new(g, w.rows, m, w.rows);
    // SAFETY: the caller's promise.
    unsafe { multiply_all(g, w.blocks, &ByColumns { w, dx, accumulate }) };
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
    let rights = OfPanels { panels, y, accumulate };
    // SAFETY: the caller's promise.
    unsafe { multiply_all(x, panels.rows().div_ceil(PANEL), &rights) };
}

/// `c (+)= a · b` for `b: [depth of a, columns]`.
///
/// # Safety
/// As [`multiply`], with `c`.
pub(super) unsafe fn multiply_rows(a: Left<'_>, b: Left<'_>, c: Output, accumulate: bool) {
    let rights = OfRows { b, c, accumulate };
    // SAFETY: the caller's promise.
    unsafe { multiply_all(a, b.depth.div_ceil(PANEL), &rights) };
}

/// Products of `a` with all panels of a right operand.
///
/// # Safety
/// As [`multiply`].
unsafe fn multiply_all(a: Left<'_>, panels: usize, rights: &impl Rights) {
    // SAFETY: the caller's promise.
    let left = unsafe { LeftTiles::pack(a, MOST_DEPTH) };
    in_parts(panels, a.rows * a.depth * panels * PANEL, |panels| {
        // SAFETY: the caller's promise; the panels' columns belong to this task.
        unsafe { left.multiply(None, panels, rights) };
    });
    left.keep();
}
