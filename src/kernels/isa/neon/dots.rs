//! Sums of products of codes and int8 activations, four to a 32-bit lane, one type per instruction.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Neon;
use super::int8::Int8;
use super::registers::Rows;
use crate::kernels::isa::Output;
use crate::kernels::isa::vector::readers::CodeReader;
use crate::kernels::products::ActBlock;

/// Half a block of 8 rows of W: by 4 columns, then by 4 rows.
pub(super) type Codes = [[int8x16_t; 2]; 4];

/// A way to multiply codes with activations.
///
/// # Safety
/// All functions: the processor has the instruction.
pub(super) trait DotProducts {
    /// Sums for two rows of activations and 8 rows of W, perhaps not yet complete.
    type Partial;

    /// Multiplies a tile, as [`super::multiply_int8`].
    unsafe fn multiply<R: CodeReader<Neon>>(job: &Int8, group: &[ActBlock], c: Output);

    /// Adds the products of 16 columns to `partial`. `x` holds those of two rows of activations; `signed` says
    /// whether codes are signed numbers.
    unsafe fn add<R: CodeReader<Neon>>(
        partial: Option<Self::Partial>,
        codes: &Codes,
        x: [int8x16_t; 2],
        signed: bool,
    ) -> Self::Partial;

    /// The sums: for each row of activations 8 lanes.
    unsafe fn sums(partial: Self::Partial, signed: bool) -> [Rows; 2];
}

/// `sdot`.
pub(super) struct Dotprod;

/// 1.5 · 2^23: in floats from 2^23 to 2^24, the last bit counts one, so that a whole number below 2^22 that is added
/// to the bits of this one is added to its value. A block's sums are at most 32 · 128 · 127, below 2^19.
const WHOLE: f32 = 12_582_912.0;

impl DotProducts for Dotprod {
    /// Of signed codes, added to the bits of [`WHOLE`]: subtracting that takes a quarter of the time of a conversion on
    /// Cortex-A76. Unsigned codes leave no register for it, because their `m` takes two.
    type Partial = [[int32x4_t; 2]; 2];

    #[target_feature(enable = "neon,dotprod")]
    unsafe fn multiply<R: CodeReader<Neon>>(job: &Int8, group: &[ActBlock], c: Output) {
        // SAFETY: the caller's promise.
        unsafe { job.rows::<R, Self>(group, c) }
    }

    #[inline(always)]
    unsafe fn add<R: CodeReader<Neon>>(
        partial: Option<Self::Partial>,
        codes: &Codes,
        x: [int8x16_t; 2],
        signed: bool,
    ) -> Self::Partial {
        // SAFETY: the caller's promise.
        unsafe {
            let none = if signed { WHOLE.to_bits().cast_signed() } else { 0 };
            let none = vdupq_n_s32(none);
            let mut sums = partial.unwrap_or([[none; 2]; 2]);
            // By columns, so that no instruction waits for the one before it.
            macro_rules! column {
                ($j:literal) => {
                    for (sums, x) in sums.iter_mut().zip(x) {
                        sums[0] = sdot::<$j>(sums[0], codes[$j][0], x);
                        sums[1] = sdot::<$j>(sums[1], codes[$j][1], x);
                    }
                };
            }
            column!(0);
            column!(1);
            column!(2);
            column!(3);
            sums
        }
    }

    #[inline(always)]
    unsafe fn sums(partial: Self::Partial, signed: bool) -> [Rows; 2] {
        // SAFETY: every aarch64 target has NEON.
        let float = |sum| unsafe {
            match signed {
                true => vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(WHOLE)),
                false => vcvtq_f32_s32(sum),
            }
        };
        let [[a, b], [c, d]] = partial;
        [[float(a), float(b)], [float(c), float(d)]]
    }
}

/// Adds to every lane the four products of its bytes with the bytes of `x`'s 32-bit lane `LANE`. The
/// standard library has this instruction only in its unstable part.
///
/// # Safety
/// The processor has dotprod.
#[inline(always)]
unsafe fn sdot<const LANE: i32>(sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let result;
    // SAFETY: the caller's promise; the instruction touches nothing but the operands named.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.4b[{lane}]",
            sum = inlateout(vreg) sum => result,
            codes = in(vreg) codes,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    result
}

/// `smull` and `smlal`.
pub(super) struct Widening;

