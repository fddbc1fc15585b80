//! Products of tiles in their registers.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::operands::{Both, Columns, Dense, Rows, Source};
use super::{ROWS, Tile, tiles_of};
use crate::kernels::isa::vector::with_reader;
use crate::kernels::isa::x86::avx512::mask;
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::packing::PackedMatrix;

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

    /// Computes `product` and makes the tiles of `next` in the meantime, since that occupies other units of the
    /// processor.
    ///
    /// # Safety
    /// `c` holds the rows and columns, which nothing else touches meanwhile; `next` is as [`Source`] demands.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn multiply(&self, product: &Product<'_>, next: &impl Source) {
        let Product { left, update, right, c, rows, width, accumulate } = *product;
        let groups = rows.div_ceil(ROWS);
        let sizes = [left.len() / groups, update.len() / groups];
        assert!(right.len() >= sizes[0] + sizes[1], "right operand too short");
        let (mut part, mut due) = (0, 0);
        for group in 0..groups {
            let first = group * ROWS;
            // After the last rows of these columns come the first of the next ones.
            let after = if group + 1 < groups { (first + ROWS) * c.stride } else { PANEL };
            // SAFETY: the caller's promises; each step has two tiles of both operands.
            unsafe {
                let rows = ROWS.min(rows - first);
                let sums = Sums { c: c.from(first, 0), rows, width, accumulate };
                let mut ahead = c.at.wrapping_add(after);
                self.begin(&sums);
                let (mut right, lefts) = (right.as_ptr(), [left.as_ptr(), update.as_ptr()]);
                for (left, size) in lefts.into_iter().zip(sizes) {
                    let mut left = left.add(group * size);
                    for _ in 0..size / 2 {
                        self.step(left, right, &mut ahead, c.stride);
                        (left, right) = (left.add(2), right.add(2));
                        due += 2;
                        while due >= groups && part < next.parts() {
                            next.decode(part);
                            (part, due) = (part + 1, due - groups);
                        }
                    }
                }
                self.end(&sums);
            }
        }
        for part in part..next.parts() {
            // SAFETY: the caller's promise.
            unsafe { next.decode(part) };
        }
    }

    /// Sets the registers to what a product is added to.
    ///
    /// # Safety
    /// As [`Self::multiply`].
    #[inline(always)]
    unsafe fn begin(&self, sums: &Sums) {
        if sums.accumulate && sums.are_whole() {
            // SAFETY: the caller's promise.
            unsafe { self.load(sums.c.at, size_of::<f32>() * sums.c.stride) };
        } else {
            self.clear();
        }
    }

    /// Writes the sums.
    ///
    /// # Safety
    /// As [`Self::multiply`].
    #[inline(always)]
    unsafe fn end(&self, sums: &Sums) {
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
    /// two rows at `ahead`, which moves on.
    ///
    /// # Safety
    /// Both operands have two tiles.
    #[inline(always)]
    unsafe fn step(
        &self,
        left: *const Tile,
        right: *const Tile,
        ahead: &mut *mut f32,
        stride: usize,
    ) {
        let (first, second) = (*ahead, ahead.wrapping_add(stride));
        *ahead = second.wrapping_add(stride);
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
                a = in(reg) left, b = in(reg) right, c = in(reg) first, d = in(reg) second,
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

/// A product of all rows with one right operand.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Product<'a> {
    /// The tiles of each group of [`ROWS`] rows.
    pub(in crate::kernels) left: &'a [Tile],
    /// Those of another left operand, whose product is added. May be empty.
    pub(in crate::kernels) update: &'a [Tile],
    /// As many tiles as a group of each has, one after the other.
    pub(in crate::kernels) right: &'a [Tile],
    pub(in crate::kernels) c: Output,
    pub(in crate::kernels) rows: usize,
    /// At most [`PANEL`].
    pub(in crate::kernels) width: usize,
    /// Whether it is added to what is there.
    pub(in crate::kernels) accumulate: bool,
}

/// What a right operand is made of.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Right<'a> {
    /// `count` block columns of the tiles `2 pair` and `2 pair + 1`, to be summed over columns.
    Rows { w: &'a PackedMatrix, pair: usize, first: usize, count: usize },
    /// A block column of `count` tiles, to be summed over rows.
    Columns { w: &'a PackedMatrix, block: usize, first: usize, count: usize },
    /// Rows of at most [`PANEL`] values, to be summed over rows.
    Dense(Left<'a>),
}

impl Right<'_> {
    /// Tiles that it takes.
    pub(in crate::kernels) fn tiles(&self) -> usize {
        match *self {
            Self::Rows { count, .. } => 2 * count,
            Self::Columns { count, .. } => count.next_multiple_of(2),
            Self::Dense(rows) => tiles_of(rows.rows),
        }
    }
}

impl Tiles {
    /// Computes `product`, if there is one, and makes the tiles of the next right operand, and behind them those of
    /// the one for its update.
    ///
    /// # Safety
    /// The product's `c` holds its rows and columns, which nothing else touches meanwhile; the weights exist.
    pub(in crate::kernels) unsafe fn multiply_and_decode(
        &self,
        product: Option<Product<'_>>,
        next: Right<'_>,
        update: Left<'_>,
        to: &mut [Tile],
    ) {
        let (to, behind) = to.split_at_mut(next.tiles());
        let update = Dense::new(update, behind);
        // SAFETY: the caller's promise; the reader is that of the matrix.
        unsafe {
            match next {
                Right::Rows { w, pair, first, count } => with_reader!(w, R => {
                    self.run(product, &Both(Rows::<R>::new(w, pair, (first, count), to), update));
                }),
                Right::Columns { w, block, first, count } => with_reader!(w, R => {
                    self.run(product, &Both(Columns::<R>::new(w, block, (first, count), to), update));
                }),
                Right::Dense(rows) => self.run(product, &Both(Dense::new(rows, to), update)),
            }
        }
    }

    /// # Safety
    /// As [`Self::multiply_and_decode`].
    unsafe fn run(&self, product: Option<Product<'_>>, next: &impl Source) {
        // SAFETY: the caller's promise; where there are `Tiles`, there are the instructions.
        unsafe {
            match product {
                Some(product) => self.multiply(&product, next),
                None => decode(next),
            }
        }
    }
}

/// # Safety
/// As [`Source`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn decode(source: &impl Source) {
    for part in 0..source.parts() {
        // SAFETY: the caller's promise.
        unsafe { source.decode(part) };
    }
}

/// Where the sums of the registers go.
struct Sums {
    c: Output,
    rows: usize,
    width: usize,
    accumulate: bool,
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
/// AVX-512; as [`Tiles::multiply`].
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
