//! Packed bytes → registers, one type per layout so that everything is known at compile time.
//!
//! All functions are inlined into callers that enable AVX2, FMA and F16C; nothing here checks
//! bounds. No closures and no `array::map` here: where the compiler does not inline one, every
//! instruction inside becomes a call.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::kernels::layout::{Codes, LINE, PackedMatrix, SUPER, Scales, TILE};

/// The addresses of a matrix's parts, each moved on to the first of the 8 rows that are
/// read of every tile.
#[derive(Clone, Copy)]
pub(super) struct View {
    codes: *const u8,
    subs: *const u8,
    supers: *const u8,
    pub(super) offset: f32,
}

impl View {
    /// Rows `first .. first + 8` of each tile; `first` is 0 or 8.
    pub(super) fn of(w: &PackedMatrix, first: usize) -> Self {
        let (code_bytes, sub_bytes) = match (w.codes, w.scales) {
            (Codes::F16 | Codes::Bf16, _) => (2, 0),
            (Codes::F32, _) => (4, 0),
            (Codes::Bits { .. }, Scales::Half { .. } | Scales::Pair) => (4, 2),
            (Codes::Bits { .. }, _) => (4, 1),
        };
        Self {
            codes: w.code_bytes.bytes().as_ptr().wrapping_add(first * code_bytes),
            subs: w.sub_bytes.bytes().as_ptr().wrapping_add(first * sub_bytes),
            supers: w.super_bytes.bytes().as_ptr().wrapping_add(first * 2),
            offset: w.scales.offset(),
        }
    }
}

/// `w = d·q + m` for 8 rows.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) d: __m256,
    pub(super) m: __m256,
}

/// Reads the blocks of one layout.
///
/// # Safety
/// All functions: AVX2, FMA and F16C are there, `block` is a block of the matrix that `v` views,
/// its layout is this reader's, and `g` is below 8.
pub(super) trait Reader {
    /// Whether the two halves of a block have scales of their own.
    const SPLIT: bool;

    /// The scales of both halves.
    unsafe fn scales(v: &View, block: usize) -> [Affine; 2];

    /// Columns `4 g .. 4 g + 4` as f32.
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine; 2]) -> [__m256; 4];
}

/// Layouts with integer codes.
///
/// # Safety
/// As [`Reader`].
pub(super) trait CodeReader: Reader {
    /// Bits of a code.
    const BITS: usize;

    /// The codes of columns `4 g .. 4 g + 4`, as bytes of each 32-bit lane.
    unsafe fn codes(v: &View, block: usize, g: usize) -> __m256i;
}

/// `LOW` bits together and `PLANES` single bits, with scales as `S` reads them.
pub(super) struct Bits<const LOW: usize, const PLANES: usize, S>(PhantomData<S>);

/// Float weights of type [`F32`], [`F16`] or [`BF16`].
pub(super) struct Float<const TYPE: u8>;
pub(super) const F32: u8 = 0;
pub(super) const F16: u8 = 1;
pub(super) const BF16: u8 = 2;

/// Reads scales; the variants of [`crate::kernels::layout::Scales`].
///
/// # Safety
/// As [`Reader`].
pub(super) trait ScaleReader {
    const SPLIT: bool;
    unsafe fn read(v: &View, block: usize) -> [Affine; 2];
}

pub(super) struct Half;
pub(super) struct Pair;
pub(super) struct Super;
pub(super) struct Signed16;
pub(super) struct Pair16;

#[inline(always)]
unsafe fn halves(at: *const u8) -> __m256 {
    // SAFETY: the caller points at 8 f16 values.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
}

#[inline(always)]
unsafe fn bytes(at: *const u8) -> __m256i {
    // SAFETY: the caller points at 8 bytes.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())) }
}

/// `-a·b`, exact for the operands here.
#[inline(always)]
unsafe fn negative_product(a: __m256, b: __m256) -> __m256 {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_mul_ps(_mm256_xor_ps(_mm256_set1_ps(-0.0), a), b) }
}

impl ScaleReader for Half {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; a block has 16 f16 here, of which 8 from `v.subs` on.
        unsafe {
            let d = halves(v.subs.add(block * 2 * TILE));
            let m = _mm256_mul_ps(d, _mm256_set1_ps(-v.offset));
            [Affine { d, m }; 2]
        }
    }
}

impl ScaleReader for Pair {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; a block has 2 x 16 f16 here.
        unsafe {
            let at = v.subs.add(block * 4 * TILE);
            [Affine { d: halves(at), m: halves(at.add(2 * TILE)) }; 2]
        }
    }
}

impl ScaleReader for Super {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE);
            let sub = v.subs.add(block * 2 * TILE);
            let d = _mm256_mul_ps(halves(over), _mm256_cvtepi32_ps(bytes(sub)));
            let n = _mm256_cvtepi32_ps(bytes(sub.add(TILE)));
            [Affine { d, m: negative_product(halves(over.add(2 * TILE)), n) }; 2]
        }
    }
}

