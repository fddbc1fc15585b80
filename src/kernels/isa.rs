//! The instruction sets: which one runs, and the few operations that each must have.
//!
//! Everything above this file is the same for all of them. To add a set, write its file, name it in
//! [`Isa::ALL`] and add an arm to every `match` here.

use std::sync::OnceLock;

use super::activations::ActBlock;
use super::elementwise::widen;
use super::error::KernelError;
use super::floats::Floats;
use super::layout::{BLOCK, PackedMatrix};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};

/// The environment variable that names the set to use instead of the best one.
const CHOICE: &str = "LATROD_ISA";

/// Columns of a panel: two tiles, or one block.
pub(super) const PANEL: usize = 32;

/// A way to compute, always one that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// As [`Self::Avx512`], with AMX's tiles of bf16 for many rows.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON, with int8 products as this processor can.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Dots),
    /// AVX2, FMA and F16C with AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
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
    /// Every set of this family of processors, the best first.
    pub(super) const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Amx,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "aarch64")]
        Self::Neon(neon::Dots::Dotprod),
        #[cfg(target_arch = "aarch64")]
        Self::Neon(neon::Dots::Widening),
        Self::Portable,
    ];

    /// As in the environment variable [`CHOICE`].
    pub(super) const fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon::Dots::Dotprod) => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon::Dots::Widening) => "neon",
            Self::Portable => "portable",
        }
    }

    /// Whether this machine has it.
    fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx2::vnni_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(dots) => neon::Dots::available().any(|d| d == dots),
            Self::Portable => true,
        }
    }

    /// Every set of this machine, the best first.
    pub(super) fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|isa| isa.available())
    }

    /// The set of that name, or the best for an empty one.
    fn named(name: &str) -> Result<Self, KernelError> {
        Self::all_available().find(|isa| name.is_empty() || isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all_available().map(Self::name).collect();
            KernelError::NoSuchIsa { asked: name.to_owned(), available: names.join(", ") }
        })
    }

    /// The set that the environment variable [`CHOICE`] names, or the best of this machine. The
    /// variable is read once.
    pub(super) fn chosen() -> Result<Self, KernelError> {
        static CHOSEN: OnceLock<Result<Isa, KernelError>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| {
                let name = std::env::var_os(CHOICE).unwrap_or_default();
                Self::named(&name.to_string_lossy())
            })
            .clone()
    }

    /// As [`Self::chosen`], for those who hold a matrix: it could not have been packed otherwise.
    pub(super) fn detect() -> Self {
        Self::chosen().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether [`Self::multiply_fused`] and [`Self::multiply_int8`] gain over panels.
    pub(super) fn has_fused(self) -> bool {
        self != Self::Portable
    }

    /// Whether products of so many rows run on bf16 tiles (`amx`).
    pub(super) fn multiplies_tiles(self, rows: usize) -> bool {
        /// The fewest rows that are worth decoding a panel for.
        const FEWEST_ROWS: usize = 32;
        rows >= FEWEST_ROWS && self.name() == "amx"
    }

    /// Rounds 32 activations to int8.
    pub(super) fn quantize_block(self, values: &[f32; BLOCK], to: &mut ActBlock) {
        match self {
            // SAFETY: a set exists only where `available` said yes.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe { avx512::quantize_block(values, to) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => neon::quantize_block(values, to),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe { avx2::quantize_block(values, to) },
            Self::Portable => portable::quantize_block(values, to),
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
            // SAFETY: a set exists only where `available` said yes; sizes asserted.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe {
                avx512::decode_panel(w, pair, first, count, panel);
            },
            // SAFETY: sizes asserted.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => unsafe { neon::decode_panel(w, pair, first, count, panel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe {
                avx2::decode_panel(w, pair, first, count, panel);
            },
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
            // SAFETY: a set exists only where `available` said yes; sizes asserted.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe {
                avx512::decode_panel_transposed(w, b, first, count, panel);
            },
            // SAFETY: sizes asserted.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => unsafe { neon::decode_panel_transposed(w, b, first, count, panel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe {
                avx2::decode_panel_transposed(w, b, first, count, panel);
            },
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
            // SAFETY: a set exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe {
                avx512::multiply_panel(a, panel, c, width, accumulate);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe {
                avx2::multiply_panel(a, panel, c, width, accumulate);
            },
            // SAFETY: the caller's promise.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => unsafe { neon::multiply_panel(a, panel, c, width, accumulate) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe {
                portable::multiply_panel(a, panel, c, width, accumulate);
            },
        }
    }

    /// As [`Self::multiply_panel`] for a panel of finite values in half precision; `wide` is memory.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn multiply_half_panel(
        self,
        a: Left<'_>,
        panel: &[u16],
        wide: &mut Floats,
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        // Each pass over the panel, of 12 or 5 rows, widens it once more. AVX2 gained nothing.
        assert!(width <= PANEL && panel.len() >= a.depth * PANEL, "panel too short");
        match self {
            // SAFETY: a set exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 if a.rows <= 24 => unsafe {
                avx512::multiply_panel(a, panel, c, width, accumulate);
            },
            // SAFETY: the caller's promise.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) if a.rows <= 15 => unsafe {
                neon::multiply_panel(a, panel, c, width, accumulate);
            },
            _ => {
                wide.resize(panel.len());
                widen(panel, wide);
                // SAFETY: the caller's promise.
                unsafe { self.multiply_panel(a, wide, c, width, accumulate) };
            }
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
            // SAFETY: a set exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe { avx512::multiply_fused(w, tile, a, c) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe { avx2::multiply_fused(w, tile, a, c) },
            // SAFETY: the caller's promise.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => unsafe { neon::multiply_fused(w, tile, a, c) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe { portable::multiply_fused(w, tile, a, c) },
        }
    }

    /// `c[rows, 16] = group · Wᵀ` for the rows of W in one tile, in int8; `group: [blocks, rows]`.
    ///
    /// # Safety
    /// As [`Self::multiply_fused`]. W must be quantized.
    pub(super) unsafe fn multiply_int8(
        self,
        w: &PackedMatrix,
        tile: usize,
        group: &[ActBlock],
        c: Output,
    ) {
        assert!(tile < w.tiles && group.len().is_multiple_of(w.blocks), "tile outside the matrix");
        match self {
            // SAFETY: a set exists only where `available` said yes; `c` is the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512 => unsafe { avx512::multiply_int8(w, tile, group, c) },
            // SAFETY: `dots` is what the machine has; `c` is the caller's promise.
            #[cfg(target_arch = "aarch64")]
            Self::Neon(dots) => unsafe { neon::multiply_int8(dots, w, tile, group, c) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => unsafe { avx2::multiply_int8_vnni(w, tile, group, c) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::multiply_int8(w, tile, group, c) },
            // SAFETY: the caller's promise.
            Self::Portable => unsafe { portable::multiply_int8(w, tile, group, c) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_chosen_by_its_name() {
        for isa in Isa::all_available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        assert_eq!(Isa::named("").ok(), Isa::all_available().next());
    }

    #[test]
    fn a_set_that_is_not_there_is_an_error_that_names_those_that_are() {
        let error = Isa::named("avx9000").unwrap_err().to_string();
        assert!(error.contains("avx9000") && error.contains("portable"), "{error}");
    }
}