impl DotProducts for Widening {
    /// For each row of activations: sums of two columns for rows of W 0 and 1, 2 and 3, …
    type Partial = [[int32x4_t; 4]; 2];

    unsafe fn multiply<R: CodeReader<Neon>>(job: &Int8, group: &[ActBlock], c: Output) {
        // SAFETY: the caller's promise.
        unsafe { job.rows::<R, Self>(group, c) }
    }

    #[inline(always)]
    unsafe fn add<R: CodeReader<Neon>>(
        partial: Option<Self::Partial>,
        codes: &Codes,
        x: [int8x16_t; 2],
        _: bool,
    ) -> Self::Partial {
        let [a, b] = match partial {
            Some([a, b]) => [Some(a), Some(b)],
            None => [None, None],
        };
        let [x_a, x_b] = x;
        [half_block::<R>(a, codes, x_a), half_block::<R>(b, codes, x_b)]
    }

    #[inline(always)]
    unsafe fn sums(partial: Self::Partial, _: bool) -> [Rows; 2] {
        let [[a, b, c, d], [e, f, g, h]] = partial;
        // SAFETY: every aarch64 target has NEON.
        let pair = |a, b| unsafe { vcvtq_f32_s32(vpaddq_s32(a, b)) };
        [[pair(a, b), pair(c, d)], [pair(e, f), pair(g, h)]]
    }
}

/// [`Widening::add`] for one row of activations.
#[inline(always)]
fn half_block<R: CodeReader<Neon>>(
    partial: Option<[int32x4_t; 4]>,
    codes: &Codes,
    x: int8x16_t,
) -> [int32x4_t; 4] {
    // Four products of at most 6 bits times 127 stay below 2^15, or two of at most 8 bits.
    let at_once = if R::BITS <= 6 { 4 } else { 2 };
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let x = vreinterpretq_s32_s8(x);
        let x = [
            vdupq_laneq_s32::<0>(x),
            vdupq_laneq_s32::<1>(x),
            vdupq_laneq_s32::<2>(x),
            vdupq_laneq_s32::<3>(x),
        ]
        .map(|x| vreinterpretq_s8_s32(x));
        let mut partial = partial;
        for (codes, x) in codes.chunks_exact(at_once).zip(x.chunks_exact(at_once)) {
            let [c0, c1] = codes[0];
            let mut products =
                [smull(c0, x[0]), smull2(c0, x[0]), smull(c1, x[0]), smull2(c1, x[0])];
            for ([c0, c1], x) in codes[1..].iter().zip(&x[1..]) {
                let [p0, p1, p2, p3] = products;
                products = [
                    smlal(p0, *c0, *x),
                    smlal2(p1, *c0, *x),
                    smlal(p2, *c1, *x),
                    smlal2(p3, *c1, *x),
                ];
            }
            partial = Some(match partial {
                None => products.map(|p| vpaddlq_s16(p)),
                Some(old) => std::array::from_fn(|i| vpadalq_s16(old[i], products[i])),
            });
        }
        partial.unwrap_or([vdupq_n_s32(0); 4])
    }
}

/// Defines a product of 8 bytes with 8 bytes, alone and added to a sum. As intrinsics the compiler
/// widens the codes once before the loop over activations, and then has no registers for them.
macro_rules! widening_product {
    ($multiply:ident, $add:ident, $bytes:literal, $which:literal) => {
        #[doc = concat!("`a·b` in the ", $which, " 8 bytes.")]
        #[inline(always)]
        fn $multiply(a: int8x16_t, b: int8x16_t) -> int16x8_t {
            let result;
            // SAFETY: every aarch64 target has NEON; it touches nothing but the operands named.
            unsafe {
                asm!(
                    concat!(stringify!($multiply), " {r:v}.8h, {a:v}", $bytes, ", {b:v}", $bytes),
                    r = lateout(vreg) result,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            result
        }

        #[doc = concat!("`sum + a·b` in the ", $which, " 8 bytes.")]
        #[inline(always)]
        fn $add(sum: int16x8_t, a: int8x16_t, b: int8x16_t) -> int16x8_t {
            let result;
            // SAFETY: as above.
            unsafe {
                asm!(
                    concat!(stringify!($add), " {sum:v}.8h, {a:v}", $bytes, ", {b:v}", $bytes),
                    sum = inlateout(vreg) sum => result,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            result
        }
    };
}
widening_product!(smull, smlal, ".8b", "lower");
widening_product!(smull2, smlal2, ".16b", "upper");
