//! The operations of [`Vector`] and [`X86`] in AVX-512.

use std::arch::x86_64::*;

use super::{Avx512, int8};
use crate::kernels::isa::operands::{CodeTile, Output, Value};
use crate::kernels::isa::vector::{Task, Vector, operations};
use crate::kernels::isa::x86::panels::PanelRows;
use crate::kernels::isa::x86::{X86, byte_of_lanes};
use crate::kernels::packing::BLOCK;
use crate::kernels::products::ActBlock;

impl Vector for Avx512 {
    const LANES: usize = 16;
    const SQUARE: usize = 16;
    const HAS_NIBBLES: bool = true;
    type Floats = __m512;
    type Codes = __m512i;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run<T: Task>(task: T) {
        // SAFETY: the caller's promise.
        unsafe { task.work() };
    }

    operations! {
        fn zero() -> __m512 { _mm512_setzero_ps() }
        fn product(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn times(a: __m512, b: f32) -> __m512 { _mm512_mul_ps(a, _mm512_set1_ps(b)) }
        fn negative_product(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(_mm512_sub_ps(_mm512_set1_ps(-0.0), a), b)
        }
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }

        fn floats(at: *const f32) -> __m512 { _mm512_loadu_ps(at) }
        fn halves(at: *const u8) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        fn brain_floats(at: *const u8) -> __m512 {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
        fn bytes(at: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())))
        }
        fn signed_bytes(at: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())))
        }
        fn nibble_pair(at: *const u8) -> (__m512, __m512) {
            let both = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
            let low = _mm512_and_si512(both, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(both)))
        }

        fn line(at: *const u8) -> __m512i { _mm512_load_si512(at.cast()) }
        fn store_line(to: *mut u8, codes: __m512i) {
            _mm512_store_si512(to.cast(), codes);
        }
        fn field(line: __m512i, shift: usize, width: usize) -> __m512i {
            if width == 8 {
                return line;
            }
            let moved = _mm512_srlv_epi32(line, _mm512_set1_epi32(shift as i32));
            _mm512_and_si512(moved, _mm512_set1_epi8(((1 << width) - 1) as i8))
        }
        fn with_bit(codes: __m512i, line: __m512i, from: usize, to: usize) -> __m512i {
            let moved = if from >= to {
                _mm512_srlv_epi32(line, _mm512_set1_epi32((from - to) as i32))
            } else {
                _mm512_sllv_epi32(line, _mm512_set1_epi32((to - from) as i32))
            };
            _mm512_or_si512(codes, _mm512_and_si512(moved, _mm512_set1_epi8(1 << to)))
        }
        fn byte(codes: __m512i, j: usize) -> __m512 {
            let lanes = _mm512_broadcast_i32x4(byte_of_lanes(j));
            _mm512_cvtepi32_ps(_mm512_shuffle_epi8(codes, lanes))
        }
        fn nibble(line: __m512i, shift: usize, j: usize) -> __m512 {
            // A look-up takes its index from the low 4 bits of a lane and ignores the others.
            let table = _mm512_setr_ps(
                0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.,
            );
            let shift = _mm512_set1_epi32((8 * j + shift) as i32);
            _mm512_permutexvar_ps(_mm512_srlv_epi32(line, shift), table)
        }

        fn store(to: *mut f32, values: __m512) { _mm512_storeu_ps(to, values) }
        fn store_transposed(columns: &[__m512; 16], to: *mut f32, stride: usize) {
            for (r, row) in transpose(columns).into_iter().enumerate() {
                _mm512_storeu_ps(to.add(r * stride), row);
            }
        }
    }
}

impl X86 for Avx512 {
    /// 24 of 32 registers are sums.
    const ROWS: usize = 12;
    /// 4 KB of f32.
    const PANEL_AHEAD: usize = 1024;
    const MOST_HALF_ROWS: Option<usize> = Some(24);
    /// About what arrives from memory in the time that one access takes.
    const CODES_AHEAD: usize = 6 * 1024;
    const DECODED_ROWS: Option<usize> = Some(24);

    operations! {
        fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn from_integers(values: __m512i) -> __m512 { _mm512_cvtepi32_ps(values) }
        fn load_first(at: *const f32, width: usize) -> __m512 {
            _mm512_maskz_loadu_ps(mask(width), at)
        }
        fn store_first(at: *mut f32, width: usize, values: __m512) {
            _mm512_mask_storeu_ps(at, mask(width), values);
        }
    }

    #[inline(always)]
    unsafe fn multiply_rows<P: Value>(rows: usize, job: PanelRows<P>) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => job.multiply::<Self, 1, 4>(),
                2 => job.multiply::<Self, 2, 4>(),
                3 => job.multiply::<Self, 3, 2>(),
                4 => job.multiply::<Self, 4, 2>(),
                5 => job.multiply::<Self, 5, 1>(),
                6 => job.multiply::<Self, 6, 1>(),
                7 => job.multiply::<Self, 7, 1>(),
                8 => job.multiply::<Self, 8, 1>(),
                9 => job.multiply::<Self, 9, 1>(),
                10 => job.multiply::<Self, 10, 1>(),
                11 => job.multiply::<Self, 11, 1>(),
                _ => job.multiply::<Self, 12, 1>(),
            }
        }
    }

    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
        // SAFETY: the caller's promise.
        unsafe { int8::quantize_block(values, to) };
    }

    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
        // SAFETY: the caller's promise.
        unsafe { int8::multiply_int8(w, group, c) };
    }
}

/// The lanes of a register that hold the first `width` columns.
#[inline(always)]
pub(in crate::kernels::isa::x86) fn mask(width: usize) -> __mmask16 {
    match width {
        n if n >= 16 => !0,
        n => (1 << n) - 1,
    }
}

/// The transpose of a 16 x 16 matrix of rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512; 16]) -> [__m512; 16] {
    // Within 128-bit lanes: pairs, then quadruples of rows.
    let mut quads = [_mm512_setzero_ps(); 16];
    for q in 0..4 {
        let [a, b, c, d] = [rows[4 * q], rows[4 * q + 1], rows[4 * q + 2], rows[4 * q + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let low =
            |x, y| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        let high =
            |x, y| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
        // quads[4 i + q]: column 4 l + i of rows 4 q .. 4 q + 4 in 128-bit lane l.
        quads[q] = low(ab_low, cd_low);
        quads[4 + q] = high(ab_low, cd_low);
        quads[8 + q] = low(ab_high, cd_high);
        quads[12 + q] = high(ab_high, cd_high);
    }
    // Then gather the 128-bit lanes.
    let mut out = [_mm512_setzero_ps(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [quads[4 * i], quads[4 * i + 1], quads[4 * i + 2], quads[4 * i + 3]];
        let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
        let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
        out[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        out[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        out[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
        out[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}
