//! The operations of an instruction set, and the calls from [`Isa`] to the set that it names.
//!
//! [`Isa`]'s methods check sizes; [`Operations`] relies on them.

#[cfg(target_arch = "aarch64")]
use super::neon::{self, Neon};
use super::operands::{CodeTile, Left, Output, PANEL, Value};
use super::{Isa, portable::Portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx2::Avx2, avx512::Avx512};
use crate::kernels::elementwise::widen;
use crate::kernels::memory::{Floats, Line};
use crate::kernels::packing::{BLOCK, CODE_LINES, PackedMatrix, TILE};
use crate::kernels::products::ActBlock;

/// How an instruction set decodes weights.
///
/// # Safety
/// As [`Operations`].
pub(super) trait Decode {
    /// See [`Isa::decode_panel`].
    unsafe fn decode_panel(
        w: &PackedMatrix,
        pair: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    );

    /// See [`Isa::decode_panel_transposed`].
    unsafe fn decode_panel_transposed(
        w: &PackedMatrix,
        b: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    );

    /// See [`Isa::decode_codes`].
    unsafe fn decode_codes(w: &PackedMatrix, tile: usize, to: &mut [Line]);
}

/// What an instruction set computes.
///
/// # Safety
/// All functions: the machine has the set, and sizes are as [`Isa`]'s method of the same name asserts. An output
/// `c` is as [`Isa::multiply_panel`] demands.
pub(super) trait Operations: Decode {
    /// Up to this many rows, a panel of halves is widened in registers, each time that it is read. For more rows,
    /// or if there is no number, a widened copy is faster.
    const MOST_HALF_ROWS: Option<usize>;

    /// Rounds 32 activations to int8.
    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock);

    /// See [`Isa::multiply_panel`].
    unsafe fn multiply_panel<P: Value>(
        a: Left<'_>,
        panel: &[P],
        c: Output,
        width: usize,
        accumulate: bool,
    );

    /// See [`Isa::multiply_fused`].
    unsafe fn multiply_fused(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output);

    /// From so many rows on, a tile's codes that are stored in several pieces are decoded to bytes once for all
    /// ([`Isa::decode_codes`]) rather than once for each group of rows; `None` if that is never faster.
    const DECODED_ROWS: Option<usize>;

    /// See [`Isa::multiply_int8`]; decoded codes come only where [`Self::DECODED_ROWS`] is a number.
    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output);
}

