//! int8: activations rounded to 8 bits, products of codes and activations summed as [`dots`] can.
//!
//! [`dots`]: super::dots

use std::arch::aarch64::*;

use super::Neon;
use super::dots::{Codes, DotProducts};
use super::panels::store;
use super::registers::{PART, Rows};
use crate::kernels::isa::Output;
use crate::kernels::isa::vector::readers::{Affine, CodeReader};
use crate::kernels::isa::vector::{TileView, eight_times, with_reader};
use crate::kernels::packing::{BLOCK, PackedMatrix};
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
pub(super) unsafe fn multiply_int8<D: DotProducts>(
    w: &PackedMatrix,
    tile: usize,
    group: &[ActBlock],
    c: Output,
) {
    let job = Int8 { t: TileView::of(w, tile) };
    // SAFETY: the caller's promise; the reader is that of the matrix.
    with_reader!(quantized w, R => unsafe { D::multiply::<R>(&job, group, c) });
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
        let rows = group.len() / self.t.blocks;
        // SAFETY: every aarch64 target has NEON.
        let zero: Rows = unsafe { [vdupq_n_f32(0.0); 2] };
        let mut sums: [Sums; GROUP_ROWS] = [[zero; 2]; GROUP_ROWS];
        let sums = &mut sums[..rows];
        for (b, acts) in group.chunks_exact(rows).enumerate() {
            for part in 0..2 {
                // SAFETY: `b` is a block of the tile.
                let step = unsafe { Step::read::<R>(&self.t, b, part) };
                let (act_pairs, act_last) = acts.as_chunks::<2>();
                let (sum_pairs, sum_last) = sums.as_chunks_mut::<2>();
                for ([a, b], [sums_a, sums_b]) in act_pairs.iter().zip(sum_pairs) {
                    let old = [sums_a[part], sums_b[part]];
                    // SAFETY: the caller's promise.
                    [sums_a[part], sums_b[part]] = unsafe { step.add::<R, D>(old, [a, b]) };
                }
                for (a, sums) in act_last.iter().zip(sum_last) {
                    // What the second row costs is left out by the compiler where it can be.
                    // SAFETY: the caller's promise.
                    [sums[part], _] = unsafe { step.add::<R, D>([sums[part], zero], [a, a]) };
                }
            }
        }
        for (r, [[s0, s1], [s2, s3]]) in sums.iter().enumerate() {
            // SAFETY: `c` has the rows of the group and the tile's columns.
            unsafe { store([*s0, *s1, *s2, *s3], c.at.add(r * c.stride), self.t.width, false) };
        }
    }
}

/// One part of one block.
struct Step {
    /// Of each half block.
    codes: [Codes; 2],
    scales: [Affine<Neon>; 2],
}

impl Step {
    /// # Safety
    /// As [`CodeReader`].
    #[inline(always)]
    unsafe fn read<R: CodeReader<Neon>>(t: &TileView, b: usize, part: usize) -> Self {
        let (v, block) = (t.v.rows_from::<Neon, R>(part * PART), t.block + b);
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = [[[vdupq_n_s8(0); 2]; 4]; 2];
            eight_times!(g => {
                let unsigned = R::codes(&v, block, g);
                codes[g / 4][g % 4] = unsigned.map(|q| {
                    // Codes of 8 bits become signed by subtracting 128 …
                    let q = if R::BITS == 8 { veorq_u8(q, vdupq_n_u8(0x80)) } else { q };
                    vreinterpretq_s8_u8(q)
                });
            });
            Self { codes, scales: R::scales(&v, block) }
        }
    }

    /// `sums` and what this block adds to them, for two rows of activations.
    ///
    /// # Safety
    /// The processor has what `D` needs.
    #[inline(always)]
    unsafe fn add<R: CodeReader<Neon>, D: DotProducts>(
        &self,
        sums: [Rows; 2],
        acts: [&ActBlock; 2],
    ) -> [Rows; 2] {
        // SAFETY: a block has 32 bytes, then 4 floats, without gaps; the rest is the caller's promise.
        unsafe {
            let at = acts.map(std::ptr::from_ref);
            let x = |half: usize| at.map(|at| vld1q_s8(at.cast::<i8>().add(16 * half)));
            let factors = at.map(|at| vld1q_f32(at.cast::<f32>().add(BLOCK / 4)));
            let first = D::add::<R>(None, &self.codes[0], x(0));
            if R::SPLIT {
                let second = D::add::<R>(None, &self.codes[1], x(1));
                let sums = add_scaled::<R, 2>(sums, D::sums(first), &self.scales[0], factors);
                add_scaled::<R, 3>(sums, D::sums(second), &self.scales[1], factors)
            } else {
                let both = D::add::<R>(Some(first), &self.codes[1], x(1));
                add_scaled::<R, 1>(sums, D::sums(both), &self.scales[0], factors)
            }
        }
    }
}

/// `sums + dots·d_w·d_x + m_w·(d_x Σ q_x)`; `factors` are those of an [`ActBlock`], of which `SUM` is
/// the place of the sum that belongs to the dots.
#[inline(always)]
fn add_scaled<R: CodeReader<Neon>, const SUM: i32>(
    mut sums: [Rows; 2],
    dots: [[int32x4_t; 2]; 2],
    w: &Affine<Neon>,
    factors: [float32x4_t; 2],
) -> [Rows; 2] {
    for ((sums, dots), factors) in sums.iter_mut().zip(dots).zip(factors) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: every aarch64 target has NEON.
            unsafe {
                let scale = vmulq_laneq_f32::<0>(w.d[i], factors);
                *sum = vfmaq_f32(*sum, vcvtq_f32_s32(dots[i]), scale);
                // … which is all that `m` does in the one type that has them.
                if R::BITS < 8 {
                    *sum = vfmaq_laneq_f32::<SUM>(*sum, w.m[i], factors);
                }
            }
        }
    }
    sums
}
