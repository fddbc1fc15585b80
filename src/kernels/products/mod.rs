//! Products of whole matrices: cut into pieces that fit a cache, and spread over threads.
//!
//! Every output value is computed by one task in one fixed order, so results depend neither on the
//! number of threads nor on timing.

mod activations;
pub mod gemm;
mod job;
mod panels;
mod pieces;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::cell::Cell;

use self::job::{Input, Job};
use self::pieces::pieces;
use super::Compute;
use super::isa::{Isa, Left, Output, PANEL};
use super::memory::Floats;
use super::packing::{BLOCK, Codes, PackedMatrix, TILE};
use super::threads::in_parts;

pub(super) use self::activations::{ActBlock, GROUP_ROWS, TINY};
pub use self::panels::{PANEL_ROWS, Panel, Panels, multiply_panel};

/// Rows of x that share a decoded panel: with [`PANEL_DEPTH`] they take 1 MB, half an L2 cache.
const EXACT_ROWS: usize = 384;
/// Most values of the summed dimension in a panel: 80 KB.
const PANEL_DEPTH: usize = 640;
/// Products that are computed together.
const MOST_SHARED: usize = 4;

thread_local! {
    /// One panel per thread. Taken out while in use, so that nested calls get their own.
    static PANEL_STORE: Cell<Floats> = Cell::default();
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

/// Several products that share `x: [m, cols]`, such as a block's q, k and v. Results are bit-identical
/// to separate products, but x is rounded once and threads synchronize once.
///
/// # Panics
/// If the matrices differ in columns, or `x`, a `y` or an update has another size than they require.
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
                tiles::multiply_transposed((g, m), self, dx, accumulate);
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

/// Runs `f` with this thread's panel.
fn with_panel(f: impl FnOnce(&mut [f32])) {
    let mut panel = PANEL_STORE.take();
    panel.resize(PANEL_DEPTH * PANEL);
    f(&mut panel);
    PANEL_STORE.set(panel);
}
