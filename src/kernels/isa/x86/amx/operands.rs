//! Operands of tile products: rounds what is to be multiplied to bf16, in the order in which tiles are read.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{DEPTH, ROWS, TILE, Tile, tiles_of};
use crate::kernels::isa::vector::readers::Reader;
use crate::kernels::isa::vector::{Vector, View, eight_times};
use crate::kernels::isa::x86::avx512::{Avx512, mask};
use crate::kernels::isa::x86::prefetch;
use crate::kernels::isa::{Left, PANEL};
use crate::kernels::packing::PackedMatrix;

/// Values of a row of a tile.
const ROW: usize = 32;

/// Rounds the first `depth` values of up to [`ROWS`] rows: `[depth / 32][2][16][32]`.
/// Missing rows and columns become zero.
///
/// # Safety
/// [`super::available`]; `to` has [`tiles_of`] tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::kernels) unsafe fn pack_left(a: Left<'_>, to: &mut [Tile]) {
    debug_assert!(to.len() >= tiles_of(a.depth) && a.rows <= ROWS);
    for step in 0..a.depth.div_ceil(DEPTH) {
        let from = step * DEPTH;
        let left = a.depth - from;
        let masks = [mask(left), mask(left.saturating_sub(16))];
        for r in 0..ROWS {
            // SAFETY: masked lanes are not read; others are values of a row that exists. A row of a
            // tile has 32 places.
            unsafe {
                let row = if r < a.rows {
                    let at = a.values.as_ptr().add(r * a.stride + from);
                    let first = _mm512_maskz_loadu_ps(masks[0], at);
                    in_turn(first, _mm512_maskz_loadu_ps(masks[1], at.wrapping_add(16)))
                } else {
                    _mm512_setzero_si512()
                };
                let at = to.as_mut_ptr().cast::<u16>().add(step * 2 * TILE + r * ROW);
                _mm512_store_si512(at.cast(), row);
            }
        }
    }
}

/// A right operand that is about to be made.
///
/// # Safety
/// [`super::available`]; the weights and the place for them exist.
pub(super) trait Source {
    /// How often [`Self::make`] calls `tick`.
    fn ticks(&self) -> usize;

    /// Decodes and rounds everything. After some dozen instructions each time, it calls `tick`, which can let other
    /// units of the processor work: those for tiles run dry if more than some 150 instructions lie between theirs.
    unsafe fn make(&self, tick: impl FnMut());
}

/// Blocks of two neighboring tiles of the weights: `[block][2][16 pairs of columns][16 rows][2]`.
pub(super) struct Rows<R> {
    v: View,
    /// The first block of each tile. If the second one does not exist, it is the same twice.
    blocks: [usize; 2],
    count: usize,
    to: *mut u16,
    kind: PhantomData<R>,
}

impl<R> Rows<R> {
    /// `count` blocks from block column `first` on of the tiles `2 pair` and `2 pair + 1`.
    pub(super) fn new(
        w: &PackedMatrix,
        pair: usize,
        (first, count): (usize, usize),
        to: &mut [Tile],
    ) -> Self {
        assert!(to.len() >= 2 * count, "too few tiles");
        let tiles = [2 * pair, (2 * pair + 1).min(w.tiles - 1)];
        let blocks = tiles.map(|tile| tile * w.blocks + first);
        Self { v: View::of(w), blocks, count, to: to.as_mut_ptr().cast(), kind: PhantomData }
    }
}

impl<R: Reader<Avx512>> Source for Rows<R> {
    fn ticks(&self) -> usize {
        8 * self.count
    }

    #[inline(always)]
    unsafe fn make(&self, mut tick: impl FnMut()) {
        for part in 0..2 * self.count {
            // SAFETY: the caller's promise.
            unsafe {
                let block = self.blocks[part % 2] + part / 2;
                prefetch::<Avx512, R>(&self.v, block);
                let scales = R::scales(&self.v, block);
                let to = self.to.add(part * TILE);
                eight_times!(g => {
                    let [a, b, c, d] = R::weights(&self.v, block, g, &scales);
                    _mm512_store_si512(to.add(2 * g * ROW).cast(), pairs(a, b));
                    _mm512_store_si512(to.add((2 * g + 1) * ROW).cast(), pairs(c, d));
                    if g % 2 == 1 {
                        tick();
                    }
                });
            }
        }
    }
}

/// A block column of several tiles of the weights: `[tile / 2][2][16 pairs of rows][16 columns][2]`, filled up with
/// zeros.
pub(super) struct Columns<R> {
    v: View,
    block: usize,
    /// Blocks of a tile.
    step: usize,
    count: usize,
    to: *mut u16,
    kind: PhantomData<R>,
}

impl<R> Columns<R> {
    /// Block column `b` of `count` tiles from `first` on.
    pub(super) fn new(
        w: &PackedMatrix,
        b: usize,
        (first, count): (usize, usize),
        to: &mut [Tile],
    ) -> Self {
        assert!(to.len() >= count.next_multiple_of(2), "too few tiles");
        let (v, step, to) = (View::of(w), w.blocks, to.as_mut_ptr().cast());
        Self { v, block: first * step + b, step, count, to, kind: PhantomData }
    }

    /// The 8 rows of two tiles that hold a part, a tile of the weights.
    fn half_tiles(&self, part: usize) -> *mut u16 {
        self.to.wrapping_add(part / 2 * 2 * TILE + part % 2 * 8 * ROW)
    }
}

impl<R: Reader<Avx512>> Source for Columns<R> {
    fn ticks(&self) -> usize {
        8 * self.count
    }

