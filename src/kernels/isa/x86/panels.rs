//! f32: products with panels, and products that decode weights in registers.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{X86, prefetch};
use crate::kernels::isa::operands::{Left, Output, PANEL, Value, row_groups};
use crate::kernels::isa::vector::readers::Reader;
use crate::kernels::isa::vector::{Task, TileView, eight_times, with_reader};
use crate::kernels::packing::{BLOCK, PackedMatrix};

/// # Safety
/// As [`Operations::multiply_panel`](crate::kernels::isa::Operations::multiply_panel).
pub(super) unsafe fn multiply_panel<X: X86, P: Value>(
    a: Left<'_>,
    panel: &[P],
    c: Output,
    width: usize,
    accumulate: bool,
) {
    for from in (0..width).step_by(2 * X::LANES) {
        for (first, rows) in row_groups(a.rows, X::ROWS) {
            // SAFETY: `Left` holds its rows; the panel is as deep as they are; `c` is the caller's.
            unsafe {
                let job = PanelRows {
                    a: a.values.as_ptr().add(first * a.stride),
                    stride: a.stride,
                    depth: a.depth,
                    panel: panel.as_ptr().add(from),
                    c: c.from(first, from),
                    width: width - from,
                    accumulate,
                };
                X::multiply_rows(rows, job);
            }
        }
    }
}

/// Rows of a left operand times two registers of columns of a panel.
pub(super) struct PanelRows<P> {
    a: *const f32,
    stride: usize,
    depth: usize,
    panel: *const P,
    c: Output,
    /// Columns that are written; may be more than there are.
    width: usize,
    accumulate: bool,
}

impl<P> PanelRows<P> {
    /// `M` rows, with `U` sums per value.
    ///
    /// # Safety
    /// As [`multiply_panel`].
    #[inline(always)]
    pub(super) unsafe fn multiply<X: X86, const M: usize, const U: usize>(self)
    where
        P: Value,
    {
        // SAFETY: the caller's promise.
        unsafe { X::run(MultiplyRows::<X, P, M, U>(self, PhantomData)) };
    }
}

struct MultiplyRows<X, P, const M: usize, const U: usize>(PanelRows<P>, PhantomData<X>);

