//! int8: activations rounded to 8 bits, products with `vpdpbusd` (unsigned code x signed value).

use std::arch::x86_64::*;

use super::panels::mask;
use super::readers::{Affine, CodeReader};
use crate::kernels::activations::{ActBlock, TINY};
use crate::kernels::isa::Output;
use crate::kernels::layout::{BLOCK, PackedMatrix, TILE};
use crate::kernels::view::{View, eight_times, with_reader};

/// As [`super::super::portable::quantize_block`], to the bit for finite values.
///
/// # Safety
/// AVX-512 as in [`super::available`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(in crate::kernels) unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
    // SAFETY: both arrays have 32 items.
    let x = unsafe { [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16))] };
    // The largest absolute value by its bits, so that NaN counts as larger than anything.
    let bits = x.map(|x| _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fff_ffff)));
    let max = f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(bits[0], bits[1])));
    if max <= TINY {
        *to = ActBlock::ZERO;
        return;
    }
    let inverse = _mm512_set1_ps(127.0 / max);
    let q = x.map(|x| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))));
    // Sums of four, then of the four sums in each half.
    let sums = q.map(|q| {
        let fours = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), q);
        let twos = _mm_add_epi32(fours, _mm_shuffle_epi32::<0b0100_1110>(fours));
        let one = _mm_add_epi32(twos, _mm_shuffle_epi32::<0b1011_0001>(twos));
        _mm_cvtsi128_si32(one)
    });
    // SAFETY: `to.q` has 32 bytes.
    unsafe {
        _mm_storeu_si128(to.q.as_mut_ptr().cast(), q[0]);
        _mm_storeu_si128(to.q.as_mut_ptr().add(16).cast(), q[1]);
    }
    to.d = max / 127.0;
    to.sums = sums.map(|s| to.d * s as f32);
    to.sum = to.d * (sums[0] + sums[1]) as f32;
}

/// # Safety
/// As [`super::super::isa::Isa::multiply_int8`], with AVX-512.
pub(in crate::kernels) unsafe fn multiply_int8(
    w: &PackedMatrix,
    tile: usize,
    group: &[ActBlock],
    c: Output,
) {
    let job = Int8 {
        v: View::of(w),
        block: tile * w.blocks,
        blocks: w.blocks,
        group_rows: group.len() / w.blocks,
        mask: mask(w.rows - tile * TILE, 0),
    };
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(quantized w, R => unsafe { job.all_rows::<R>(group.as_ptr(), c) });
}

/// The part of a product that is the same for all rows of the group.
struct Int8 {
    v: View,
    /// The tile's first block.
    block: usize,
    blocks: usize,
    /// Rows of the group, the distance between its blocks.
    group_rows: usize,
    mask: __mmask16,
}

impl Int8 {
    /// # Safety
    /// As [`multiply_int8`].
    unsafe fn all_rows<R: CodeReader>(&self, group: *const ActBlock, c: Output) {
        let mut r = 0;
        while r < self.group_rows {
            // SAFETY: row `r` of the group and of `c` exist.
            unsafe {
                let group = group.add(r);
                let c = c.from(r, 0);
                r += match self.group_rows - r {
                    8.. => self.rows::<R, 8>(group, c),
                    4.. => self.rows::<R, 4>(group, c),
                    2.. => self.rows::<R, 2>(group, c),
                    _ => self.rows::<R, 1>(group, c),
                };
            }
        }
    }

    /// `M` rows. Returns `M`.
    ///
    /// # Safety
    /// As [`multiply_int8`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn rows<R: CodeReader, const M: usize>(
        &self,
        group: *const ActBlock,
        c: Output,
    ) -> usize {
        let mut sums = [_mm512_setzero_ps(); M];
        for b in 0..self.blocks {
            // SAFETY: `b` is a block of the tile and of the group, which has M rows from here.
            unsafe {
                let block = self.block + b;
                R::prefetch(&self.v, block);
                let [first, second] = R::scales(&self.v, block);
                let mut codes = [_mm512_setzero_si512(); 8];
                eight_times!(g => {
                    codes[g] = R::codes(&self.v, block, g);
                });
                let acts = group.add(b * self.group_rows);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let act = acts.add(r);
                    if R::SPLIT {
                        let dots = [dot(&codes, act, 0), dot(&codes, act, 4)];
                        *sum = add_scaled(*sum, dots[0], first, (*act).d, (*act).sums[0]);
                        *sum = add_scaled(*sum, dots[1], second, (*act).d, (*act).sums[1]);
                    } else {
                        // Two chains are shorter than one.
                        let dot = _mm512_add_epi32(dot(&codes, act, 0), dot(&codes, act, 4));
                        *sum = add_scaled(*sum, dot, first, (*act).d, (*act).sum);
                    }
                }
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            // SAFETY: `c` has M rows and the columns of the mask.
            unsafe { _mm512_mask_storeu_ps(c.at.add(r * c.stride), self.mask, sum) };
        }
        M
    }
}

/// `Σ q_w·q_x` over the 16 columns of groups `from .. from + 4`.
///
/// # Safety
/// AVX-512 with VNNI; `act` points at a block.
#[inline(always)]
unsafe fn dot(codes: &[__m512i; 8], act: *const ActBlock, from: usize) -> __m512i {
    // SAFETY: the caller's promise; an `ActBlock` starts with 8 x 4 bytes and is aligned to them.
    unsafe {
        let x = act.cast::<i32>().add(from);
        let mut sum = _mm512_setzero_si512();
        for g in 0..4 {
            sum = _mm512_dpbusd_epi32(sum, codes[from + g], _mm512_set1_epi32(*x.add(g)));
        }
        sum
    }
}

/// `sum + dot·d_w·d_x + m_w·(d_x Σ q_x)`
///
/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn add_scaled(sum: __m512, dot: __m512i, w: Affine, d_x: f32, sum_x: f32) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm512_mul_ps(w.d, _mm512_set1_ps(d_x));
        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum);
        _mm512_fmadd_ps(w.m, _mm512_set1_ps(sum_x), sum)
    }
}
