//! Decodes packed weights to panels of f32, or their codes to bytes.

use std::marker::PhantomData;

use super::readers::{CodeReader, Reader};
use super::{Task, TileView, Vector, View, eight_times, with_reader};
use crate::kernels::isa::PANEL;
use crate::kernels::isa::dispatch::Decode;
use crate::kernels::memory::Line;
use crate::kernels::packing::{BLOCK, CODE_LINES, LINE, PackedMatrix, TILE};

impl<V: Vector> Decode for V {
    unsafe fn decode_panel(
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
            with_reader!(w, R => unsafe {
                V::run(Tile::<V, R, PANEL> { v, block, count, to, kind: PhantomData });
            });
        }
    }

    unsafe fn decode_panel_transposed(
        w: &PackedMatrix,
        b: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        let (v, step) = (View::of(w), w.blocks);
        let (block, to) = (first * step + b, panel.as_mut_ptr());
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(w, R => unsafe {
            V::run(Column::<V, R> { v, block, step, count, to, kind: PhantomData });
        });
    }

    unsafe fn decode_codes(w: &PackedMatrix, tile: usize, to: &mut [Line]) {
        let (t, to) = (TileView::of(w, tile), to.as_mut_ptr().cast());
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(quantized w, R => unsafe {
            V::run(CodeBytes::<V, R> { t, to, kind: PhantomData });
        });
    }
}

/// Writes the codes of a tile as bytes, as [`Decoded`](super::readers::Decoded) reads them.
struct CodeBytes<V, R> {
    t: TileView,
    to: *mut u8,
    kind: PhantomData<(V, R)>,
}

impl<V: Vector, R: CodeReader<V>> Task for CodeBytes<V, R> {
    #[inline(always)]
    unsafe fn work(self) {
        for b in 0..self.t.blocks {
            for first in (0..TILE).step_by(V::LANES) {
                // SAFETY: the caller's promise.
                unsafe {
                    let v = self.t.v.rows_from::<V, R>(first);
                    let to = self.to.add(b * CODE_LINES * LINE + first * (LINE / TILE));
                    eight_times!(g => {
                        let codes = R::codes(&v, self.t.block + b, g);
                        V::store_line(to.add(g * LINE), codes);
                    });
                }
            }
        }
    }
}

/// Writes `count` blocks from `block` on to rows of 16 floats, `STRIDE` apart: `to` has `32 count` of them.
pub(in crate::kernels::isa) struct Tile<V, R, const STRIDE: usize> {
    pub(in crate::kernels::isa) v: View,
    pub(in crate::kernels::isa) block: usize,
    pub(in crate::kernels::isa) count: usize,
    pub(in crate::kernels::isa) to: *mut f32,
    pub(in crate::kernels::isa) kind: PhantomData<(V, R)>,
}

impl<V: Vector, R: Reader<V>, const STRIDE: usize> Task for Tile<V, R, STRIDE> {
    #[inline(always)]
    unsafe fn work(self) {
        for i in 0..self.count {
            for first in (0..TILE).step_by(V::LANES) {
                // SAFETY: the caller's promise.
                unsafe {
                    let (v, block) = (self.v.rows_from::<V, R>(first), self.block + i);
                    let scales = R::scales(&v, block);
                    let to = self.to.add(i * BLOCK * STRIDE + first);
                    eight_times!(g => {
                        let weights = R::weights(&v, block, g, &scales);
                        for (j, w) in weights.into_iter().enumerate() {
                            V::store(to.add((4 * g + j) * STRIDE), w);
                        }
                    });
                }
            }
        }
    }
}

/// Writes `count` blocks, `step` apart, each as 16 rows of [`PANEL`] floats: `to` has `16 count` of them.
struct Column<V, R> {
    v: View,
    block: usize,
    step: usize,
    count: usize,
    to: *mut f32,
    kind: PhantomData<(V, R)>,
}

impl<V: Vector, R: Reader<V>> Task for Column<V, R> {
    #[inline(always)]
    unsafe fn work(self) {
        for i in 0..self.count {
            for first in (0..TILE).step_by(V::LANES) {
                // SAFETY: the caller's promise.
                unsafe {
                    let (v, block) = (self.v.rows_from::<V, R>(first), self.block + i * self.step);
                    let scales = R::scales(&v, block);
                    let to = self.to.add((i * TILE + first) * PANEL);
                    let mut columns = [V::zero(); 16];
                    eight_times!(g => {
                        let at = 4 * g % V::SQUARE;
                        columns[at..at + 4].copy_from_slice(&R::weights(&v, block, g, &scales));
                        if at + 4 == V::SQUARE {
                            V::store_transposed(&columns, to.add(4 * g - at), PANEL);
                        }
                    });
                }
            }
        }
    }
}