    #[inline(always)]
    unsafe fn make(&self, mut tick: impl FnMut()) {
        for part in 0..self.count {
            // SAFETY: the caller's promise.
            unsafe {
                let block = self.block + part * self.step;
                let scales = R::scales(&self.v, block);
                let to = self.half_tiles(part);
                let mut columns = [Avx512::zero(); 16];
                eight_times!(g => {
                    let at = 4 * g % 16;
                    columns[at..at + 4].copy_from_slice(&R::weights(&self.v, block, g, &scales));
                    tick();
                    if at == 12 {
                        for (r, row) in turned(&columns).into_iter().enumerate() {
                            _mm512_store_si512(to.add(g / 4 * TILE + r * ROW).cast(), row);
                        }
                    }
                });
            }
        }
        if !self.count.is_multiple_of(2) {
            // SAFETY: the caller's promise.
            unsafe {
                let rest = self.half_tiles(self.count);
                rest.write_bytes(0, 8 * ROW);
                rest.add(TILE).write_bytes(0, 8 * ROW);
            }
        }
    }
}

/// Rows of f32 values: `[row / 32][2][16 pairs of rows][16 values][2]`, filled up with zeros.
pub(super) struct Dense<'a> {
    from: Left<'a>,
    to: *mut u16,
}

impl<'a> Dense<'a> {
    /// `from` has at most [`PANEL`] values in a row.
    pub(super) fn new(from: Left<'a>, to: &mut [Tile]) -> Self {
        assert!(from.depth <= PANEL && to.len() >= tiles_of(from.rows), "too few tiles");
        Self { from, to: to.as_mut_ptr().cast() }
    }
}

impl Source for Dense<'_> {
    fn ticks(&self) -> usize {
        2 * tiles_of(self.from.rows)
    }

    #[inline(always)]
    unsafe fn make(&self, mut tick: impl FnMut()) {
        let Left { values, stride, rows, depth } = self.from;
        for tile in 0..tiles_of(rows) {
            let (first, half) = (tile / 2 * DEPTH, tile % 2 * 16);
            let mask = mask(depth.saturating_sub(half));
            // SAFETY: masked lanes are not read; others are values of a row that exists. A row of a tile has 32
            // places.
            unsafe {
                let row = |k: usize| match k < rows {
                    true => {
                        let at = values.as_ptr().add(k * stride).wrapping_add(half);
                        _mm512_maskz_loadu_ps(mask, at)
                    }
                    false => _mm512_setzero_ps(),
                };
                let to = self.to.add(tile * TILE);
                for pair in 0..DEPTH / 2 {
                    let k = first + 2 * pair;
                    _mm512_store_si512(to.add(pair * ROW).cast(), pairs(row(k), row(k + 1)));
                    if pair % 8 == 7 {
                        tick();
                    }
                }
            }
        }
    }
}

/// One right operand behind another.
pub(super) struct Both<A, B>(pub(super) A, pub(super) B);

impl<A: Source, B: Source> Source for Both<A, B> {
    fn ticks(&self) -> usize {
        self.0.ticks() + self.1.ticks()
    }

    #[inline(always)]
    unsafe fn make(&self, mut tick: impl FnMut()) {
        // SAFETY: the caller's promise.
        unsafe {
            self.0.make(&mut tick);
            self.1.make(tick);
        }
    }
}

/// To the nearest bf16, ties to even: the values of one register, then those of the other.
#[inline(always)]
unsafe fn in_turn(first: __m512, second: __m512) -> __m512i {
    // SAFETY: the caller has the instruction; both types are 512 bits of plain data.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
}

/// To the nearest bf16, ties to even: 16 pairs of values, one of each register.
#[inline(always)]
unsafe fn pairs(first: __m512, second: __m512) -> __m512i {
    const PAIRS: [u16; 32] = {
        let mut places = [0; 32];
        let mut i = 0;
        while i < 16 {
            (places[2 * i], places[2 * i + 1]) = (i as u16, 16 + i as u16);
            i += 1;
        }
        places
    };
    // SAFETY: the caller has the instructions; the table has 64 bytes.
    unsafe {
        let places = _mm512_loadu_si512(PAIRS.as_ptr().cast());
        _mm512_permutexvar_epi16(places, in_turn(first, second))
    }
}

/// The transpose of 16 columns of 16 values, rounded: 8 rows of 16 pairs, each of a column's values `2 r` and
/// `2 r + 1`.
#[inline(always)]
unsafe fn turned(columns: &[__m512; 16]) -> [__m512i; 8] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let zero = _mm512_setzero_si512();
        // Pairs as lanes: those of column c in the lower, those of column c + 8 in the upper half.
        let mut x = [zero; 8];
        for (c, x) in x.iter_mut().enumerate() {
            *x = in_turn(columns[c], columns[c + 8]);
        }
        // Within 128-bit lanes: two, then four columns of each pair.
        let mut fours = [zero; 8];
        for q in 0..2 {
            let [a, b, c, d] = [x[4 * q], x[4 * q + 1], x[4 * q + 2], x[4 * q + 3]];
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            // fours[4 q + i]: pair i in even, pair 4 + i in odd 128-bit lanes, of columns 4 q .. 4 q + 4.
            fours[4 * q] = _mm512_unpacklo_epi64(ab_low, cd_low);
            fours[4 * q + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
            fours[4 * q + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
            fours[4 * q + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
        }
        let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
        let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
        let mut rows = [zero; 8];
        for i in 0..4 {
            rows[i] = _mm512_permutex2var_epi64(fours[i], even, fours[4 + i]);
            rows[4 + i] = _mm512_permutex2var_epi64(fours[i], odd, fours[4 + i]);
        }
        rows
    }
}
