//! The tile registers: four for sums, and four for two tiles of each operand.

#![expect(clippy::unused_self, reason = "the registers are ready while a `Tiles` lives")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::{ROWS, Tile};
use crate::kernels::isa::x86::avx512::mask;
use crate::kernels::isa::{Output, PANEL};

/// The shape of all eight tile registers: 16 rows of 64 bytes.
#[repr(C, align(64))]
pub(in crate::kernels) struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

pub(in crate::kernels) static CONFIG: Config = {
    let mut config =
        Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut i = 0;
    while i < 8 {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
        i += 1;
    }
    config
};

/// Tile registers of this thread, configured until the value is dropped.
pub(in crate::kernels) struct Tiles(());

impl Tiles {
    /// # Safety
    /// [`super::available`].
    pub(in crate::kernels) unsafe fn configure() -> Self {
        // SAFETY: the caller's promise; the configuration is one that the processor accepts.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self(())
    }

    /// Sets the sums to what a product is added to.
    ///
    /// # Safety
    /// As [`Self::end`].
    #[inline(always)]
    pub(super) unsafe fn begin(&self, sums: &Sums) {
        if sums.accumulate && sums.are_whole() {
            // SAFETY: the caller's promise.
            unsafe { self.load(sums.c.at, size_of::<f32>() * sums.c.stride) };
        } else {
            self.clear();
        }
    }

    /// Writes the sums, or adds them where [`Self::begin`] did not.
    ///
    /// # Safety
    /// `sums.c` holds the rows and columns, which nothing else touches meanwhile.
    #[inline(always)]
    pub(super) unsafe fn end(&self, sums: &Sums) {
        // SAFETY: the caller's promise.
        unsafe {
            if sums.are_whole() {
                self.store(sums.c.at, size_of::<f32>() * sums.c.stride);
            } else {
                let mut whole = MaybeUninit::<Whole>::uninit();
                self.store(whole.as_mut_ptr().cast(), size_of::<[f32; PANEL]>());
                // All four tiles have been stored.
                write(whole.assume_init_ref(), sums);
            }
        }
    }

    /// Sets the sums to zero.
    #[inline(always)]
    fn clear(&self) {
        // SAFETY: the registers are configured; no Rust code keeps anything in them.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nomem, nostack)
            );
        }
    }

    /// Sets the sums to a matrix whose rows are `stride` bytes apart.
    ///
    /// # Safety
    /// It has [`ROWS`] rows and [`PANEL`] columns.
    #[inline(always)]
    unsafe fn load(&self, c: *const f32, stride: usize) {
        // SAFETY: the caller's promise; as in `clear`.
        unsafe {
            asm!("tileloadd tmm0, [{c} + {s}*1]", "tileloadd tmm1, [{c} + {s}*1 + 64]",
                 "tileloadd tmm2, [{d} + {s}*1]", "tileloadd tmm3, [{d} + {s}*1 + 64]",
                 c = in(reg) c, d = in(reg) c.byte_add(16 * stride), s = in(reg) stride,
                 options(nostack, readonly));
        }
    }

    /// Writes the sums.
    ///
    /// # Safety
    /// As [`Self::load`].
    #[inline(always)]
    unsafe fn store(&self, c: *mut f32, stride: usize) {
        // SAFETY: the caller's promise; as in `clear`.
        unsafe {
            asm!("tilestored [{c} + {s}*1], tmm0", "tilestored [{c} + {s}*1 + 64], tmm1",
                 "tilestored [{d} + {s}*1], tmm2", "tilestored [{d} + {s}*1 + 64], tmm3",
                 c = in(reg) c, d = in(reg) c.byte_add(16 * stride), s = in(reg) stride,
                 options(nostack));
        }
    }

    /// Adds the products of two tiles of the left operand with two of the right one. Meanwhile, asks for the lines of
    /// two rows at `ahead`.
    ///
    /// # Safety
    /// Both operands have two tiles.
    #[inline(always)]
    pub(super) unsafe fn step(&self, [left, right]: [*const Tile; 2], ahead: [*const f32; 2]) {
        // SAFETY: the caller's promise; a hint may name any address; as in `clear`. The left operand is read past the
        // first cache, which holds the right one.
        unsafe {
            asm!(
                "tileloaddt1 tmm4, [{a} + {s}*1]", "tileloadd tmm6, [{b} + {s}*1]",
                "prefetchw [{c}]", "prefetchw [{c} + 64]",
                "tileloadd tmm7, [{b} + {s}*1 + 1024]", "tileloaddt1 tmm5, [{a} + {s}*1 + 1024]",
                "prefetchw [{d}]", "prefetchw [{d} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                a = in(reg) left, b = in(reg) right, c = in(reg) ahead[0], d = in(reg) ahead[1],
                s = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only where the instruction does, which resets the registers.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Where the sums of the registers go.
pub(super) struct Sums {
    pub(super) c: Output,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) accumulate: bool,
}

impl Sums {
    /// Whether all rows and columns exist.
    fn are_whole(&self) -> bool {
        self.rows == ROWS && self.width == PANEL
    }
}

/// `[ROWS][PANEL]`
#[repr(C, align(64))]
struct Whole([f32; ROWS * PANEL]);

/// The rows and columns that exist.
///
/// # Safety
/// AVX-512; as [`Tiles::end`].
#[target_feature(enable = "avx512f")]
unsafe fn write(whole: &Whole, sums: &Sums) {
    let Sums { c, rows, width, accumulate } = *sums;
    let masks = [mask(width), mask(width.saturating_sub(16))];
    for (r, row) in whole.0.chunks_exact(PANEL).enumerate().take(rows) {
        for (h, mask) in masks.into_iter().enumerate() {
            // SAFETY: masked lanes are not touched; the others are the caller's.
            unsafe {
                let at = c.at.add(r * c.stride).wrapping_add(16 * h);
                let mut sum = _mm512_loadu_ps(row.as_ptr().add(16 * h));
                if accumulate {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, at));
                }
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}
