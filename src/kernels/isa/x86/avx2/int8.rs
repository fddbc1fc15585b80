//! int8: activations rounded to 8 bits, products of unsigned codes and signed values.
//!
//! With AVX-VNNI one instruction, `vpdpbusd`, does all. Without, `vpmaddubsw` adds two products to
//! 16 bits and saturates, so sums are widened before they can be too large: see [`dot`].

use std::arch::x86_64::*;

use super::{Avx2, LANES};
use crate::kernels::isa::Output;
use crate::kernels::isa::vector::readers::CodeReader;
use crate::kernels::isa::vector::{TileView, eight_times, with_reader};
use crate::kernels::isa::x86::{X86, add_scaled};
use crate::kernels::packing::{BLOCK, PackedMatrix};
use crate::kernels::products::{ActBlock, GROUP_ROWS, TINY};

/// The same bits as the portable set's for finite values.
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
    let (eights, _) = values.as_chunks::<8>();
    let mut x = [_mm256_setzero_ps(); 4];
    // The largest absolute value by its bits, so that NaN counts as larger than anything.
    let mut max = _mm256_setzero_si256();
    for (x, eight) in x.iter_mut().zip(eights) {
        // SAFETY: 8 values.
        *x = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
        let bits = _mm256_and_si256(_mm256_castps_si256(*x), _mm256_set1_epi32(0x7fff_ffff));
        max = _mm256_max_epu32(max, bits);
    }
    let max = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
    let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b0100_1110>(max));
    let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b1011_0001>(max));
    let max = f32::from_bits(_mm_cvtsi128_si32(max) as u32);
    if max <= TINY {
        *to = ActBlock::ZERO;
        return;
    }
    let inverse = _mm256_set1_ps(127.0 / max);
    let mut q = [_mm256_setzero_si256(); 4];
    for (q, x) in q.iter_mut().zip(x) {
        *q = _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
    }
    let q = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    // Packing works within 128-bit lanes and has mixed up fours of values.
    let q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    let twos = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    let fours = _mm256_madd_epi16(twos, _mm256_set1_epi16(1));
    let eights = _mm256_add_epi32(fours, _mm256_shuffle_epi32::<0b0100_1110>(fours));
    let halves = _mm256_add_epi32(eights, _mm256_shuffle_epi32::<0b1011_0001>(eights));
    let sums = [_mm256_extract_epi32::<0>(halves), _mm256_extract_epi32::<4>(halves)];
    // SAFETY: `to.q` has 32 bytes.
    unsafe { _mm256_storeu_si256(to.q.as_mut_ptr().cast(), q) };
    to.set_scale(max, sums);
}

/// # Safety
/// As [`X86::multiply_int8`].
pub(super) unsafe fn multiply_int8(w: &PackedMatrix, tile: usize, group: &[ActBlock], c: Output) {
    // SAFETY: the caller's promise.
    unsafe { multiply::<false>(w, tile, group, c) };
}

/// # Safety
/// As [`multiply_int8`], with AVX-VNNI.
pub(in crate::kernels::isa) unsafe fn multiply_int8_vnni(
    w: &PackedMatrix,
    tile: usize,
    group: &[ActBlock],
    c: Output,
) {
    // SAFETY: the caller's promise.
    unsafe { multiply::<true>(w, tile, group, c) };
}

/// # Safety
/// As [`multiply_int8`], or as [`multiply_int8_vnni`] with `VNNI`.
unsafe fn multiply<const VNNI: bool>(w: &PackedMatrix, tile: usize, group: &[ActBlock], c: Output) {
    let t = TileView::of(w, tile);
    let rows = group.len() / w.blocks;
    for first in (0..t.width).step_by(LANES) {
        // SAFETY: the caller's promise; the reader is that of the matrix.
        with_reader!(quantized w, R => unsafe {
            let job = Int8 { t: t.rows_from::<Avx2, R>(first), rows };
            job.all_rows::<R, VNNI>(group.as_ptr(), c.from(0, first));
        });
    }
}

/// The part of a product that is the same for all rows of the group.
struct Int8 {
    t: TileView,
    /// Rows of the group.
    rows: usize,
}

