//! f32: decoding weights to panels, products with panels, products that decode in registers.

use std::arch::x86_64::*;

use super::LANES;
use super::readers::{Reader, View};
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::layout::{BLOCK, PackedMatrix, TILE};
use crate::kernels::view::{eight_times, with_reader};

/// The lanes of a register that hold the first `width` columns.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn mask(width: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let width = _mm256_set1_epi32(width.min(LANES) as i32);
        _mm256_cmpgt_epi32(width, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }
}

/// Writes the first `width` lanes; all if it is 8 or more.
///
/// # Safety
/// AVX2; `at` has that many values.
#[inline(always)]
pub(super) unsafe fn store(at: *mut f32, width: usize, values: __m256) {
    // SAFETY: the caller's promise.
    unsafe {
        if width >= LANES {
            _mm256_storeu_ps(at, values);
        } else {
            _mm256_maskstore_ps(at, mask(width), values);
        }
    }
}

/// # Safety
/// AVX2, FMA and F16C; blocks and panel as [`super::super::isa::Isa`] asserts.
pub(in crate::kernels) unsafe fn decode_panel(
    w: &PackedMatrix,
    pair: usize,
    first: usize,
    count: usize,
    panel: &mut [f32],
) {
    let views = [View::of(w, 0), View::of(w, LANES)];
    for side in 0..2.min(w.tiles - 2 * pair) {
        let block = (2 * pair + side) * w.blocks + first;
        let to = panel[side * TILE..].as_mut_ptr();
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(w, R => unsafe { decode_tile::<R>(&views, block, count, to) });
    }
}

/// Writes `count` blocks from `block` on to rows of [`PANEL`] floats.
///
/// # Safety
/// As [`Reader`]; `to` has `32 count` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn decode_tile<R: Reader>(views: &[View; 2], block: usize, count: usize, to: *mut f32) {
    for i in 0..count {
        for (h, v) in views.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let scales = R::scales(v, block + i);
                let to = to.add(i * BLOCK * PANEL + h * LANES);
                eight_times!(g => {
                    let weights = R::weights(v, block + i, g, &scales);
                    for (j, w) in weights.into_iter().enumerate() {
                        _mm256_storeu_ps(to.add((4 * g + j) * PANEL), w);
                    }
                });
            }
        }
    }
}

/// # Safety
/// As [`decode_panel`].
pub(in crate::kernels) unsafe fn decode_panel_transposed(
    w: &PackedMatrix,
    b: usize,
    first: usize,
    count: usize,
    panel: &mut [f32],
) {
    let views = [View::of(w, 0), View::of(w, LANES)];
    let (block, to) = (first * w.blocks + b, panel.as_mut_ptr());
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { decode_column::<R>(&views, block, w.blocks, count, to) });
}

/// Writes `count` blocks, `step` apart, each as 16 rows of [`PANEL`] floats.
///
/// # Safety
/// As [`Reader`]; `to` has `16 count` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn decode_column<R: Reader>(
    views: &[View; 2],
    block: usize,
    step: usize,
    count: usize,
    to: *mut f32,
) {
    for i in 0..count {
        for (h, v) in views.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let block = block + i * step;
                let scales = R::scales(v, block);
                let to = to.add((i * TILE + h * LANES) * PANEL);
                let mut columns = [_mm256_setzero_ps(); LANES];
                eight_times!(g => {
                    let half = 4 * (g % 2);
                    columns[half..half + 4].copy_from_slice(&R::weights(v, block, g, &scales));
                    if half != 0 {
                        for (r, row) in transpose(&columns).into_iter().enumerate() {
                            _mm256_storeu_ps(to.add(r * PANEL + 4 * (g - 1)), row);
                        }
                    }
                });
            }
        }
    }
}