impl<X: X86, P: Value, const M: usize, const U: usize> MultiplyRows<X, P, M, U> {
    /// Adds the products of the panel's row `k`.
    ///
    /// # Safety
    /// As [`multiply_panel`]; `k` is below the depth.
    #[inline(always)]
    unsafe fn step(&self, k: usize, sums: &mut [[X::Floats; 2]; M]) {
        let Self(PanelRows { a, stride, panel, .. }, _) = *self;
        // SAFETY: the caller's promise; a hint may name any address.
        unsafe {
            let p = panel.add(k * PANEL);
            if X::PANEL_AHEAD > 0 {
                // Panels follow one another in memory.
                let ahead = p.wrapping_add(X::PANEL_AHEAD);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(X::LANES).cast());
            }
            let p = [P::load::<X>(p), P::load::<X>(p.add(X::LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = X::splat(*a.add(r * stride + k));
                sums[0] = X::multiply_add(x, p[0], sums[0]);
                sums[1] = X::multiply_add(x, p[1], sums[1]);
            }
        }
    }
}

impl<X: X86, P: Value, const M: usize, const U: usize> Task for MultiplyRows<X, P, M, U> {
    #[inline(always)]
    unsafe fn work(self) {
        let Self(PanelRows { depth, c, width, accumulate, .. }, _) = self;
        // SAFETY: `k` stays below the depth of both operands, `r` below the rows of `a` and `c`, and columns
        // beyond the width are not touched in memory.
        unsafe {
            let mut sums = [[[X::zero(); 2]; M]; U];
            let mut k = 0;
            while k + U <= depth {
                for (u, sums) in sums.iter_mut().enumerate() {
                    self.step(k + u, sums);
                }
                k += U;
            }
            while k < depth {
                self.step(k, &mut sums[0]);
                k += 1;
            }
            for r in 0..M {
                for h in 0..2 {
                    let mut sum = sums[0][r][h];
                    for part in &sums[1..] {
                        sum = X::add(sum, part[r][h]);
                    }
                    let width = width.saturating_sub(h * X::LANES);
                    let at = c.at.wrapping_add(r * c.stride + h * X::LANES);
                    if accumulate {
                        sum = X::add(sum, X::load_first(at, width));
                    }
                    X::store_first(at, width, sum);
                }
            }
        }
    }
}

/// # Safety
/// As [`Operations::multiply_fused`](crate::kernels::isa::Operations::multiply_fused).
pub(super) unsafe fn multiply_fused<X: X86>(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output) {
    let t = TileView::of(w, tile);
    for first in (0..t.width).step_by(X::LANES) {
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(w, R => unsafe {
            multiply_fused_rows::<X, R>(t.rows_from::<X, R>(first), a, c.from(0, first));
        });
    }
}

/// # Safety
/// As [`multiply_fused`].
unsafe fn multiply_fused_rows<X: X86, R: Reader<X>>(t: TileView, a: Left<'_>, c: Output) {
    let mut r = 0;
    while r < a.rows {
        // SAFETY: `Left` holds its rows; `c` is the caller's.
        unsafe {
            let (at, c) = (a.values.as_ptr().add(r * a.stride), c.from(r, 0));
            r += match a.rows - r {
                8.. => Fused::<X, R, 8, 1>::run(t, at, a.stride, c),
                4.. => Fused::<X, R, 4, 2>::run(t, at, a.stride, c),
                2.. => Fused::<X, R, 2, 4>::run(t, at, a.stride, c),
                _ => Fused::<X, R, 1, 4>::run(t, at, a.stride, c),
            };
        }
    }
}

/// `M` rows of a fused product, with `U` sums per value (at most 4, the columns that a reader gives at once).
struct Fused<X, R, const M: usize, const U: usize> {
    t: TileView,
    a: *const f32,
    stride: usize,
    c: Output,
    kind: PhantomData<(X, R)>,
}

impl<X: X86, R: Reader<X>, const M: usize, const U: usize> Fused<X, R, M, U> {
    /// Returns `M`.
    ///
    /// # Safety
    /// As [`multiply_fused`].
    #[inline(always)]
    unsafe fn run(t: TileView, a: *const f32, stride: usize, c: Output) -> usize {
        // SAFETY: the caller's promise.
        unsafe { X::run(Self { t, a, stride, c, kind: PhantomData }) };
        M
    }
}

impl<X: X86, R: Reader<X>, const M: usize, const U: usize> Task for Fused<X, R, M, U> {
    #[inline(always)]
    unsafe fn work(self) {
        let Self { t, a, stride, c, .. } = self;
        // SAFETY: `b` is a block of the tile, and `a` has 32 columns for each; `c` has M rows and `width` columns.
        unsafe {
            let mut sums = [[X::zero(); U]; M];
            for b in 0..t.blocks {
                let a = a.add(b * BLOCK);
                let block = t.block + b;
                prefetch::<X, R>(&t.v, block);
                let scales = R::scales(&t.v, block);
                eight_times!(g => {
                    let weights = R::weights(&t.v, block, g, &scales);
                    for (j, w) in weights.into_iter().enumerate() {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = X::splat(*a.add(r * stride + 4 * g + j));
                            sums[j % U] = X::multiply_add(x, w, sums[j % U]);
                        }
                    }
                });
            }
            for (r, sums) in sums.iter().enumerate() {
                let mut sum = sums[0];
                for part in &sums[1..] {
                    sum = X::add(sum, *part);
                }
                X::store_first(c.at.add(r * c.stride), t.width, sum);
            }
        }
    }
}
