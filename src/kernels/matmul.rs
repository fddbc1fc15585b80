//! Products of whole matrices: cuts them into cache-sized pieces and spreads these over threads.
//!
//! Every output value is computed by one task in one fixed order, so results depend neither on the
//! number of threads nor on timing.

use std::cell::Cell;
use std::ops::Range;

use super::activations::{ActBlock, Activations, ROWS, quantize_group};
use super::floats::Floats;
use super::isa::{Isa, Left, Output, PANEL};
use super::layout::{BLOCK, Codes, PackedMatrix, TILE};
use super::panels::Panels;
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::{Compute, threads::in_parts};

/// Up to this many rows of x, weights are decoded in registers; beyond, once per panel.
const FUSED_ROWS: usize = 16;
/// Rows of x that share a decoded panel: with [`PANEL_DEPTH`] they take 1 MB, half an L2 cache.
const EXACT_ROWS: usize = 384;
/// Most values of the summed dimension in a panel: 80 KB.
const PANEL_DEPTH: usize = 640;
/// int8 blocks of x that stay in a cache between weight tiles (768 KB).
const INT8_BLOCKS: usize = 16 * 1024;
/// Weight tiles that take turns at a group of activations, so that `y` is written in longer runs
/// (256 bytes) than a tile's.
const INT8_TILES: usize = 4;
/// Products that are computed together.
const MOST_SHARED: usize = 4;
/// Rounding a value costs about as much as so many multiplications.
const ROUNDING_MACS: usize = 8;

thread_local! {
    /// One panel per thread, and the rounded activations of the product that the thread called.
    /// Taken out while in use, so that nested calls get their own.
    static PANEL_STORE: Cell<Floats> = Cell::default();
    static INT8_STORE: Cell<Vec<ActBlock>> = const { Cell::new(Vec::new()) };
}

/// `y[m, rows] = x · Wᵀ`, and what LoRA adds.
pub struct Product<'a> {
    pub w: &'a PackedMatrix,
    pub compute: Compute,
    pub y: &'a mut [f32],
    pub update: Option<Update<'a>>,
}

/// What LoRA adds to a product: `h · Bᵀ` for `h: [m, rank]`, whose rows are `stride` apart.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    pub h: &'a [f32],
    pub stride: usize,
    /// `[rows of W, rank]`
    pub b: &'a Panels,
}

/// A [`Product`] whose parts tasks write to in parallel.
#[derive(Clone, Copy)]
struct Job<'a> {
    w: &'a PackedMatrix,
    kind: Kind,
    /// `[m, rows]`
    y: Output,
    update: Option<Update<'a>>,
}

/// How a product is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// int8 dot products with activations rounded to int8.
    Int8,
    /// f32, weights decoded in registers for few rows of x.
    Fused,
    /// f32, weights decoded to panels.
    Panels,
    /// Weights and activations rounded to bf16, for many rows where the processor multiplies tiles
    /// of them.
    Tiles,
}

/// The left operand `[m, cols]` of a product.
#[derive(Clone, Copy)]
struct Input<'a> {
    isa: Isa,
    x: &'a [f32],
    m: usize,
    cols: usize,
}

