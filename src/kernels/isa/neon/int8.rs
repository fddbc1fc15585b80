//! int8: activations rounded to 8 bits, products of codes and activations summed as [`dots`] can.
//!
//! [`dots`]: super::dots

use std::arch::aarch64::*;

use super::Neon;
use super::dots::{Codes, DotProducts};
use super::panels::store;
use super::registers::{PART, Rows};
use crate::kernels::isa::vector::readers::{Affine, CodeReader, Decoded};
use crate::kernels::isa::vector::{TileView, eight_times, with_reader};
use crate::kernels::isa::{CodeTile, Output};
use crate::kernels::packing::BLOCK;
use crate::kernels::products::{ActBlock, GROUP_ROWS, TINY};

/// The same bits as the portable set's for finite values.
pub(super) fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
    // SAFETY: every aarch64 target has NEON; `values` has 32 floats and `to.q` 32 bytes.
    unsafe {
        let x: [_; 8] = std::array::from_fn(|i| vld1q_f32(values.as_ptr().add(4 * i)));
        // The largest absolute value by its bits, so that NaN counts as larger than anything.
        let mut bits = vdupq_n_u32(0);
        for x in x {
            bits = vmaxq_u32(bits, vreinterpretq_u32_f32(vabsq_f32(x)));
        }
        let max = f32::from_bits(vmaxvq_u32(bits));
        if max <= TINY {
            *to = ActBlock::ZERO;
            return;
        }
        let inverse = 127.0 / max;
        let q = x.map(|x| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x, inverse))));
        let mut sums = [0; 2];
        for (half, sum) in sums.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| q[4 * half + i]);
            let q = vqmovn_high_s16(vqmovn_s16(vcombine_s16(a, b)), vcombine_s16(c, d));
            vst1q_s8(to.q.as_mut_ptr().add(16 * half), q);
            *sum = i32::from(vaddlvq_s8(q));
        }
        to.set_scale(max, sums);
    }
}

/// # Safety
/// As [`Operations::multiply_int8`](crate::kernels::isa::dispatch::Operations::multiply_int8); the processor has
/// what `D` needs.
pub(super) unsafe fn multiply_int8<D: DotProducts>(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
    let t = TileView::of(w.matrix, w.tile);
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(quantized w.matrix, R => unsafe {
        match w.decoded {
            Some(codes) => {
                let job = Int8 { t: t.with_decoded(codes) };
                D::multiply::<Decoded<R>>(&job, group, c);
            }
            None => D::multiply::<R>(&Int8 { t }, group, c),
        }
    });
}

/// A tile of a product.
pub(super) struct Int8 {
    t: TileView,
}

/// Sums of one row of the product, for the 8 rows of W in each part of the tile.
type Sums = [Rows; 2];

impl Int8 {
    /// All rows of a group. While the codes of 8 rows of W fill half of the registers, the rows of
    /// activations pass by, and their sums lie in the L1 cache.
    ///
    /// # Safety
    /// As [`multiply_int8`]; the processor has what `D` needs.
    #[inline(always)]
    pub(super) unsafe fn rows<R: CodeReader<Neon>, D: DotProducts>(
        &self,
        group: &[ActBlock],
        c: Output,
    ) {
        const { assert!(R::BITS < 8 || R::SIGNED, "`sdot` cannot multiply other codes of 8 bits") };
        debug_assert!(
            !R::SIGNED || self.t.v.offset == (1u32 << (R::BITS - 1)) as f32,
            "signed codes with another offset"
        );
        let rows = group.len() / self.t.blocks;
        // SAFETY: every aarch64 target has NEON.
        let zero: Sums = unsafe { [[vdupq_n_f32(0.0); 2]; 2] };
        // SAFETY: the caller's promise.
        unsafe {
            if rows == 1 {
                // Making codes signed takes longer than what it saves for one row.
                self.blocks::<R, D>(group, &mut [zero], R::BITS == 8, c);
            } else {
                let mut sums = [zero; GROUP_ROWS];
                self.blocks::<R, D>(group, &mut sums[..rows], R::SIGNED, c);
            }
        }
    }

    /// Adds all blocks to the sums of each row and writes them to `c`.
    ///
    /// # Safety
    /// As [`Self::rows`]; `signed` only for codes that stand for signed numbers.
    #[inline(always)]
    unsafe fn blocks<R: CodeReader<Neon>, D: DotProducts>(
        &self,
        group: &[ActBlock],
        sums: &mut [Sums],
        signed: bool,
        c: Output,
    ) {
        for (b, acts) in group.chunks_exact(sums.len()).enumerate() {
            for part in 0..2 {
                // SAFETY: `b` is a block of the tile; the rest is the caller's promise.
                unsafe {
                    if R::SPLIT {
                        Step::<1, 0>::read::<R>(&self.t, b, part, signed).add::<R, D>(sums, acts);
                        Step::<1, 1>::read::<R>(&self.t, b, part, signed).add::<R, D>(sums, acts);
                    } else {
                        Step::<2, 0>::read::<R>(&self.t, b, part, signed).add::<R, D>(sums, acts);
                    }
                }
            }
        }
        for (r, [[s0, s1], [s2, s3]]) in sums.iter().enumerate() {
            // SAFETY: `c` has the rows of the group and the tile's columns.
            unsafe { store([*s0, *s1, *s2, *s3], c.at.add(r * c.stride), self.t.width, false) };
        }
    }
}

