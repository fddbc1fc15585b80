//! Products of whole matrices: cuts them into cache-sized pieces and spreads these over threads.
//!
//! Every output value is computed by one task in one fixed order, so results depend neither on the
//! number of threads nor on timing.

use std::cell::Cell;
use std::ops::Range;

use super::activations::{ActBlock, Activations, ROWS, quantise_group};
use super::isa::{Isa, Left, Output, PANEL};
use super::layout::{BLOCK, Codes, PackedMatrix, TILE};
use super::{Compute, threads::threads};

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
/// Below this many multiplications a product is not worth a second thread.
const INLINE_MACS: usize = 200_000;
/// From this many multiplications on, work is cut finer than one part per thread, to balance load.
const BALANCED_MACS: usize = 4_000_000;

thread_local! {
    /// One panel per thread, and the rounded activations of the product that the thread called.
    /// Taken out while in use, so that nested calls get their own.
    static PANEL_STORE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static INT8_STORE: Cell<Vec<ActBlock>> = const { Cell::new(Vec::new()) };
}

/// One product of several with the same left operand.
#[derive(Clone, Copy)]
struct Job<'a> {
    w: &'a PackedMatrix,
    /// `[m, rows]`
    y: Output,
}

/// The left operand `[m, cols]` of a product.
#[derive(Clone, Copy)]
struct Input<'a> {
    isa: Isa,
    x: &'a [f32],
    m: usize,
    cols: usize,
}

/// `y = x · Wᵀ` for several W that share `x: [m, cols]`, such as a block's q, k and v; each
/// `y: [m, rows]`. As [`PackedMatrix::matmul`] one by one, to the bit, but x is rounded once and
/// threads meet once.
///
/// # Panics
/// If a matrix has another number of columns, or `x` or a `y` another length.
pub fn matmul_shared(
    compute: Compute,
    x: &[f32],
    m: usize,
    products: &mut [(&PackedMatrix, &mut [f32])],
) {
    let Some((first, _)) = products.first() else { return };
    let input = Input { isa: Isa::detect(), x, m, cols: first.cols };
    let jobs: Vec<_> = products.iter_mut().map(|(w, y)| Job::new(&input, w, y)).collect();
    let quantised = jobs.iter().filter(|job| job.w.is_quantised()).count();
    if quantised == 0 || quantised == jobs.len() {
        input.multiply(compute, &jobs);
    } else {
        jobs.iter().for_each(|job| input.multiply(compute, &[*job]));
    }
}

impl PackedMatrix {
    /// `y[m, rows] = x[m, cols] · Wᵀ`; all row-major and contiguous; `y` is overwritten.
    ///
    /// `Compute::Fast` rounds x to int8 per 32 columns; float weights are always multiplied exactly.
    /// Uses the current rayon pool; the result does not depend on its size.
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
    pub fn matmul_transposed(&self, g: &[f32], m: usize, dx: &mut [f32], accumulate: bool) {
        self.matmul_transposed_on(Isa::detect(), g, m, dx, accumulate);
    }

    pub(super) fn matmul_on(&self, isa: Isa, compute: Compute, x: &[f32], m: usize, y: &mut [f32]) {
        let input = Input { isa, x, m, cols: self.cols };
        input.multiply(compute, &[Job::new(&input, self, y)]);
    }

    fn is_quantised(&self) -> bool {
        matches!(self.codes, Codes::Bits { .. })
    }

