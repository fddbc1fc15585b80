//! Forward products of one input: which way each is computed, and what each task does.

use std::cell::Cell;
use std::ops::Range;

use super::activations::{ActBlock, Activations, GROUP_ROWS, quantize_group};
use super::pieces::{pieces, pieces_of};
#[cfg(target_arch = "x86_64")]
use super::tiles::{self, WithUpdate};
use super::{EXACT_ROWS, PANEL_DEPTH, Product, Update, with_panel};
use crate::kernels::Compute;
use crate::kernels::isa::{CodeTile, Isa, Left, Output, PANEL};
use crate::kernels::memory::Line;
use crate::kernels::packing::{BLOCK, CODE_LINES, LINE, PackedMatrix, TILE};
use crate::kernels::threads::{Shared, in_parts};

/// Up to this many rows of x, weights are decoded in registers; beyond, once per panel.
const FUSED_ROWS: usize = 16;
/// int8 blocks of x that stay in a cache between weight tiles (768 KB).
const INT8_BLOCKS: usize = 16 * 1024;
/// Weight tiles that take turns at a group of activations, so that `y` is written in longer runs
/// (256 bytes) than a tile's.
const INT8_TILES: usize = 4;
/// Rounding a value costs about as much as so many multiplications.
const ROUNDING_MACS: usize = 8;

thread_local! {
    /// The rounded activations of the product that the thread called. Taken out while in use, so that nested
    /// calls get their own.
    static INT8_STORE: Cell<Vec<ActBlock>> = const { Cell::new(Vec::new()) };
    /// Decoded codes of [`INT8_TILES`] tiles, taken out in the same way.
    static CODE_STORE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A [`Product`] whose parts tasks write to in parallel.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
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
pub(super) struct Input<'a> {
    pub(super) isa: Isa,
    pub(super) x: &'a [f32],
    pub(super) m: usize,
    pub(super) cols: usize,
}

impl<'a> Job<'a> {
    /// Multiplications for `rows` rows of x.
    fn macs(&self, rows: usize) -> usize {
        match self.kind {
            Kind::Tiles => 0,
            _ => rows * self.w.rows * (self.w.cols + self.update.map_or(0, |u| u.b.cols())),
        }
    }

    pub(super) fn new(input: &Input<'_>, product: &'a mut Product<'_>) -> Self {
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
    pub(super) fn multiply(&self, jobs: &[Option<Job<'_>>]) {
        #[cfg(target_arch = "x86_64")]
        self.tiles(jobs);
        if jobs.iter().flatten().all(|job| job.kind == Kind::Tiles) {
            return;
        }
        let blocks = self.cols / BLOCK;
        // Whole groups, so that only the last one is smaller.
        let most = (INT8_BLOCKS / blocks.max(1)).next_multiple_of(GROUP_ROWS).max(GROUP_ROWS);
        let int8 = jobs.iter().flatten().any(|job| job.kind == Kind::Int8);
        let most = if int8 { most } else { self.m.max(1) };
        for rows in pieces_of(self.m, most, GROUP_ROWS) {
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
            Kind::Tiles => return,
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

    /// All jobs of [`Kind::Tiles`], whole.
    #[cfg(target_arch = "x86_64")]
    fn tiles(&self, jobs: &[Option<Job<'_>>]) {
        let jobs = jobs.iter().flatten().filter(|job| job.kind == Kind::Tiles);
        let mut products =
            jobs.map(|job| WithUpdate { w: job.w, update: job.update, y: job.y }).peekable();
        if products.peek().is_some() {
            // SAFETY: this kind exists only where the tiles do; each `y` is its job's alone.
            unsafe { tiles::multiply((self.x, self.m, self.cols), products) };
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
        let (tiles, lines) = (tiles_of(job.w, pairs), job.w.blocks * CODE_LINES);
        let decodes = self.isa.decodes_codes(job.w, rows.len());
        let mut store = CODE_STORE.take();
        if decodes && store.len() < INT8_TILES * lines {
            store.resize(INT8_TILES * lines, Line([0; LINE]));
        }
        for first in tiles.clone().step_by(INT8_TILES) {
            let here = first..tiles.end.min(first + INT8_TILES);
            if decodes {
                for (tile, codes) in here.clone().zip(store.chunks_exact_mut(lines)) {
                    self.isa.decode_codes(job.w, tile, codes);
                }
            }
            for (i, group) in acts.groups().enumerate() {
                for tile in here.clone() {
                    let decoded = decodes.then(|| &store[(tile - first) * lines..][..lines]);
                    let w = CodeTile { matrix: job.w, tile, decoded };
                    // SAFETY: `y` has m rows; the columns of a tile belong to this task.
                    unsafe {
                        let y = job.y.from(rows.start + i * GROUP_ROWS, tile * TILE);
                        self.isa.multiply_int8(w, group, y);
                    }
                }
            }
        }
        CODE_STORE.set(store);
    }
}

/// The tiles of pairs of them.
fn tiles_of(w: &PackedMatrix, pairs: &Range<usize>) -> Range<usize> {
    2 * pairs.start..(2 * pairs.end).min(w.tiles)
}

/// Rounds all rows of `x`.
fn quantize(isa: Isa, x: &[f32], acts: &mut Activations, per_row: usize) {
    let (row, group_blocks) = (per_row * BLOCK, GROUP_ROWS * per_row);
    let rows = x.len() / row;
    let blocks = &Shared::of(acts.blocks_mut());
    in_parts(rows.div_ceil(GROUP_ROWS), x.len() * ROUNDING_MACS, |range| {
        for group in range {
            let x = &x[group * GROUP_ROWS * row..((group + 1) * GROUP_ROWS * row).min(x.len())];
            let first = group * group_blocks;
            // SAFETY: `acts` holds `rows` rows, all groups before this one are full, and each group
            // belongs to one task.
            let to = unsafe { blocks.part(first..first + x.len() / row * per_row) };
            quantize_group(isa, x, per_row, to);
        }
    });
}
