//! f32: decoding weights to panels, products with panels, products that decode in registers.

use std::arch::x86_64::*;

use super::readers::{Reader, halves};
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::layout::{BLOCK, PackedMatrix, TILE};
use crate::kernels::view::{View, eight_times, with_reader};

/// The lanes of a register that hold the first `width` columns from column `from` on.
pub(super) fn mask(width: usize, from: usize) -> __mmask16 {
    match width.saturating_sub(from) {
        0 => 0,
        n if n >= 16 => !0,
        n => (1 << n) - 1,
    }
}

/// # Safety
/// AVX-512 as in [`super::available`]; blocks and panel as [`super::super::isa::Isa`] asserts.
pub(in crate::kernels) unsafe fn decode_panel(
    w: &PackedMatrix,
    pair: usize,
    first: usize,
    count: usize,
    panel: &mut [f32],
) {
    let v = View::of(w);
    for side in 0..2.min(w.tiles - 2 * pair) {
        let block = (2 * pair + side) * w.blocks + first;
        let to = panel[side * TILE..].as_mut_ptr();
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(w, R => unsafe { decode_tile::<R>(&v, block, count, to) });
    }
}

/// Writes `count` blocks from `block` on to rows of [`PANEL`] floats.
///
/// # Safety
/// As [`Reader`]; `to` has `32 count` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn decode_tile<R: Reader>(v: &View, block: usize, count: usize, to: *mut f32) {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe {
            let scales = R::scales(v, block + i);
            let to = to.add(i * BLOCK * PANEL);
            eight_times!(g => {
                let weights = R::weights(v, block + i, g, &scales);
                for (j, w) in weights.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * g + j) * PANEL), w);
                }
            });
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
    let v = View::of(w);
    let (block, to) = (first * w.blocks + b, panel.as_mut_ptr());
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { decode_column::<R>(&v, block, w.blocks, count, to) });
}

/// Writes `count` blocks, `step` apart, each as 16 rows of [`PANEL`] floats.
///
/// # Safety
/// As [`Reader`]; `to` has `16 count` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn decode_column<R: Reader>(
    v: &View,
    block: usize,
    step: usize,
    count: usize,
    to: *mut f32,
) {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe {
            let block = block + i * step;
            let scales = R::scales(v, block);
            let to = to.add(i * TILE * PANEL);
            let mut columns = [_mm512_setzero_ps(); BLOCK];
            eight_times!(g => {
                columns[4 * g..4 * g + 4].copy_from_slice(&R::weights(v, block, g, &scales));
            });
            let (halves, _) = columns.as_chunks::<16>();
            for (h, half) in halves.iter().enumerate() {
                for (r, row) in transpose(half).into_iter().enumerate() {
                    _mm512_storeu_ps(to.add(r * PANEL + 16 * h), row);
                }
            }
        }
    }
}