/// `HALVES` half blocks with one scale, from half `FIRST` of a block on, for the rows of W in one
/// part of the tile.
struct Step<const HALVES: usize, const FIRST: usize> {
    codes: [Codes; HALVES],
    scale: Affine<Neon>,
    part: usize,
    /// Whether the codes are signed numbers, so that `m` has nothing left to do.
    signed: bool,
}

impl<const HALVES: usize, const FIRST: usize> Step<HALVES, FIRST> {
    /// # Safety
    /// As [`CodeReader`]; `signed` only for codes that stand for signed numbers.
    #[inline(always)]
    unsafe fn read<R: CodeReader<Neon>>(t: &TileView, b: usize, part: usize, signed: bool) -> Self {
        let (v, block) = (t.v.rows_from::<Neon, R>(part * PART), t.block + b);
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = [[[vdupq_n_s8(0); 2]; 4]; HALVES];
            eight_times!(g => {
                if let Some(half) = (g / 4).checked_sub(FIRST).filter(|half| *half < HALVES) {
                    let unsigned = R::codes(&v, block, g);
                    for (code, q) in codes[half][g % 4].iter_mut().zip(unsigned) {
                        let zero = if signed { 1 << (R::BITS - 1) } else { 0 };
                        *code = vreinterpretq_s8_u8(vsubq_u8(q, vdupq_n_u8(zero)));
                    }
                }
            });
            Self { codes, scale: R::scales(&v, block)[FIRST], part, signed }
        }
    }

    /// Adds its part of the products to the sums of all rows, two by two.
    ///
    /// # Safety
    /// The processor has what `D` needs.
    #[inline(always)]
    unsafe fn add<R: CodeReader<Neon>, D: DotProducts>(
        &self,
        sums: &mut [Sums],
        acts: &[ActBlock],
    ) {
        let part = self.part;
        let (act_pairs, act_last) = acts.as_chunks::<2>();
        let (sum_pairs, sum_last) = sums.as_chunks_mut::<2>();
        for ([a, b], [sums_a, sums_b]) in act_pairs.iter().zip(sum_pairs) {
            let old = [sums_a[part], sums_b[part]];
            // SAFETY: the caller's promise.
            [sums_a[part], sums_b[part]] = unsafe { self.two_rows::<R, D>(old, [a, b]) };
        }
        for (a, sums) in act_last.iter().zip(sum_last) {
            // What the second row costs is left out by the compiler where it can be.
            // SAFETY: the caller's promise.
            [sums[part], _] = unsafe { self.two_rows::<R, D>([sums[part]; 2], [a, a]) };
        }
    }

    /// `sums + dots·d_w·d_x + m_w·(d_x Σ q_x)` for two rows of activations.
    ///
    /// # Safety
    /// The processor has what `D` needs.
    #[inline(always)]
    unsafe fn two_rows<R: CodeReader<Neon>, D: DotProducts>(
        &self,
        mut sums: [Rows; 2],
        acts: [&ActBlock; 2],
    ) -> [Rows; 2] {
        // SAFETY: a block has 32 bytes, then 4 floats, without gaps; the rest is the caller's promise.
        unsafe {
            let at = acts.map(std::ptr::from_ref);
            let mut partial = None;
            for (half, codes) in self.codes.iter().enumerate() {
                let x = at.map(|at| vld1q_s8(at.cast::<i8>().add(16 * (FIRST + half))));
                partial = Some(D::add::<R>(partial, codes, x, self.signed));
            }
            let dots = D::sums(partial.expect("at least one half"), self.signed);
            // The scale, the sum of all, and those of the halves.
            let factors = at.map(|at| vld1q_f32(at.cast::<f32>().add(BLOCK / 4)));
            for ((sums, dots), factors) in sums.iter_mut().zip(dots).zip(factors) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let scale = vmulq_laneq_f32::<0>(self.scale.d[i], factors);
                    *sum = vfmaq_f32(*sum, dots[i], scale);
                    let m = self.scale.m[i];
                    *sum = match (self.signed, HALVES, FIRST) {
                        (true, ..) => *sum,
                        (false, 2, _) => vfmaq_laneq_f32::<1>(*sum, m, factors),
                        (false, _, 0) => vfmaq_laneq_f32::<2>(*sum, m, factors),
                        (false, ..) => vfmaq_laneq_f32::<3>(*sum, m, factors),
                    };
                }
            }
            sums
        }
    }
}
