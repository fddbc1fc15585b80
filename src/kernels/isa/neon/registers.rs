//! The operations of [`Vector`] in NEON, for 8 rows at a time: two registers of four.

use std::arch::aarch64::*;

use super::Neon;
use crate::kernels::isa::vector::{Task, Vector, operations};

/// Rows that are read together.
pub(super) const PART: usize = 8;
/// Floats of a register.
pub(super) const LANES: usize = 4;

/// Values of [`PART`] rows.
pub(super) type Rows = [float32x4_t; 2];

impl Vector for Neon {
    const LANES: usize = PART;
    const SQUARE: usize = LANES;
    const HAS_NIBBLES: bool = true;
    type Floats = Rows;
    type Codes = [uint8x16_t; 2];

    unsafe fn run<T: Task>(task: T) {
        // SAFETY: the caller's promise.
        unsafe { task.work() };
    }

    #[inline(always)]
    unsafe fn byte(codes: [uint8x16_t; 2], j: usize) -> Rows {
        codes.map(|q| field(q, 8, 0, j))
    }

    #[inline(always)]
    unsafe fn nibble(line: [uint8x16_t; 2], shift: usize, j: usize) -> Rows {
        line.map(|q| field(q, 4, shift, j))
    }

    operations! {
        fn zero() -> Rows { [vdupq_n_f32(0.0); 2] }
        fn product(a: Rows, b: Rows) -> Rows { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
        fn times(a: Rows, b: f32) -> Rows { [vmulq_n_f32(a[0], b), vmulq_n_f32(a[1], b)] }
        fn negative_product(a: Rows, b: Rows) -> Rows {
            Self::product(a, b).map(|p| vnegq_f32(p))
        }
        fn multiply_add(a: Rows, b: Rows, c: Rows) -> Rows {
            [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])]
        }

        fn floats(at: *const f32) -> Rows { [vld1q_f32(at), vld1q_f32(at.add(LANES))] }
        fn halves(at: *const u8) -> Rows {
            let at = at.cast::<u16>();
            [at, at.add(LANES)].map(|at| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))))
        }
        fn brain_floats(at: *const u8) -> Rows {
            let at = at.cast::<u16>();
            [at, at.add(LANES)].map(|at| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at))))
        }
        fn bytes(at: *const u8) -> Rows { numbers(vld1_u8(at)) }
        fn signed_bytes(at: *const u8) -> Rows {
            let wide = vmovl_s8(vld1_s8(at.cast()));
            [vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)].map(|s| vcvtq_f32_s32(s))
        }
        fn nibble_pair(at: *const u8) -> (Rows, Rows) {
            let both = vld1_u8(at);
            (numbers(vand_u8(both, vdup_n_u8(15))), numbers(vshr_n_u8::<4>(both)))
        }

        fn line(at: *const u8) -> [uint8x16_t; 2] { [vld1q_u8(at), vld1q_u8(at.add(16))] }
        fn store_line(to: *mut u8, codes: [uint8x16_t; 2]) {
            vst1q_u8(to, codes[0]);
            vst1q_u8(to.add(16), codes[1]);
        }
        fn field(line: [uint8x16_t; 2], shift: usize, width: usize) -> [uint8x16_t; 2] {
            let mut codes = line;
            for q in &mut codes {
                *q = shifted(*q, -(shift as i32));
                if shift + width < 8 {
                    *q = vandq_u8(*q, vdupq_n_u8(((1u16 << width) - 1) as u8));
                }
            }
            codes
        }
        fn with_bit(
            codes: [uint8x16_t; 2],
            line: [uint8x16_t; 2],
            from: usize,
            to: usize
        ) -> [uint8x16_t; 2] {
            let mut codes = codes;
            for (q, bits) in codes.iter_mut().zip(line) {
                let moved = shifted(bits, to as i32 - from as i32);
                *q = vbslq_u8(vdupq_n_u8(1 << to), moved, *q);
            }
            codes
        }
        fn store(to: *mut f32, values: Rows) {
            vst1q_f32(to, values[0]);
            vst1q_f32(to.add(LANES), values[1]);
        }
        fn store_transposed(columns: &[Rows; 16], to: *mut f32, stride: usize) {
            let &[a, b, c, d, ..] = columns;
            for quad in 0..2 {
                let rows = transpose([a[quad], b[quad], c[quad], d[quad]]);
                for (r, row) in rows.into_iter().enumerate() {
                    vst1q_f32(to.add((quad * LANES + r) * stride), row);
                }
            }
        }
    }
}

#[inline(always)]
fn numbers(bytes: uint8x8_t) -> Rows {
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let wide = vmovl_u8(bytes);
        [vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide))]
    }
}

/// Bytes shifted left by `n`, or right by `-n`. With a constant `n` this is one instruction.
#[inline(always)]
fn shifted(bytes: uint8x16_t, n: i32) -> uint8x16_t {
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        match n {
            -7 => vshrq_n_u8::<7>(bytes),
            -6 => vshrq_n_u8::<6>(bytes),
            -5 => vshrq_n_u8::<5>(bytes),
            -4 => vshrq_n_u8::<4>(bytes),
            -3 => vshrq_n_u8::<3>(bytes),
            -2 => vshrq_n_u8::<2>(bytes),
            -1 => vshrq_n_u8::<1>(bytes),
            _ => vshlq_u8(bytes, vdupq_n_s8(n as i8)),
        }
    }
}

/// The `width` bits of every 32-bit lane from bit `8 j + shift` on, as f32. They stay where they are:
/// the conversion divides by a power of two, which is exact for so few bits.
#[inline(always)]
fn field(bytes: uint8x16_t, width: usize, shift: usize, j: usize) -> float32x4_t {
    let from = 8 * j + shift;
    let bits = (((1u64 << width) - 1) << from) as u32;
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let masked = vandq_u32(vreinterpretq_u32_u8(bytes), vdupq_n_u32(bits));
        match from {
            4 => vcvtq_n_f32_u32::<4>(masked),
            8 => vcvtq_n_f32_u32::<8>(masked),
            12 => vcvtq_n_f32_u32::<12>(masked),
            16 => vcvtq_n_f32_u32::<16>(masked),
            20 => vcvtq_n_f32_u32::<20>(masked),
            24 => vcvtq_n_f32_u32::<24>(masked),
            28 => vcvtq_n_f32_u32::<28>(masked),
            _ => vcvtq_f32_u32(masked),
        }
    }
}

/// The transpose of a 4 x 4 matrix of rows.
#[inline(always)]
fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let pairs = |x, y| [vtrn1q_f32(x, y), vtrn2q_f32(x, y)].map(|p| vreinterpretq_f64_f32(p));
        let ([ab_even, ab_odd], [cd_even, cd_odd]) = (pairs(a, b), pairs(c, d));
        [
            vtrn1q_f64(ab_even, cd_even),
            vtrn1q_f64(ab_odd, cd_odd),
            vtrn2q_f64(ab_even, cd_even),
            vtrn2q_f64(ab_odd, cd_odd),
        ]
        .map(|row| vreinterpretq_f32_f64(row))
    }
}