    pub(super) fn matmul_transposed_on(
        &self,
        isa: Isa,
        g: &[f32],
        m: usize,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(g.len(), m * self.rows, "g must be [m, rows]");
        assert_eq!(dx.len(), m * self.cols, "dx must be [m, cols]");
        let dx = Output { at: dx.as_mut_ptr(), stride: self.cols };
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
    fn new(input: &Input<'_>, w: &'a PackedMatrix, y: &mut [f32]) -> Self {
        assert_eq!(w.cols, input.cols, "the weights take another number of columns");
        assert_eq!(input.x.len(), input.m * w.cols, "x must be [m, cols]");
        assert_eq!(y.len(), input.m * w.rows, "y must be [m, rows]");
        Self { w, y: Output { at: y.as_mut_ptr(), stride: w.rows } }
    }
}

impl Input<'_> {
    /// All jobs are quantised or none is.
    fn multiply(&self, compute: Compute, jobs: &[Job<'_>]) {
        let whole = self.cols.is_multiple_of(BLOCK);
        match compute {
            Compute::Fast if jobs.iter().all(|job| job.w.is_quantised()) => self.int8(jobs),
            _ if self.m <= FUSED_ROWS && self.isa.has_fused() && whole => self.fused(jobs),
            _ => self.panels(jobs),
        }
    }

    fn fused(&self, jobs: &[Job<'_>]) {
        let a = Left::new(self.x, self.cols, self.m, self.cols);
        for_jobs(jobs, TILE, self.m, |job, tiles| {
            for tile in tiles {
                // SAFETY: `y` has m rows; the columns of a tile belong to this task.
                unsafe { self.isa.multiply_fused(job.w, tile, a, job.y.from(0, tile * TILE)) };
            }
        });
    }

    fn panels(&self, jobs: &[Job<'_>]) {
        for_jobs(jobs, PANEL, self.m, |job, pairs| {
            with_panel(|panel| {
                for rows in pieces(self.m, EXACT_ROWS) {
                    for blocks in pieces(job.w.blocks, PANEL_DEPTH / BLOCK) {
                        self.panel_piece(job, &pairs, &rows, &blocks, panel);
                    }
                }
            });
        });
    }

    /// Adds one block range's part to the columns of `pairs` in rows `rows`; the first overwrites.
    fn panel_piece(
        &self,
        job: Job<'_>,
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

    fn int8(&self, jobs: &[Job<'_>]) {
        let blocks = self.cols / BLOCK;
        // Whole groups, so that only the last one is smaller.
        let most = (INT8_BLOCKS / blocks).next_multiple_of(ROWS);
        for rows in pieces_of(self.m, most.max(ROWS), ROWS) {
            let mut acts = Activations::with_store(INT8_STORE.take(), rows.len(), blocks);
            let x = &self.x[rows.start * self.cols..rows.end * self.cols];
            quantise(self.isa, x, &mut acts, blocks);
            for_jobs(jobs, TILE, rows.len(), |job, tiles| {
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
            });
            INT8_STORE.set(acts.into_store());
        }
    }
}

/// Runs `f` on ranges of units of `unit` rows of W that make up all rows of all jobs, in parallel
/// if that is worth it for `m` rows of x.
fn for_jobs<'a>(jobs: &[Job<'a>], unit: usize, m: usize, f: impl Fn(Job<'a>, Range<usize>) + Sync) {
    let units = |job: &Job<'_>| job.w.rows.div_ceil(unit);
    let total = jobs.iter().map(units).sum();
    let macs = jobs.iter().map(|job| m * job.w.rows * job.w.cols).sum();
    in_parts(total, macs, |range| {
        let mut before = 0;
        for job in jobs {
            let end = before + units(job);
            let here = range.start.max(before)..range.end.min(end);
            if !here.is_empty() {
                f(*job, here.start - before..here.end - before);
            }
            before = end;
        }
    });
}

/// Rounds all rows of `x`.
fn quantise(isa: Isa, x: &[f32], acts: &mut Activations, per_row: usize) {
    use rayon::prelude::*;

    let row = per_row * BLOCK;
    // Rounding a value costs about as much as a few multiplications.
    if x.len() < INLINE_MACS / 8 || threads() == 1 {
        for (group, x) in acts.groups_mut().zip(x.chunks(ROWS * row)) {
            quantise_group(isa, x, per_row, group);
        }
    } else {
        let groups: Vec<_> = acts.groups_mut().zip(x.chunks(ROWS * row)).collect();
        groups.into_par_iter().for_each(|(group, x)| quantise_group(isa, x, per_row, group));
    }
}

/// Runs `f` with this thread's panel.
fn with_panel(f: impl FnOnce(&mut [f32])) {
    let mut panel = PANEL_STORE.take();
    panel.resize(PANEL_DEPTH * PANEL, 0.0);
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

/// Runs `f` on ranges that make up `0..units`, on all threads if `macs` multiplications are worth
/// it.
fn in_parts(units: usize, macs: usize, f: impl Fn(Range<usize>) + Sync) {
    let threads = threads();
    if threads == 1 || macs < INLINE_MACS {
        f(0..units);
        return;
    }
    let parts = if macs < BALANCED_MACS { threads } else { 4 * threads };
    halve(&f, units, 0..parts.min(units), parts.min(units));
}

/// Runs parts `parts` of `count`, in parallel.
fn halve(f: &(impl Fn(Range<usize>) + Sync), units: usize, parts: Range<usize>, count: usize) {
    if parts.len() == 1 {
        f(parts.start * units / count..parts.end * units / count);
    } else {
        let middle = parts.start + parts.len() / 2;
        rayon::join(
            || halve(f, units, parts.start..middle, count),
            || halve(f, units, middle..parts.end, count),
        );
    }
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

    #[test]
    fn parts_cover_everything_once_on_any_number_of_threads() {
        for threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let seen = std::sync::Mutex::new(Vec::new());
            pool.install(|| {
                in_parts(7, usize::MAX, |range| seen.lock().unwrap().extend(range));
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}