/// The transpose of a 16 x 16 matrix of rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512; 16]) -> [__m512; 16] {
    // Within 128-bit lanes: pairs, then quadruples of rows.
    let mut quads = [_mm512_setzero_ps(); 16];
    for q in 0..4 {
        let [a, b, c, d] = [rows[4 * q], rows[4 * q + 1], rows[4 * q + 2], rows[4 * q + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let low =
            |x, y| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        let high =
            |x, y| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        // quads[4 i + q]: column 4 l + i of rows 4 q .. 4 q + 4 in 128-bit lane l.
        quads[q] = low(ab_low, cd_low);
        quads[4 + q] = high(ab_low, cd_low);
        quads[8 + q] = low(ab_high, cd_high);
        quads[12 + q] = high(ab_high, cd_high);
    }
    // Then gather the 128-bit lanes.
    let mut out = [_mm512_setzero_ps(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [quads[4 * i], quads[4 * i + 1], quads[4 * i + 2], quads[4 * i + 3]];
        let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
        let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
        out[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        out[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        out[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
        out[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}

/// What a panel holds.
pub(in crate::kernels) trait Value: Copy {
    /// 16 values as f32.
    ///
    /// # Safety
    /// AVX-512; the values exist.
    unsafe fn load(at: *const Self) -> __m512;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }
}

/// IEEE 754 half precision.
impl Value for u16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { halves(at.cast()) }
    }
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_panel`] or its twin for halves, with AVX-512.
pub(in crate::kernels) unsafe fn multiply_panel<V: Value>(
    a: Left<'_>,
    panel: &[V],
    c: Output,
    width: usize,
    accumulate: bool,
) {
    /// Rows at once: with two registers each, 24 of 32 are sums.
    const ROWS: usize = 12;
    let masks = [mask(width, 0), mask(width, 16)];
    let mut r = 0;
    while r < a.rows {
        // Equal parts, rather than full ones and a small rest.
        let parts = (a.rows - r).div_ceil(ROWS);
        let rows = (a.rows - r).div_ceil(parts);
        // SAFETY: `Left` holds its rows; the panel is as deep as they are; `c` is the caller's.
        unsafe {
            let at = a.values.as_ptr().add(r * a.stride);
            let (p, c) = (panel.as_ptr(), c.from(r, 0));
            match rows {
                1 => multiply_rows::<V, 1, 4>(at, a.stride, a.depth, p, c, masks, accumulate),
                2 => multiply_rows::<V, 2, 4>(at, a.stride, a.depth, p, c, masks, accumulate),
                3 => multiply_rows::<V, 3, 2>(at, a.stride, a.depth, p, c, masks, accumulate),
                4 => multiply_rows::<V, 4, 2>(at, a.stride, a.depth, p, c, masks, accumulate),
                5 => multiply_rows::<V, 5, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                6 => multiply_rows::<V, 6, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                7 => multiply_rows::<V, 7, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                8 => multiply_rows::<V, 8, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                9 => multiply_rows::<V, 9, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                10 => multiply_rows::<V, 10, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                11 => multiply_rows::<V, 11, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
                _ => multiply_rows::<V, 12, 1>(at, a.stride, a.depth, p, c, masks, accumulate),
            }
        }
        r += rows;
    }
}

/// Values by which reading a panel runs ahead of computing: 4 KB of f32.
const AHEAD: usize = 1024;

/// `M` rows times a panel; `U` sums per value hide the latency of additions when `M` is small.
///
/// # Safety
/// As [`multiply_panel`].
#[target_feature(enable = "avx512f")]
unsafe fn multiply_rows<V: Value, const M: usize, const U: usize>(
    a: *const f32,
    stride: usize,
    depth: usize,
    panel: *const V,
    c: Output,
    masks: [__mmask16; 2],
    accumulate: bool,
) {
    let mut sums = [[[_mm512_setzero_ps(); 2]; M]; U];
    // SAFETY: `k` stays below the depth of both operands, `r` below the rows of `a` and `c`, and
    // masked lanes are not touched in memory.
    unsafe {
        let step = |k: usize, sums: &mut [[__m512; 2]; M]| {
            // Hints, which may name any address: panels follow one another in memory.
            let ahead = panel.wrapping_add(k * PANEL + AHEAD);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
            let p = [V::load(panel.add(k * PANEL)), V::load(panel.add(k * PANEL + 16))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * stride + k));
                sums[0] = _mm512_fmadd_ps(x, p[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(x, p[1], sums[1]);
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
                    sum = _mm512_add_ps(sum, part[r][h]);
                }
                let at = c.at.add(r * c.stride + 16 * h);
                if accumulate {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(masks[h], at));
                }
                _mm512_mask_storeu_ps(at, masks[h], sum);
            }
        }
    }
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_fused`], with AVX-512.
pub(in crate::kernels) unsafe fn multiply_fused(
    w: &PackedMatrix,
    tile: usize,
    a: Left<'_>,
    c: Output,
) {
    let job = Fused {
        v: View::of(w),
        block: tile * w.blocks,
        blocks: w.blocks,
        stride: a.stride,
        mask: mask(w.rows - tile * TILE, 0),
    };
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { job.all_rows::<R>(a, c) });
}

/// The part of a fused product that is the same for all rows of the left operand.
struct Fused {
    v: View,
    /// The tile's first block.
    block: usize,
    blocks: usize,
    /// Of the left operand.
    stride: usize,
    mask: __mmask16,
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn rows<R: Reader, const M: usize, const U: usize>(
        &self,
        a: *const f32,
        c: Output,
    ) -> usize {
        let mut sums = [[_mm512_setzero_ps(); U]; M];
        for b in 0..self.blocks {
            // SAFETY: `b` is a block of the tile, and `a` has 32 columns for each.
            unsafe {
                let a = a.add(b * BLOCK);
                let block = self.block + b;
                R::prefetch(&self.v, block);
                let scales = R::scales(&self.v, block);
                eight_times!(g => {
                    let weights = R::weights(&self.v, block, g, &scales);
                    for (j, w) in weights.into_iter().enumerate() {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = _mm512_set1_ps(*a.add(r * self.stride + 4 * g + j));
                            sums[j % U] = _mm512_fmadd_ps(x, w, sums[j % U]);
                        }
                    }
                });
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let mut sum = sums[0];
            for part in &sums[1..] {
                sum = _mm512_add_ps(sum, *part);
            }
            // SAFETY: `c` has M rows and the columns of the mask.
            unsafe { _mm512_mask_storeu_ps(c.at.add(r * c.stride), self.mask, sum) };
        }
        M
    }
}
