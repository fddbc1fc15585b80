//! The instruction sets: which one runs, and the few operations that each must have.
//!
//! Everything above this file is the same for all of them. To add a set, write its file and an arm
//! in every `match` here.

use super::activations::ActBlock;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::layout::{BLOCK, PackedMatrix};
use super::portable;

/// Columns of a panel: two tiles, or one block.
pub(super) const PANEL: usize = 32;

/// A way to compute, always one that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// AVX-512 F, BW, VL, DQ and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Plain Rust; the reference for the others.
    Portable,
}

/// A row-major f32 matrix, of which parallel tasks write disjoint columns.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) at: *mut f32,
    /// Distance between rows.
    pub(super) stride: usize,
}

// SAFETY: a plain address; every function that writes through it is unsafe and demands that no
// other task touches the columns it names.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// The same matrix seen from another first element.
    ///
    /// # Safety
    /// The element must lie in the matrix or one past its end.
    pub(super) unsafe fn from(self, row: usize, col: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { at: unsafe { self.at.add(row * self.stride + col) }, stride: self.stride }
    }
}

/// Left operand rows: `rows` rows of at least `depth` values, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
}

impl<'a> Left<'a> {
    pub(super) fn new(values: &'a [f32], stride: usize, rows: usize, depth: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + depth <= values.len(), "operand too short");
        Self { values, stride, rows, depth }
    }
}

impl Isa {
    /// The best set of this machine.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            return Self::Avx512;
        }
        Self::Portable
    }

    /// Whether [`Self::multiply_fused`] and [`Self::multiply_int8`] gain over panels.
    pub(super) fn has_fused(self) -> bool {
        self != Self::Portable
    }

    /// Rounds 32 activations to int8.
    pub(super) fn quantise_block(self, values: &[f32; BLOCK], to: &mut ActBlock) {
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::quantise_block(values, to) },
            Self::Portable => portable::quantise_block(values, to),
        }
    }

    /// Decodes `count` blocks from block column `first` of tiles `2 pair`, `2 pair + 1` to
    /// `panel: [32 count, PANEL]`, one row per column of the matrix. If the second tile does not
    /// exist, its half of the panel is left as it is.
    pub(super) fn decode_panel(
        self,
        w: &PackedMatrix,
        pair: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        assert!(2 * pair < w.tiles && first + count <= w.blocks, "block outside the matrix");
        assert!(panel.len() >= count * BLOCK * PANEL, "panel too short");
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes; sizes asserted.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::decode_panel(w, pair, first, count, panel) },
            Self::Portable => portable::decode_panel(w, pair, first, count, panel),
        }
    }

    /// Decodes block column `b` of `count` tiles from `first` to `panel: [16 count, PANEL]`, one
    /// row per row of the matrix.
    pub(super) fn decode_panel_transposed(
        self,
        w: &PackedMatrix,
        b: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        assert!(first + count <= w.tiles && b < w.blocks, "tile outside the matrix");
        assert!(panel.len() >= count * super::layout::TILE * PANEL, "panel too short");
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes; sizes asserted.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::decode_panel_transposed(w, b, first, count, panel) },
            Self::Portable => portable::decode_panel_transposed(w, b, first, count, panel),
        }
    }

    /// `c[rows, width] (+)= a[rows, depth] · panel[depth, width]`, `width` at most [`PANEL`].
    ///
    /// # Safety
    /// `c` must hold `a.rows` rows and `width` columns, and nothing else may touch them meanwhile.
    pub(super) unsafe fn multiply_panel(
        self,
        a: Left<'_>,
        panel: &[f32],
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        assert!(width <= PANEL && panel.len() >= a.depth * PANEL, "panel too short");
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::multiply_panel(a, panel, c, width, accumulate) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe {
                portable::multiply_panel(a, panel, c, width, accumulate);
            },
        }
    }

    /// `c[rows, 16] = a · Wᵀ` for the rows of W in one tile, decoding in registers.
    ///
    /// # Safety
    /// As [`Self::multiply_panel`], with the width of the tile's rows that exist. `a.depth` must be
    /// a whole number of blocks, all of the row's.
    pub(super) unsafe fn multiply_fused(
        self,
        w: &PackedMatrix,
        tile: usize,
        a: Left<'_>,
        c: Output,
    ) {
        assert!(tile < w.tiles && a.depth == w.blocks * BLOCK, "tile outside the matrix");
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::multiply_fused(w, tile, a, c) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe { portable::multiply_fused(w, tile, a, c) },
        }
    }

    /// `c[rows, 16] = group · Wᵀ` for the rows of W in one tile, in int8; `group: [blocks, rows]`.
    ///
    /// # Safety
    /// As [`Self::multiply_fused`]. W must be quantised.
    pub(super) unsafe fn multiply_int8(
        self,
        w: &PackedMatrix,
        tile: usize,
        group: &[ActBlock],
        c: Output,
    ) {
        assert!(tile < w.tiles && group.len().is_multiple_of(w.blocks), "tile outside the matrix");
        match self {
            // SAFETY: `Avx512` exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::multiply_int8(w, tile, group, c) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe { portable::multiply_int8(w, tile, group, c) },
        }
    }
}
