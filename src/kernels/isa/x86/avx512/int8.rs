//! int8: activations rounded to 8 bits, products with `vpdpbusd` (unsigned code x signed value).

use std::arch::x86_64::*;

use super::Avx512;
use crate::kernels::isa::vector::readers::{CodeReader, Decoded};
use crate::kernels::isa::vector::{TileView, eight_times, with_reader};
use crate::kernels::isa::x86::{X86, add_scaled, prefetch};
use crate::kernels::isa::{CodeTile, Output};
use crate::kernels::packing::BLOCK;
use crate::kernels::products::{ActBlock, TINY};

/// The same bits as the portable set's for finite values.
///
/// # Safety
/// AVX-512 as in [`super::available`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
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
    to.set_scale(max, sums);
}

/// # Safety
/// As [`X86::multiply_int8`].
pub(super) unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
    let (t, group_rows) = (TileView::of(w.matrix, w.tile), group.len() / w.matrix.blocks);
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(quantized w.matrix, R => unsafe {
        match w.decoded {
            Some(codes) => {
                let job = Int8 { t: t.with_decoded(codes), group_rows };
                job.all_rows::<Decoded<R>>(group.as_ptr(), c);
            }
            None => Int8 { t, group_rows }.all_rows::<R>(group.as_ptr(), c),
        }
    });
}

/// The part of a product that is the same for all rows of the group.
struct Int8 {
    t: TileView,
    /// Rows of the group, the distance between its blocks.
    group_rows: usize,
}

impl Int8 {
    /// # Safety
    /// As [`multiply_int8`].
    unsafe fn all_rows<R: CodeReader<Avx512>>(&self, group: *const ActBlock, c: Output) {
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
    unsafe fn rows<R: CodeReader<Avx512>, const M: usize>(
        &self,
        group: *const ActBlock,
        c: Output,
    ) -> usize {
        let mut sums = [_mm512_setzero_ps(); M];
        let t = &self.t;
        for b in 0..t.blocks {
            // SAFETY: `b` is a block of the tile and of the group, which has M rows from here.
            unsafe {
                let block = t.block + b;
                prefetch::<Avx512, R>(&t.v, block);
                let [first, second] = R::scales(&t.v, block);
                let mut codes = [_mm512_setzero_si512(); 8];
                eight_times!(g => {
                    codes[g] = R::codes(&t.v, block, g);
                });
                let acts = group.add(b * self.group_rows);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let act = acts.add(r);
                    let zero = _mm512_setzero_si512();
                    if R::SPLIT {
                        let dots = [dot(zero, &codes, act, 0), dot(zero, &codes, act, 4)];
                        *sum = add_scaled::<Avx512>(*sum, dots[0], first, (*act).d, (*act).sums[0]);
                        *sum =
                            add_scaled::<Avx512>(*sum, dots[1], second, (*act).d, (*act).sums[1]);
                    } else {
                        let first_half = dot(zero, &codes, act, 0);
                        // For few rows, whose chains do not fill the units, two are shorter than one.
                        let dot = if M < 4 {
                            _mm512_add_epi32(first_half, dot(zero, &codes, act, 4))
                        } else {
                            dot(first_half, &codes, act, 4)
                        };
                        *sum = add_scaled::<Avx512>(*sum, dot, first, (*act).d, (*act).sum);
                    }
                }
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            // SAFETY: `c` has M rows and `width` columns.
            unsafe { Avx512::store_first(c.at.add(r * c.stride), t.width, sum) };
        }
        M
    }
}

/// `sum + Σ q_w·q_x` over the 16 columns of groups `from .. from + 4`.
///
/// # Safety
/// AVX-512 with VNNI; `act` points at a block.
#[inline(always)]
unsafe fn dot(
    mut sum: __m512i,
    codes: &[__m512i; 8],
    act: *const ActBlock,
    from: usize,
) -> __m512i {
    // SAFETY: the caller's promise; an `ActBlock` starts with 8 x 4 bytes and is aligned to them.
    unsafe {
        let x = act.cast::<i32>().add(from);
        for g in 0..4 {
            sum = _mm512_dpbusd_epi32(sum, codes[from + g], _mm512_set1_epi32(*x.add(g)));
        }
        sum
    }
}
