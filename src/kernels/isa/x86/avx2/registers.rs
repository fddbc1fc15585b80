//! The operations of [`Vector`] and [`X86`] in AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::{Avx2, LANES, int8};
use crate::kernels::isa::operands::{CodeTile, Output, Value};
use crate::kernels::isa::vector::{Task, Vector, operations};
use crate::kernels::isa::x86::panels::PanelRows;
use crate::kernels::isa::x86::{X86, byte_of_lanes};
use crate::kernels::packing::BLOCK;
use crate::kernels::products::ActBlock;

impl Vector for Avx2 {
    const LANES: usize = LANES;
    const SQUARE: usize = 8;
    const HAS_NIBBLES: bool = false;
    type Floats = __m256;
    type Codes = __m256i;

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn run<T: Task>(task: T) {
        // SAFETY: the caller's promise.
        unsafe { task.work() };
    }

    operations! {
        fn zero() -> __m256 { _mm256_setzero_ps() }
        fn product(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn times(a: __m256, b: f32) -> __m256 { _mm256_mul_ps(a, _mm256_set1_ps(b)) }
        fn negative_product(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(_mm256_xor_ps(_mm256_set1_ps(-0.0), a), b)
        }
        fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }

        fn floats(at: *const f32) -> __m256 { _mm256_loadu_ps(at) }
        fn halves(at: *const u8) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        fn brain_floats(at: *const u8) -> __m256 {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
        fn bytes(at: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())))
        }
        fn signed_bytes(at: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())))
        }
        fn nibble_pair(at: *const u8) -> (__m256, __m256) {
            let both = _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()));
            let low = _mm256_and_si256(both, _mm256_set1_epi32(15));
            (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(both)))
        }

        fn line(at: *const u8) -> __m256i { _mm256_load_si256(at.cast()) }
        fn store_line(to: *mut u8, codes: __m256i) { _mm256_store_si256(to.cast(), codes) }
        fn field(line: __m256i, shift: usize, width: usize) -> __m256i {
            if width == 8 {
                return line;
            }
            let moved = _mm256_srlv_epi32(line, _mm256_set1_epi32(shift as i32));
            _mm256_and_si256(moved, _mm256_set1_epi8(((1 << width) - 1) as i8))
        }
        fn with_bit(codes: __m256i, line: __m256i, from: usize, to: usize) -> __m256i {
            let moved = if from >= to {
                _mm256_srlv_epi32(line, _mm256_set1_epi32((from - to) as i32))
            } else {
                _mm256_sllv_epi32(line, _mm256_set1_epi32((to - from) as i32))
            };
            _mm256_or_si256(codes, _mm256_and_si256(moved, _mm256_set1_epi8(1 << to)))
        }
        fn byte(codes: __m256i, j: usize) -> __m256 {
            let lanes = _mm256_broadcastsi128_si256(byte_of_lanes(j));
            _mm256_cvtepi32_ps(_mm256_shuffle_epi8(codes, lanes))
        }
        fn nibble(line: __m256i, shift: usize, j: usize) -> __m256 {
            Self::byte(Self::field(line, shift, 4), j)
        }

        fn store(to: *mut f32, values: __m256) { _mm256_storeu_ps(to, values) }
        fn store_transposed(columns: &[__m256; 16], to: *mut f32, stride: usize) {
            let &[a, b, c, d, e, f, g, h, ..] = columns;
            for (r, row) in transpose(&[a, b, c, d, e, f, g, h]).into_iter().enumerate() {
                _mm256_storeu_ps(to.add(r * stride), row);
            }
        }
    }
}

impl X86 for Avx2 {
    /// 12 of 16 registers are sums.
    const ROWS: usize = 6;
    const PANEL_AHEAD: usize = 0;
    const MOST_HALF_ROWS: Option<usize> = None;
    const CODES_AHEAD: usize = 0;
    const DECODED_ROWS: Option<usize> = None;

    operations! {
        fn splat(value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn from_integers(values: __m256i) -> __m256 { _mm256_cvtepi32_ps(values) }
        fn load_first(at: *const f32, width: usize) -> __m256 {
            _mm256_maskload_ps(at, mask(width))
        }
        fn store_first(at: *mut f32, width: usize, values: __m256) {
            if width >= LANES {
                _mm256_storeu_ps(at, values);
            } else {
                _mm256_maskstore_ps(at, mask(width), values);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_rows<P: Value>(rows: usize, job: PanelRows<P>) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => job.multiply::<Self, 1, 4>(),
                2 => job.multiply::<Self, 2, 2>(),
                3 => job.multiply::<Self, 3, 2>(),
                4 => job.multiply::<Self, 4, 1>(),
                5 => job.multiply::<Self, 5, 1>(),
                _ => job.multiply::<Self, 6, 1>(),
            }
        }
    }

    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
        // SAFETY: the caller's promise.
        unsafe { int8::quantize_block(values, to) };
    }

    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
        debug_assert!(w.decoded.is_none(), "codes were decoded in vain");
        // SAFETY: the caller's promise.
        unsafe { int8::multiply_int8(w.matrix, w.tile, group, c) };
    }
}

/// The lanes of a register that hold the first `width` columns.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn mask(width: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let width = _mm256_set1_epi32(width.min(LANES) as i32);
        _mm256_cmpgt_epi32(width, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }
}

/// The transpose of an 8 x 8 matrix of rows.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: &[__m256; 8]) -> [__m256; 8] {
    // Within 128-bit lanes: pairs, then quadruples of rows.
    let mut quads = [_mm256_setzero_ps(); 8];
    for q in 0..2 {
        let [a, b, c, d] = [rows[4 * q], rows[4 * q + 1], rows[4 * q + 2], rows[4 * q + 3]];
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        // quads[2 i + q]: column 4 l + i of rows 4 q .. 4 q + 4 in 128-bit lane l.
        quads[q] = _mm256_shuffle_ps::<0b0100_0100>(ab_low, cd_low);
        quads[2 + q] = _mm256_shuffle_ps::<0b1110_1110>(ab_low, cd_low);
        quads[4 + q] = _mm256_shuffle_ps::<0b0100_0100>(ab_high, cd_high);
        quads[6 + q] = _mm256_shuffle_ps::<0b1110_1110>(ab_high, cd_high);
    }
    // Then gather the 128-bit lanes.
    let mut out = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        out[i] = _mm256_permute2f128_ps::<0x20>(quads[2 * i], quads[2 * i + 1]);
        out[4 + i] = _mm256_permute2f128_ps::<0x31>(quads[2 * i], quads[2 * i + 1]);
    }
    out
}
