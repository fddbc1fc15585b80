//! f32: products with panels, also with those that a tile is decoded to on the way.

use std::arch::aarch64::*;
use std::array::from_fn;
use std::marker::PhantomData;

use super::Neon;
use super::registers::LANES;
use crate::kernels::isa::operands::{Left, Output, PANEL, Value, row_groups};
use crate::kernels::isa::vector::readers::Reader;
use crate::kernels::isa::vector::{TileView, Vector, decode::Tile, with_reader};
use crate::kernels::packing::{BLOCK, PackedMatrix, TILE};

/// Blocks that [`multiply_fused`] decodes at once: 8 KB, a fraction of the smallest L1 cache.
const FUSED_BLOCKS: usize = 4;
/// Rows of the left operand that [`multiply_fused`] takes at once.
const FUSED_ROWS: usize = 16;

/// # Safety
/// As [`Operations::multiply_panel`](crate::kernels::isa::dispatch::Operations::multiply_panel).
pub(super) unsafe fn multiply_panel<V: Value>(
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
    for (first, rows) in row_groups(a.rows, ROWS) {
        // SAFETY: `Left` holds its rows; the rest is the caller's promise.
        unsafe {
            let at = a.values.as_ptr().add(first * a.stride);
            let c = c.from(first, 0);
            match rows {
                1 => multiply_rows::<V, 1, 4>(at, a, panel, c, width, accumulate),
                2 => multiply_rows::<V, 2, 2>(at, a, panel, c, width, accumulate),
                3 => multiply_rows::<V, 3, 1>(at, a, panel, c, width, accumulate),
                4 => multiply_rows::<V, 4, 1>(at, a, panel, c, width, accumulate),
                _ => multiply_rows::<V, 5, 1>(at, a, panel, c, width, accumulate),
            }
        }
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
            let ([a, b], [c, d]) = (V::load::<Neon>(p), V::load::<Neon>(p.add(2 * LANES)));
            [a, b, c, d]
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
/// As [`Operations::multiply_fused`](crate::kernels::isa::dispatch::Operations::multiply_fused).
pub(super) unsafe fn multiply_fused(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output) {
    let t = TileView::of(w, tile);
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(w, R => unsafe { fused::<R>(&t, a, c) });
}

/// # Safety
/// As [`multiply_fused`].
unsafe fn fused<R: Reader<Neon>>(t: &TileView, a: Left<'_>, c: Output) {
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
                Neon::run(Tile::<Neon, R, TILE> {
                    v: t.v,
                    block: t.block + from / BLOCK,
                    count: depth / BLOCK,
                    to: panel.as_mut_ptr(),
                    kind: PhantomData,
                });
                multiply(a, columns, c.from(first, 0), t.width, from > 0);
            }
        }
    }
}
