//! f32: decoding weights to panels, products with panels.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::readers::{PART, Reader};
use crate::kernels::isa::{Left, Output, PANEL};
use crate::kernels::layout::{BLOCK, PackedMatrix, TILE};
use crate::kernels::view::{View, eight_times, with_reader};

/// Floats of a register.
const LANES: usize = 4;
/// Blocks that [`multiply_fused`] decodes at once: 8 KB, a fraction of the smallest L1 cache.
const FUSED_BLOCKS: usize = 4;
/// Rows of the left operand that [`multiply_fused`] takes at once.
const FUSED_ROWS: usize = 16;

/// # Safety
/// Blocks and panel as [`super::super::isa::Isa`] asserts.
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
        with_reader!(w, R => unsafe { decode_tile::<R>(&v, block, count, to, PANEL) });
    }
}

/// Writes `count` blocks from `block` on to rows of 16 floats, `stride` apart.
///
/// # Safety
/// As [`Reader`]; `to` has `32 count` rows.
unsafe fn decode_tile<R: Reader>(
    v: &View,
    block: usize,
    count: usize,
    to: *mut f32,
    stride: usize,
) {
    for i in 0..count {
        for part in 0..2 {
            // SAFETY: the caller's promise.
            unsafe {
                let scales = R::scales(v, block + i, part);
                let to = to.add(i * BLOCK * stride + part * PART);
                eight_times!(g => {
                    let weights = R::weights(v, block + i, part, g, &scales);
                    for (j, [low, high]) in weights.into_iter().enumerate() {
                        let to = to.add((4 * g + j) * stride);
                        vst1q_f32(to, low);
                        vst1q_f32(to.add(LANES), high);
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
    let v = View::of(w);
    let (block, to) = (first * w.blocks + b, panel.as_mut_ptr());
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { decode_column::<R>(&v, block, w.blocks, count, to) });
}

/// Writes `count` blocks, `step` apart, each as 16 rows of [`PANEL`] floats.
///
/// # Safety
/// As [`Reader`]; `to` has `16 count` rows.
unsafe fn decode_column<R: Reader>(
    v: &View,
    block: usize,
    step: usize,
    count: usize,
    to: *mut f32,
) {
    for i in 0..count {
        for part in 0..2 {
            // SAFETY: the caller's promise.
            unsafe {
                let block = block + i * step;
                let scales = R::scales(v, block, part);
                let to = to.add((i * TILE + part * PART) * PANEL);
                eight_times!(g => {
                    let weights = R::weights(v, block, part, g, &scales);
                    for quad in 0..2 {
                        let rows = transpose(weights.map(|column| column[quad]));
                        for (r, row) in rows.into_iter().enumerate() {
                            vst1q_f32(to.add((quad * LANES + r) * PANEL + 4 * g), row);
                        }
                    }
                });
            }
        }
    }
}

/// The transpose of a 4 x 4 matrix of rows.
#[inline(always)]
fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let pairs = |x, y| [vtrn1q_f32(x, y), vtrn2q_f32(x, y)].map(|p| vreinterpretq_f64_f32(p));
        let ([ab_even, ab_odd], [cd_even, cd_odd]) = (pairs(a, b), pairs(c, d));
        [
            vtrn1q_f64(ab_even, cd_even),
            vtrn1q_f64(ab_odd, cd_odd),
            vtrn2q_f64(ab_even, cd_even),
            vtrn2q_f64(ab_odd, cd_odd),
        ]
        .map(|row| vreinterpretq_f32_f64(row))
    }
}

/// What a panel holds.
pub(in crate::kernels) trait Value: Copy {
    /// 4 values as f32.
    ///
    /// # Safety
    /// The values exist.
    unsafe fn load(at: *const Self) -> float32x4_t;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(at) }
    }
}

/// IEEE 754 half precision. The intrinsic that widens it is unstable.
impl Value for u16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> float32x4_t {
        let wide;
        // SAFETY: the caller's promise; the instruction belongs to NEON and reads a register.
        unsafe {
            asm!("fcvtl {wide:v}.4s, {half:v}.4h", half = in(vreg) vld1_u16(at), wide = lateout(vreg) wide, options(pure, nomem, nostack, preserves_flags));
        }
        wide
    }
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_panel`] or its twin for halves.
pub(in crate::kernels) unsafe fn multiply_panel<V: Value>(
    a: Left<'_>,
    panel: &[V],
    c: Output,
    width: usize,
    accumulate: bool,
) {
    for from in (0..width).step_by(TILE) {
        let width = TILE.min(width - from);
        // SAFETY: `c` is the caller's promise; the panel is as deep as the rows of `a`.
        unsafe {
            let at = panel.as_ptr().add(from);
            multiply(a, Columns { at, stride: PANEL }, c.from(0, from), width, accumulate);
        }
    }
}

/// 16 columns of a panel, with the distance between its rows.
#[derive(Clone, Copy)]
struct Columns<V> {
    at: *const V,
    stride: usize,
}

/// `c[rows, width] (+)= a · panel`.
///
/// # Safety
/// The panel has a row for each column of `a`; `c` has the rows of `a` and `width` columns, at most
/// 16.
unsafe fn multiply<V: Value>(
    a: Left<'_>,
    panel: Columns<V>,
    c: Output,
    width: usize,
    accumulate: bool,
) {
    /// Rows at once: with four registers each, 20 of 32 are sums. More leave too few for the rest.
    const ROWS: usize = 5;
    let mut r = 0;
    while r < a.rows {
        // Equal parts, rather than full ones and a small rest.
        let parts = (a.rows - r).div_ceil(ROWS);
        let rows = (a.rows - r).div_ceil(parts);
        // SAFETY: `Left` holds its rows; the rest is the caller's promise.
        unsafe {
            let at = a.values.as_ptr().add(r * a.stride);
            let c = c.from(r, 0);
            match rows {
                1 => multiply_rows::<V, 1, 4>(at, a, panel, c, width, accumulate),
                2 => multiply_rows::<V, 2, 2>(at, a, panel, c, width, accumulate),
                3 => multiply_rows::<V, 3, 1>(at, a, panel, c, width, accumulate),
                4 => multiply_rows::<V, 4, 1>(at, a, panel, c, width, accumulate),
                _ => multiply_rows::<V, 5, 1>(at, a, panel, c, width, accumulate),
            }
        }
        r += rows;
    }
}

/// `M` rows of `a` from `at` on times 16 columns of a panel; `U` sums per value (1, 2 or 4) hide the
/// latency of additions when `M` is small.
///
/// # Safety
/// As [`multiply`].
unsafe fn multiply_rows<V: Value, const M: usize, const U: usize>(
    at: *const f32,
    a: Left<'_>,
    panel: Columns<V>,
    c: Output,
    width: usize,
    accumulate: bool,
) {
    // SAFETY: `k` stays below the depth of both operands, `r` below the rows of `a` and `c`.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); 4]; M]; U];
        let row_of_panel = |k: usize| -> [float32x4_t; 4] {
            let p = panel.at.add(k * panel.stride);
            from_fn(|i| V::load(p.add(i * LANES)))
        };
        let mut k = 0;
        while k + 4 <= a.depth {
            let x: [_; M] = from_fn(|r| vld1q_f32(at.add(r * a.stride + k)));
            macro_rules! column {
                ($lane:literal) => {
                    let p = row_of_panel(k + $lane);
                    for (x, sums) in x.iter().zip(&mut sums[$lane % U]) {
                        for (sum, p) in sums.iter_mut().zip(p) {
                            *sum = vfmaq_laneq_f32::<$lane>(*sum, p, *x);
                        }
                    }
                };
            }
            column!(0);
            column!(1);
            column!(2);
            column!(3);
            k += 4;
        }
        while k < a.depth {
            let p = row_of_panel(k);
            for (r, sums) in sums[0].iter_mut().enumerate() {
                let x = *at.add(r * a.stride + k);
                for (sum, p) in sums.iter_mut().zip(p) {
                    *sum = vfmaq_n_f32(*sum, p, x);
                }
            }
            k += 1;
        }
        for r in 0..M {
            let mut row = sums[0][r];
            for part in &sums[1..] {
                row = from_fn(|i| vaddq_f32(row[i], part[r][i]));
            }
            store(row, c.at.add(r * c.stride), width, accumulate);
        }
    }
}

/// Writes or adds the first `width` values.
///
/// # Safety
/// `to` has `width` values, at most 16.
#[inline(always)]
pub(super) unsafe fn store(row: [float32x4_t; 4], to: *mut f32, width: usize, accumulate: bool) {
    // SAFETY: `all` has 16 values, `to` has `width`.
    unsafe {
        if width < TILE {
            let mut all = [0.0; TILE];
            for (i, v) in row.into_iter().enumerate() {
                vst1q_f32(all[i * LANES..].as_mut_ptr(), v);
            }
            let to = std::slice::from_raw_parts_mut(to, width);
            for (to, v) in to.iter_mut().zip(all) {
                *to = if accumulate { *to + v } else { v };
            }
            return;
        }
        for (i, mut v) in row.into_iter().enumerate() {
            let to = to.add(i * LANES);
            if accumulate {
                v = vaddq_f32(vld1q_f32(to), v);
            }
            vst1q_f32(to, v);
        }
    }
}

/// A tile is decoded a few blocks at a time to a panel that stays in the L1 cache. There are too few
/// registers to decode into them without doing it again every few rows.
///
/// # Safety
/// As [`super::super::isa::Isa::multiply_fused`].
pub(in crate::kernels) unsafe fn multiply_fused(
    w: &PackedMatrix,
    tile: usize,
    a: Left<'_>,
    c: Output,
) {
    let v = View::of(w);
    let width = TILE.min(w.rows - tile * TILE);
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { fused::<R>(&v, tile * w.blocks, a, c, width) });
}

/// # Safety
/// As [`multiply_fused`]; the tile's blocks start at `block`.
unsafe fn fused<R: Reader>(v: &View, block: usize, a: Left<'_>, c: Output, width: usize) {
    let mut panel = [0.0; FUSED_BLOCKS * BLOCK * TILE];
    let columns = Columns { at: panel.as_ptr(), stride: TILE };
    for first in (0..a.rows).step_by(FUSED_ROWS) {
        let rows = FUSED_ROWS.min(a.rows - first);
        for from in (0..a.depth).step_by(FUSED_BLOCKS * BLOCK) {
            let depth = (FUSED_BLOCKS * BLOCK).min(a.depth - from);
            let values = &a.values[first * a.stride + from..];
            let a = Left::new(values, a.stride, rows, depth);
            // SAFETY: the panel has `depth` rows of 16; `c` is the caller's promise.
            unsafe {
                decode_tile::<R>(v, block + from / BLOCK, depth / BLOCK, panel.as_mut_ptr(), TILE);
                multiply(a, columns, c.from(first, 0), width, from > 0);
            }
        }
    }
}