/// Runs a body with a type alias for the [`Operations`] of a set. Since an [`Isa`] is always one that the
/// machine has, that condition of theirs is met.
macro_rules! on_set {
    ($isa:expr, $set:ident => $body:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => {
                type $set = Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => {
                type $set = Avx2;
                $body
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod | Isa::Neon => {
                type $set = Neon;
                $body
            }
            Isa::Portable => {
                type $set = Portable;
                $body
            }
        }
    };
}

impl Isa {
    /// Rounds 32 activations to int8.
    pub(in crate::kernels) fn quantize_block(self, values: &[f32; BLOCK], to: &mut ActBlock) {
        // SAFETY: the machine has the set.
        on_set!(self, Set => unsafe { Set::quantize_block(values, to) });
    }

    /// Decodes `count` blocks from block column `first` of tiles `2 pair`, `2 pair + 1` to
    /// `panel: [32 count, PANEL]`, one row per column of the matrix. If the second tile does not
    /// exist, its half of the panel is left as it is.
    pub(in crate::kernels) fn decode_panel(
        self,
        w: &PackedMatrix,
        pair: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        assert!(2 * pair < w.tiles && first + count <= w.blocks, "block outside the matrix");
        assert!(panel.len() >= count * BLOCK * PANEL, "panel too short");
        // SAFETY: the machine has the set; sizes were asserted.
        on_set!(self, Set => unsafe { Set::decode_panel(w, pair, first, count, panel) });
    }

    /// Decodes block column `b` of `count` tiles from `first` to `panel: [16 count, PANEL]`, one
    /// row per row of the matrix.
    pub(in crate::kernels) fn decode_panel_transposed(
        self,
        w: &PackedMatrix,
        b: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        assert!(first + count <= w.tiles && b < w.blocks, "tile outside the matrix");
        assert!(panel.len() >= count * TILE * PANEL, "panel too short");
        // SAFETY: the machine has the set; sizes were asserted.
        on_set!(self, Set => unsafe { Set::decode_panel_transposed(w, b, first, count, panel) });
    }

    /// `c[rows, width] (+)= a[rows, depth] · panel[depth, width]`, `width` at most [`PANEL`].
    ///
    /// # Safety
    /// `c` must hold `a.rows` rows and `width` columns, and nothing else may touch them meanwhile.
    pub(in crate::kernels) unsafe fn multiply_panel(
        self,
        a: Left<'_>,
        panel: &[f32],
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        assert!(width <= PANEL && panel.len() >= a.depth * PANEL, "panel too short");
        // SAFETY: the machine has the set; `c` is the caller's promise.
        on_set!(self, Set => unsafe { Set::multiply_panel(a, panel, c, width, accumulate) });
    }

    /// As [`Self::multiply_panel`] for a panel of finite values in half precision; `wide` is memory that it may
    /// use.
    ///
    /// # Safety
    /// As [`Self::multiply_panel`].
    pub(in crate::kernels) unsafe fn multiply_half_panel(
        self,
        a: Left<'_>,
        panel: &[u16],
        wide: &mut Floats,
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        assert!(width <= PANEL && panel.len() >= a.depth * PANEL, "panel too short");
        // SAFETY: the machine has the set; `c` is the caller's promise.
        on_set!(self, Set => unsafe {
            if Set::MOST_HALF_ROWS.is_some_and(|most| a.rows <= most) {
                Set::multiply_panel(a, panel, c, width, accumulate);
            } else {
                wide.resize(panel.len());
                widen(panel, wide);
                Set::multiply_panel::<f32>(a, wide, c, width, accumulate);
            }
        });
    }

    /// `c[rows, 16] = a · Wᵀ` for the rows of W in one tile, decoding in registers.
    ///
    /// # Safety
    /// As [`Self::multiply_panel`], with the width of the tile's rows that exist. `a.depth` must be
    /// a whole number of blocks, all of the row's.
    pub(in crate::kernels) unsafe fn multiply_fused(
        self,
        w: &PackedMatrix,
        tile: usize,
        a: Left<'_>,
        c: Output,
    ) {
        assert!(tile < w.tiles && a.depth == w.blocks * BLOCK, "tile outside the matrix");
        // SAFETY: the machine has the set; `c` is the caller's promise.
        on_set!(self, Set => unsafe { Set::multiply_fused(w, tile, a, c) });
    }

    /// Whether decoding a tile's codes before products with so many rows is faster than reading them as they are.
    pub(in crate::kernels) fn decodes_codes(self, w: &PackedMatrix, rows: usize) -> bool {
        let least = on_set!(self, Set => Set::DECODED_ROWS);
        w.codes.has_planes() && least.is_some_and(|least| rows >= least)
    }

    /// Decodes the codes of a tile of a quantized matrix to bytes, `[blocks][8 groups of columns]`.
    pub(in crate::kernels) fn decode_codes(self, w: &PackedMatrix, tile: usize, to: &mut [Line]) {
        assert!(tile < w.tiles && to.len() >= w.blocks * CODE_LINES, "tile outside the matrix");
        // SAFETY: the machine has the set; sizes were asserted.
        on_set!(self, Set => unsafe { Set::decode_codes(w, tile, to) });
    }

    /// `c[rows, 16] = group · Wᵀ` for the rows of W in one tile, in int8; `group: [blocks, rows]`. Decoded codes are
    /// for products that [`Self::decodes_codes`].
    ///
    /// # Safety
    /// As [`Self::multiply_fused`]. W must be quantized.
    pub(in crate::kernels) unsafe fn multiply_int8(
        self,
        w: CodeTile<'_>,
        group: &[ActBlock],
        c: Output,
    ) {
        let CodeTile { matrix, tile, decoded } = w;
        let blocks = matrix.blocks;
        assert!(
            tile < matrix.tiles && group.len().is_multiple_of(blocks),
            "tile outside the matrix"
        );
        assert!(decoded.is_none_or(|d| d.len() >= blocks * CODE_LINES), "codes of another matrix");
        // SAFETY: the machine has the set; `c` is the caller's promise.
        unsafe {
            match self {
                // These differ from the next best set in their int8 products alone.
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => avx2::multiply_int8_vnni(matrix, tile, group, c),
                #[cfg(target_arch = "aarch64")]
                Self::Dotprod => neon::multiply_int8_dotprod(w, group, c),
                _ => on_set!(self, Set => Set::multiply_int8(w, group, c)),
            }
        }
    }
}