/// Several products that share `x: [m, cols]`, such as a block's q, k and v. As one by one, to the
/// bit, but x is rounded once and threads meet once.
///
/// # Panics
/// If a matrix has another number of columns, or `x`, a `y` or an update another size.
pub fn matmul_shared(x: &[f32], m: usize, products: &mut [Product<'_>]) {
    let Some(first) = products.first() else { return };
    let input = Input { isa: Isa::detect(), x, m, cols: first.w.cols };
    // Of a block's layers at most three share their input.
    let mut jobs: [Option<Job<'_>>; MOST_SHARED] = [None; MOST_SHARED];
    for products in products.chunks_mut(jobs.len()) {
        let count = products.len();
        for (job, product) in jobs.iter_mut().zip(products) {
            *job = Some(Job::new(&input, product));
        }
        input.multiply(&jobs[..count]);
    }
}

impl PackedMatrix {
    /// `y[m, rows] = x[m, cols] · Wᵀ`; all row-major and contiguous; `y` is overwritten.
    ///
    /// `Compute::Fast` rounds x to int8 per 32 columns; float weights are always multiplied exactly.
    /// Runs on all threads; the result does not depend on their number.
    ///
    /// # Panics
    /// If `x` or `y` has another length.
    pub fn matmul(&self, compute: Compute, x: &[f32], m: usize, y: &mut [f32]) {
        self.matmul_on(Isa::detect(), compute, x, m, y);
    }

    /// `dx[m, cols] = g[m, rows] · W`, added to `dx` if `accumulate`; the gradient with respect to
    /// the input of [`Self::matmul`], always in f32.
    ///
    /// # Panics
    /// If `g` or `dx` has another length.
    pub fn matmul_transposed(
        &self,
        compute: Compute,
        g: &[f32],
        m: usize,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        self.matmul_transposed_on(Isa::detect(), compute, g, m, dx, accumulate);
    }

    pub(super) fn matmul_on(&self, isa: Isa, compute: Compute, x: &[f32], m: usize, y: &mut [f32]) {
        let input = Input { isa, x, m, cols: self.cols };
        let mut product = Product { w: self, compute, y, update: None };
        input.multiply(&[Some(Job::new(&input, &mut product))]);
    }

    fn is_quantized(&self) -> bool {
        matches!(self.codes, Codes::Bits { .. })
    }

    pub(super) fn matmul_transposed_on(
        &self,
        isa: Isa,
        compute: Compute,
        g: &[f32],
        m: usize,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(g.len(), m * self.rows, "g must be [m, rows]");
        assert_eq!(dx.len(), m * self.cols, "dx must be [m, cols]");
        let dx = Output { at: dx.as_mut_ptr(), stride: self.cols };
        if compute == Compute::Fast && isa.multiplies_tiles(m) {
            // SAFETY: the tiles are there; `dx` has m rows of this many columns, and is ours.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                tiles::multiply_transposed(isa, (g, m), self, dx, accumulate);
            }
            return;
        }
        in_parts(self.blocks, m * self.rows * self.cols, |blocks| {
            with_panel(|panel| {
                for rows in pieces(m, EXACT_ROWS) {
                    for tiles in pieces(self.tiles, PANEL_DEPTH / TILE) {
                        let from = tiles.start * TILE;
                        let depth = (tiles.len() * TILE).min(self.rows - from);
                        let values = &g[rows.start * self.rows + from..];
                        let a = Left::new(values, self.rows, rows.len(), depth);
                        for b in blocks.clone() {
                            isa.decode_panel_transposed(self, b, tiles.start, tiles.len(), panel);
                            let width = BLOCK.min(self.cols - b * BLOCK);
                            // SAFETY: `dx` has m rows; the block's columns belong to this task.
                            unsafe {
                                let dx = dx.from(rows.start, b * BLOCK);
                                let add = accumulate || from > 0;
                                isa.multiply_panel(a, panel, dx, width, add);
                            }
                        }
                    }
                }
            });
        });
    }
}

impl<'a> Job<'a> {
    /// Multiplications for `rows` rows of x.
    fn macs(&self, rows: usize) -> usize {
        let cols = if self.kind == Kind::Tiles { 0 } else { self.w.cols };
        rows * self.w.rows * (cols + self.update.map_or(0, |u| u.b.cols()))
    }

    fn new(input: &Input<'_>, product: &'a mut Product<'_>) -> Self {
        let Product { w, compute, y, update } = product;
        let (isa, m) = (input.isa, input.m);
        assert_eq!(w.cols, input.cols, "the weights take another number of columns");
        assert_eq!(input.x.len(), m * w.cols, "x must be [m, cols]");
        assert_eq!(y.len(), m * w.rows, "y must be [m, rows]");
        assert!(update.is_none_or(|u| u.b.rows() == w.rows), "B must have the rows of W");
        let whole = w.cols.is_multiple_of(BLOCK);
        let kind = match compute {
            Compute::Fast if isa.multiplies_tiles(m) => Kind::Tiles,
            Compute::Fast if w.is_quantized() => Kind::Int8,
            _ if m <= FUSED_ROWS && isa.has_fused() && whole => Kind::Fused,
            _ => Kind::Panels,
        };
        Self { w, kind, y: Output { at: y.as_mut_ptr(), stride: w.rows }, update: *update }
    }
}

impl Input<'_> {
    fn multiply(&self, jobs: &[Option<Job<'_>>]) {
        #[cfg(target_arch = "x86_64")]
        self.tiles(jobs);
        let blocks = self.cols / BLOCK;
        // Whole groups, so that only the last one is smaller.
        let most = (INT8_BLOCKS / blocks.max(1)).next_multiple_of(ROWS).max(ROWS);
        let int8 = jobs.iter().flatten().any(|job| job.kind == Kind::Int8);
        let most = if int8 { most } else { self.m.max(1) };
        for rows in pieces_of(self.m, most, ROWS) {
            let mut acts = Activations::with_store(INT8_STORE.take(), rows.len(), blocks);
            if int8 {
                let x = &self.x[rows.start * self.cols..rows.end * self.cols];
                quantize(self.isa, x, &mut acts, blocks);
            }
            self.rows(jobs, &rows, &acts);
            INT8_STORE.set(acts.into_store());
        }
    }

    /// Some rows of all jobs, in parallel if that is worth it.
    fn rows(&self, jobs: &[Option<Job<'_>>], rows: &Range<usize>, acts: &Activations) {
        let units = |job: &Job<'_>| job.w.rows.div_ceil(PANEL);
        let total = jobs.iter().flatten().map(units).sum();
        let macs = jobs.iter().flatten().map(|job| job.macs(rows.len())).sum();
        in_parts(total, macs, |range| {
            let mut before = 0;
            for job in jobs.iter().flatten() {
                let end = before + units(job);
                let here = range.start.max(before)..range.end.min(end);
                if !here.is_empty() {
                    self.part(job, rows, acts, here.start - before..here.end - before);
                }
                before = end;
            }
        });
    }

    /// Columns `pairs` (of [`PANEL`]) of a job in rows `rows`.
    fn part(&self, job: &Job<'_>, rows: &Range<usize>, acts: &Activations, pairs: Range<usize>) {
        match job.kind {
            Kind::Int8 => self.int8(job, rows, acts, &pairs),
            Kind::Fused => self.fused(job, rows, &pairs),
            Kind::Panels => self.panels(job, rows, &pairs),
            // Computed before, all of them.
            Kind::Tiles => {}
        }
        let Some(Update { h, stride, b }) = job.update else { return };
        let a = Left::new(&h[rows.start * stride..], stride, rows.len(), b.cols());
        for pair in pairs {
            let (panel, width) = b.panel(pair);
            // SAFETY: `y` has m rows; the pair's columns belong to this task.
            unsafe {
                let y = job.y.from(rows.start, pair * PANEL);
                self.isa.multiply_panel(a, panel, y, width, true);
            }
        }
    }

    /// All jobs of [`Kind::Tiles`].
    #[cfg(target_arch = "x86_64")]
    fn tiles(&self, jobs: &[Option<Job<'_>>]) {
        let mut products = [const { None }; MOST_SHARED];
        let mut count = 0;
        for job in jobs.iter().flatten().filter(|job| job.kind == Kind::Tiles) {
            products[count] = Some((job.w, job.y));
            count += 1;
        }
        if count > 0 {
            let products: Vec<_> = products.into_iter().flatten().collect();
            // SAFETY: this kind exists only where the tiles do; each `y` is its job's alone.
            unsafe {
                let x = (self.x, self.m, self.cols);
                tiles::multiply(self.isa, x, &products);
            }
        }
    }

    fn fused(&self, job: &Job<'_>, rows: &Range<usize>, pairs: &Range<usize>) {
        let a = Left::new(&self.x[rows.start * self.cols..], self.cols, rows.len(), self.cols);
        for tile in tiles_of(job.w, pairs) {
            // SAFETY: `y` has m rows; the columns of a tile belong to this task.
            unsafe {
                let y = job.y.from(rows.start, tile * TILE);
                self.isa.multiply_fused(job.w, tile, a, y);
            }
        }
    }

    fn panels(&self, job: &Job<'_>, rows: &Range<usize>, pairs: &Range<usize>) {
        with_panel(|panel| {
            for piece in pieces(rows.len(), EXACT_ROWS) {
                let rows = rows.start + piece.start..rows.start + piece.end;
                for blocks in pieces(job.w.blocks, PANEL_DEPTH / BLOCK) {
                    self.panel_piece(job, pairs, &rows, &blocks, panel);
                }
            }
        });
    }

    /// Adds one block range's part to the columns of `pairs` in rows `rows`; the first overwrites.
    fn panel_piece(
        &self,
        job: &Job<'_>,
        pairs: &Range<usize>,
        rows: &Range<usize>,
        blocks: &Range<usize>,
        panel: &mut [f32],
    ) {
        let (isa, w) = (self.isa, job.w);
        let from = blocks.start * BLOCK;
        let depth = (blocks.len() * BLOCK).min(self.cols - from);
        let values = &self.x[rows.start * self.cols + from..];
        let a = Left::new(values, self.cols, rows.len(), depth);
        for pair in pairs.clone() {
            isa.decode_panel(w, pair, blocks.start, blocks.len(), panel);
            let width = PANEL.min(w.rows - pair * PANEL);
            // SAFETY: `y` has m rows; the pair's columns belong to this task.
            unsafe {
                let y = job.y.from(rows.start, pair * PANEL);
                isa.multiply_panel(a, panel, y, width, from > 0);
            }
        }
    }

    fn int8(&self, job: &Job<'_>, rows: &Range<usize>, acts: &Activations, pairs: &Range<usize>) {
        let tiles = tiles_of(job.w, pairs);
        for first in tiles.clone().step_by(INT8_TILES) {
            for (i, group) in acts.groups().enumerate() {
                for tile in first..tiles.end.min(first + INT8_TILES) {
                    // SAFETY: `y` has m rows; the columns of a tile belong to this task.
                    unsafe {
                        let y = job.y.from(rows.start + i * ROWS, tile * TILE);
                        self.isa.multiply_int8(job.w, tile, group, y);
                    }
                }
            }
        }
    }
}

/// The tiles of pairs of them.
fn tiles_of(w: &PackedMatrix, pairs: &Range<usize>) -> Range<usize> {
    2 * pairs.start..(2 * pairs.end).min(w.tiles)
}

/// Rounds all rows of `x`.
fn quantize(isa: Isa, x: &[f32], acts: &mut Activations, per_row: usize) {
    let row = per_row * BLOCK;
    let rows = x.len() / row;
    let groups = &SharedGroups { at: acts.as_mut_ptr() };
    in_parts(rows.div_ceil(ROWS), x.len() * ROUNDING_MACS, |range| {
        for group in range {
            let x = &x[group * ROWS * row..((group + 1) * ROWS * row).min(x.len())];
            let count = x.len() / row * per_row;
            // SAFETY: `acts` holds `rows` rows, all groups before this one are full, and each group
            // belongs to one task.
            let to = unsafe {
                let at = groups.at.add(group * ROWS * per_row);
                std::slice::from_raw_parts_mut(at, count)
            };
            quantize_group(isa, x, per_row, to);
        }
    });
}

/// The groups of [`Activations`], for tasks that fill one each.
struct SharedGroups {
    at: *mut ActBlock,
}

// SAFETY: a plain address; whoever goes through it promises that no other task uses the same group.
unsafe impl Sync for SharedGroups {}

/// Runs `f` with this thread's panel.
fn with_panel(f: impl FnOnce(&mut [f32])) {
    let mut panel = PANEL_STORE.take();
    panel.resize(PANEL_DEPTH * PANEL);
    f(&mut panel);
    PANEL_STORE.set(panel);
}

/// `0..total` in the fewest ranges of at most `most`, all about equally long.
fn pieces(total: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    pieces_of(total, most, 1)
}

/// As [`pieces`], with boundaries at multiples of `unit`; `most` must be one too.
fn pieces_of(total: usize, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let count = total.div_ceil(most);
    let units = total.div_ceil(unit);
    (0..count).map(move |i| {
        let at = |i: usize| (i * units / count * unit).min(total);
        at(i)..at(i + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once_in_equal_parts() {
        let of = |total, most| pieces(total, most).collect::<Vec<_>>();
        assert!(of(0, 4).is_empty());
        assert_eq!(of(8, 4), [0..4, 4..8]);
        assert_eq!(of(9, 4), [0..3, 3..6, 6..9]);
    }

    #[test]
    fn pieces_keep_to_units() {
        let ranges: Vec<_> = pieces_of(30, 16, 8).collect();
        assert_eq!(ranges, [0..16, 16..30]);
    }
}