/// Half a block of [`Signed16`], its scales at `at`.
#[inline(always)]
unsafe fn signed_half(over: __m256, offset: __m256, at: *const u8) -> Affine {
    // SAFETY: the caller points at 8 bytes.
    unsafe {
        let scale = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
        let d = _mm256_mul_ps(over, _mm256_cvtepi32_ps(scale));
        Affine { d, m: _mm256_mul_ps(d, offset) }
    }
}

/// Half a block of [`Pair16`], its scales at `at`.
#[inline(always)]
unsafe fn nibble_half(scale: __m256, minimum: __m256, at: *const u8) -> Affine {
    // SAFETY: the caller points at 8 bytes.
    unsafe {
        let both = bytes(at);
        let s = _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15)));
        let n = _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(both));
        Affine { d: _mm256_mul_ps(scale, s), m: negative_product(minimum, n) }
    }
}

impl ScaleReader for Signed16 {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = halves(v.supers.add(block / SUPER * 2 * TILE));
            let sub = v.subs.add(block * 2 * TILE);
            let offset = _mm256_set1_ps(-v.offset);
            [signed_half(over, offset, sub), signed_half(over, offset, sub.add(TILE))]
        }
    }
}

impl ScaleReader for Pair16 {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE);
            let (scale, minimum) = (halves(over), halves(over.add(2 * TILE)));
            let sub = v.subs.add(block * 2 * TILE);
            [nibble_half(scale, minimum, sub), nibble_half(scale, minimum, sub.add(TILE))]
        }
    }
}

impl<const LOW: usize, const PLANES: usize, S: ScaleReader> CodeReader for Bits<LOW, PLANES, S> {
    const BITS: usize = LOW + PLANES;

    #[inline(always)]
    unsafe fn codes(v: &View, block: usize, g: usize) -> __m256i {
        // SAFETY: the caller's promise; a block has LOW + PLANES lines, and g % LOW < LOW.
        unsafe {
            let lines = v.codes.add(block * LINE * (LOW + PLANES));
            let line = _mm256_load_si256(lines.add(g % LOW * LINE).cast());
            let mut q = line;
            if LOW < 8 {
                let shift = _mm256_set1_epi32((LOW * (g / LOW)) as i32);
                let mask = _mm256_set1_epi8(((1 << LOW) - 1) as i8);
                q = _mm256_and_si256(_mm256_srlv_epi32(line, shift), mask);
            }
            for plane in 0..PLANES {
                let bit = LOW + plane;
                let line = _mm256_load_si256(lines.add(bit * LINE).cast());
                let moved = if g >= bit {
                    _mm256_srlv_epi32(line, _mm256_set1_epi32((g - bit) as i32))
                } else {
                    _mm256_sllv_epi32(line, _mm256_set1_epi32((bit - g) as i32))
                };
                let bit = _mm256_and_si256(moved, _mm256_set1_epi8(1 << bit));
                q = _mm256_or_si256(q, bit);
            }
            q
        }
    }
}

impl<const LOW: usize, const PLANES: usize, S: ScaleReader> Reader for Bits<LOW, PLANES, S> {
    const SPLIT: bool = S::SPLIT;

    #[inline(always)]
    unsafe fn scales(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise.
        unsafe { S::read(v, block) }
    }

    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine; 2]) -> [__m256; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let Affine { d, m } = scales[g / 4];
            let mut weights = [_mm256_setzero_ps(); 4];
            let codes = Self::codes(v, block, g);
            for (j, w) in weights.iter_mut().enumerate() {
                let q = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(codes, byte_of_lanes(j)));
                *w = _mm256_fmadd_ps(q, d, m);
            }
            weights
        }
    }
}

/// The shuffle that moves byte `j` of every 32-bit lane to its bottom and clears the rest.
#[inline(always)]
unsafe fn byte_of_lanes(j: usize) -> __m256i {
    let lane = |i: i32| i32::from_le_bytes([(4 * i) as u8 + j as u8, 0x80, 0x80, 0x80]);
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_broadcastsi128_si256(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3))) }
}

impl<const TYPE: u8> Reader for Float<TYPE> {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn scales(_: &View, _: usize) -> [Affine; 2] {
        // SAFETY: the caller has AVX2.
        let zero = unsafe { _mm256_setzero_ps() };
        [Affine { d: zero, m: zero }; 2]
    }

    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, _: &[Affine; 2]) -> [__m256; 4] {
        let bytes = if TYPE == F32 { 4 } else { 2 };
        // SAFETY: the caller's promise; a block has 32 x 16 values, of which 32 x 8 are read.
        unsafe {
            let at = v.codes.add((block * 8 + g) * 4 * TILE * bytes);
            let mut weights = [_mm256_setzero_ps(); 4];
            for (j, w) in weights.iter_mut().enumerate() {
                let at = at.add(j * TILE * bytes);
                *w = match TYPE {
                    F32 => _mm256_load_ps(at.cast()),
                    F16 => halves(at),
                    _ => {
                        let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
                    }
                };
            }
            weights
        }
    }
}