/// The transpose of an 8 x 8 matrix of rows.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: &[__m256; 8]) -> [__m256; 8] {
    // Within 128-bit lanes: pairs, then quadruples of rows.
    let mut quads = [_mm256_setzero_ps(); 8];
    for q in 0..2 {
        let [a, b, c, d] = [rows[4 * q], rows[4 * q + 1], rows[4 * q + 2], rows[4 * q + 3]];
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        // quads[2 i + q]: column 4 l + i of rows 4 q .. 4 q + 4 in 128-bit lane l.
        quads[q] = _mm256_shuffle_ps::<0b0100_0100>(ab_low, cd_low);
        quads[2 + q] = _mm256_shuffle_ps::<0b1110_1110>(ab_low, cd_low);
        quads[4 + q] = _mm256_shuffle_ps::<0b0100_0100>(ab_high, cd_high);
        quads[6 + q] = _mm256_shuffle_ps::<0b1110_1110>(ab_high, cd_high);
    }
    // Then gather the 128-bit lanes.
    let mut out = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        out[i] = _mm256_permute2f128_ps::<0x20>(quads[2 * i], quads[2 * i + 1]);
        out[4 + i] = _mm256_permute2f128_ps::<0x31>(quads[2 * i], quads[2 * i + 1]);
    }
    out
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_panel`], with AVX2 and FMA.
pub(in crate::kernels) unsafe fn multiply_panel(
    a: Left<'_>,
    panel: &[f32],
    c: Output,
    width: usize,
    accumulate: bool,
) {
    /// Rows at once: with two registers each, 12 of 16 are sums.
    const ROWS: usize = 6;
    for from in (0..width).step_by(2 * LANES) {
        let width = width - from;
        let mut r = 0;
        while r < a.rows {
            // Equal parts, rather than full ones and a small rest.
            let parts = (a.rows - r).div_ceil(ROWS);
            let rows = (a.rows - r).div_ceil(parts);
            // SAFETY: `Left` holds its rows; the panel is as deep as they are; `c` is the caller's.
            unsafe {
                let at = a.values.as_ptr().add(r * a.stride);
                let (p, c) = (panel.as_ptr().add(from), c.from(r, from));
                match rows {
                    1 => multiply_rows::<1, 4>(at, a.stride, a.depth, p, c, width, accumulate),
                    2 => multiply_rows::<2, 2>(at, a.stride, a.depth, p, c, width, accumulate),
                    3 => multiply_rows::<3, 2>(at, a.stride, a.depth, p, c, width, accumulate),
                    4 => multiply_rows::<4, 1>(at, a.stride, a.depth, p, c, width, accumulate),
                    5 => multiply_rows::<5, 1>(at, a.stride, a.depth, p, c, width, accumulate),
                    _ => multiply_rows::<6, 1>(at, a.stride, a.depth, p, c, width, accumulate),
                }
            }
            r += rows;
        }
    }
}

/// `M` rows times 16 columns of a panel, of which `width` are written; `U` sums per value hide the
/// latency of additions when `M` is small.
///
/// # Safety
/// As [`multiply_panel`].
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_rows<const M: usize, const U: usize>(
    a: *const f32,
    stride: usize,
    depth: usize,
    panel: *const f32,
    c: Output,
    width: usize,
    accumulate: bool,
) {
    let mut sums = [[[_mm256_setzero_ps(); 2]; M]; U];
    // SAFETY: `k` stays below the depth of both operands, `r` below the rows of `a` and `c`, and
    // columns beyond the width are not touched in memory.
    unsafe {
        let step = |k: usize, sums: &mut [[__m256; 2]; M]| {
            let p = [
                _mm256_loadu_ps(panel.add(k * PANEL)),
                _mm256_loadu_ps(panel.add(k * PANEL + LANES)),
            ];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*a.add(r * stride + k));
                sums[0] = _mm256_fmadd_ps(x, p[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(x, p[1], sums[1]);
            }
        };
        let mut k = 0;
        while k + U <= depth {
            for (u, sums) in sums.iter_mut().enumerate() {
                step(k + u, sums);
            }
            k += U;
        }
        while k < depth {
            step(k, &mut sums[0]);
            k += 1;
        }
        for r in 0..M {
            for h in 0..2 {
                let mut sum = sums[0][r][h];
                for part in &sums[1..] {
                    sum = _mm256_add_ps(sum, part[r][h]);
                }
                let width = width.saturating_sub(h * LANES);
                let at = c.at.wrapping_add(r * c.stride + h * LANES);
                if accumulate {
                    sum = _mm256_add_ps(sum, _mm256_maskload_ps(at, mask(width)));
                }
                store(at, width, sum);
            }
        }
    }
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_fused`], with AVX2, FMA and F16C.
pub(in crate::kernels) unsafe fn multiply_fused(
    w: &PackedMatrix,
    tile: usize,
    a: Left<'_>,
    c: Output,
) {
    let width = TILE.min(w.rows - tile * TILE);
    for first in (0..width).step_by(LANES) {
        let job = Fused {
            v: View::of(w, first),
            block: tile * w.blocks,
            blocks: w.blocks,
            stride: a.stride,
            width: width - first,
        };
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(w, R => unsafe { job.all_rows::<R>(a, c.from(0, first)) });
    }
}

/// The part of a fused product that is the same for all rows of the left operand.
struct Fused {
    v: View,
    /// The tile's first block.
    block: usize,
    blocks: usize,
    /// Of the left operand.
    stride: usize,
    /// Columns of the output that exist.
    width: usize,
}

impl Fused {
    /// # Safety
    /// As [`multiply_fused`].
    unsafe fn all_rows<R: Reader>(&self, a: Left<'_>, c: Output) {
        let mut r = 0;
        while r < a.rows {
            // SAFETY: `Left` holds its rows; `c` is the caller's.
            unsafe {
                let at = a.values.as_ptr().add(r * a.stride);
                let c = c.from(r, 0);
                r += match a.rows - r {
                    8.. => self.rows::<R, 8, 1>(at, c),
                    4.. => self.rows::<R, 4, 2>(at, c),
                    2.. => self.rows::<R, 2, 4>(at, c),
                    _ => self.rows::<R, 1, 4>(at, c),
                };
            }
        }
    }

    /// `M` rows, with `U` sums per value (at most 4, the columns that a reader gives at once).
    /// Returns `M`.
    ///
    /// # Safety
    /// As [`multiply_fused`].
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn rows<R: Reader, const M: usize, const U: usize>(
        &self,
        a: *const f32,
        c: Output,
    ) -> usize {
        let mut sums = [[_mm256_setzero_ps(); U]; M];
        for b in 0..self.blocks {
            // SAFETY: `b` is a block of the tile, and `a` has 32 columns for each.
            unsafe {
                let a = a.add(b * BLOCK);
                let block = self.block + b;
                let scales = R::scales(&self.v, block);
                eight_times!(g => {
                    let weights = R::weights(&self.v, block, g, &scales);
                    for (j, w) in weights.into_iter().enumerate() {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = _mm256_set1_ps(*a.add(r * self.stride + 4 * g + j));
                            sums[j % U] = _mm256_fmadd_ps(x, w, sums[j % U]);
                        }
                    }
                });
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let mut sum = sums[0];
            for part in &sums[1..] {
                sum = _mm256_add_ps(sum, *part);
            }
            // SAFETY: `c` has M rows and `width` columns.
            unsafe { store(c.at.add(r * c.stride), self.width, sum) };
        }
        M
    }
}