impl Int8 {
    /// # Safety
    /// As [`multiply`].
    unsafe fn all_rows<R: CodeReader<Avx2>, const VNNI: bool>(
        &self,
        group: *const ActBlock,
        c: Output,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.rows, VNNI) {
                (1, false) => self.run::<R, true>(group, c),
                (_, false) => self.run::<R, false>(group, c),
                (1, true) => self.run_vnni::<R, true>(group, c),
                (_, true) => self.run_vnni::<R, false>(group, c),
            }
        }
    }

    /// # Safety
    /// As [`multiply_int8`]; `ONE` if the group has one row.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn run<R: CodeReader<Avx2>, const ONE: bool>(&self, group: *const ActBlock, c: Output) {
        // SAFETY: the caller's promise.
        unsafe { self.run_with::<R, false, ONE>(group, c) }
    }

    /// # Safety
    /// As [`multiply_int8_vnni`]; `ONE` if the group has one row.
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    unsafe fn run_vnni<R: CodeReader<Avx2>, const ONE: bool>(
        &self,
        group: *const ActBlock,
        c: Output,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.run_with::<R, true, ONE>(group, c) }
    }

    /// The codes of a block stay in registers, of which AVX2 has 16, while rows take their turns:
    /// so the sums live in memory, but for a single row's.
    ///
    /// # Safety
    /// As [`multiply`]; `ONE` if the group has one row.
    #[inline(always)]
    unsafe fn run_with<R: CodeReader<Avx2>, const VNNI: bool, const ONE: bool>(
        &self,
        group: *const ActBlock,
        c: Output,
    ) {
        // Codes of 8 bits are those of Q8_0, with `m = -128 d`: less 128 they need no `m`.
        let signed = !VNNI && R::BITS == 8;
        debug_assert!(!signed || self.t.v.offset == 128.0, "8-bit codes with another offset");
        let rows = if ONE { 1 } else { self.rows };
        // SAFETY: `b` is a block of the tile and of the group; `c` has the group's rows and `width`
        // columns.
        unsafe {
            let mut sums = [_mm256_setzero_ps(); GROUP_ROWS];
            let sums = &mut sums[..rows];
            for b in 0..self.t.blocks {
                let block = self.t.block + b;
                let [first, second] = R::scales(&self.t.v, block);
                let mut codes = [_mm256_setzero_si256(); 8];
                eight_times!(g => {
                    codes[g] = R::codes(&self.t.v, block, g);
                    if signed {
                        codes[g] = _mm256_xor_si256(codes[g], _mm256_set1_epi8(-128));
                    }
                });
                let acts = group.add(b * rows);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let act = acts.add(r);
                    if R::SPLIT {
                        let dots =
                            [dot::<R, VNNI, 0, 4>(&codes, act), dot::<R, VNNI, 4, 8>(&codes, act)];
                        *sum = add_scaled::<Avx2>(*sum, dots[0], first, (*act).d, (*act).sums[0]);
                        *sum = add_scaled::<Avx2>(*sum, dots[1], second, (*act).d, (*act).sums[1]);
                    } else {
                        let dot = dot::<R, VNNI, 0, 8>(&codes, act);
                        if signed {
                            let scale = _mm256_mul_ps(first.d, _mm256_set1_ps((*act).d));
                            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, *sum);
                        } else {
                            *sum = add_scaled::<Avx2>(*sum, dot, first, (*act).d, (*act).sum);
                        }
                    }
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                Avx2::store_first(c.at.add(r * c.stride), self.t.width, *sum);
            }
        }
    }
}

/// `Σ q_w·q_x` over the columns of groups `FROM .. TO`; without VNNI, 8-bit codes are signed.
///
/// Always exact. Without VNNI, the sum of two products of an n-bit code with values of up to 127 is
/// at most `254 (2^n - 1)`, so 16 bits hold some such sums for codes of up to 6 bits. For signed
/// codes they hold one sum of two, at most `2·128·127`, if the code's sign is moved to the value.
///
/// # Safety
/// As [`multiply`]; `act` points at a block.
#[inline(always)]
unsafe fn dot<R: CodeReader<Avx2>, const VNNI: bool, const FROM: usize, const TO: usize>(
    codes: &[__m256i; 8],
    act: *const ActBlock,
) -> __m256i {
    // SAFETY: the caller's promise; an `ActBlock` starts with 8 x 4 bytes and is aligned to them.
    unsafe {
        let x = act.cast::<i32>().add(FROM);
        let fit = 32767 / (254 * ((1 << R::BITS) - 1));
        let mut twos = _mm256_setzero_si256();
        // Two chains are shorter than one.
        let mut sums = [_mm256_setzero_si256(); 2];
        for (g, &codes) in codes[FROM..TO].iter().enumerate() {
            let x = _mm256_set1_epi32(*x.add(g));
            let sum = &mut sums[g % 2];
            if VNNI {
                *sum = _mm256_dpbusd_avx_epi32(*sum, codes, x);
            } else if R::BITS == 8 {
                let x = _mm256_sign_epi8(x, codes);
                let twos = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), x);
                *sum = _mm256_add_epi32(*sum, widen(twos));
            } else {
                twos = _mm256_add_epi16(twos, _mm256_maddubs_epi16(codes, x));
                if (g + 1).is_multiple_of(fit) || FROM + g + 1 == TO {
                    *sum = _mm256_add_epi32(*sum, widen(twos));
                    twos = _mm256_setzero_si256();
                }
            }
        }
        _mm256_add_epi32(sums[0], sums[1])
    }
}

/// Sums of 16 bits, two by two, in 32.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn widen(sums: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
}

#[cfg(test)]
mod tests {
    use crate::kernels::isa::Isa;
    use crate::kernels::tests::samples::QUANTIZED;
    use crate::kernels::{Compute, PackedMatrix};

    /// Products of the largest codes and values, whose sums come closest to the limits of 16 bits.
    #[test]
    fn sums_of_the_largest_products_do_not_saturate() {
        let (rows, cols) = (16, 256);
        for kind in &QUANTIZED {
            // 255 and 0 with an offset of 128, which are the largest and least codes of Q8_0.
            for fill in [0xff, 0x7f, 0x80] {
                let mut file = vec![fill; rows * cols / kind.block * kind.bytes];
                for block in file.chunks_exact_mut(kind.bytes) {
                    for &at in kind.halves {
                        block[at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                    }
                }
                let w = PackedMatrix::pack(kind.ty, rows, cols, &file).unwrap();
                for x in [[1.0; 256], [-1.0; 256]] {
                    let on = |isa: Isa| {
                        let mut y = vec![f32::NAN; rows];
                        w.matmul_on(isa, Compute::Fast, &x, 1, &mut y);
                        y
                    };
                    let expected = on(Isa::Portable);
                    for isa in Isa::all_available() {
                        for (y, e) in on(isa).iter().zip(&expected) {
                            assert!(
                                (y - e).abs() <= 1e-5 * e.abs(),
                                "{isa:?} {:?}: {y}, {e}",
                                kind.ty
                            );
                        }
                    }
                }
            }
        }
    }
}
