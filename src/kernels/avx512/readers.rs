//! Packed bytes → registers, one type per layout so that everything is known at compile time.
//!
//! All functions are inlined into callers that enable AVX-512; nothing here checks bounds. No
//! closures and no `array::map` here: where the compiler does not inline one, every instruction
//! inside becomes a call.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::kernels::layout::{LINE, SUPER, TILE};
use crate::kernels::view::View;

/// Bytes by which reading runs ahead of computing: about what comes from memory while it is waited
/// for.
const AHEAD: usize = 6 * 1024;

impl View {
    /// Asks for the codes of the block [`AHEAD`] bytes from here, `bytes` long, and for its scales.
    #[inline(always)]
    pub(super) fn prefetch(&self, block: usize, bytes: usize, sub_bytes: usize) {
        let block = block + AHEAD / bytes;
        let at = self.codes.wrapping_add(block * bytes);
        for line in (0..bytes).step_by(LINE) {
            // SAFETY: a hint, which may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast()) };
        }
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(self.subs.wrapping_add(block * sub_bytes).cast()) };
    }
}

/// `w = d·q + m` for 16 rows.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) d: __m512,
    pub(super) m: __m512,
}

/// Reads the blocks of one layout.
///
/// # Safety
/// All functions: AVX-512 F, BW, VL and DQ are there, `block` is a block of the matrix that `v`
/// views, its layout is this reader's, and `g` is below 8.
pub(super) trait Reader {
    /// Whether the two halves of a block have scales of their own.
    const SPLIT: bool;

    /// The scales of both halves.
    unsafe fn scales(v: &View, block: usize) -> [Affine; 2];

    /// Asks for a block further on, so that it is there when it is read.
    fn prefetch(v: &View, block: usize);

    /// Columns `4 g .. 4 g + 4` as f32.
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine; 2]) -> [__m512; 4];
}

/// Layouts with integer codes.
///
/// # Safety
/// As [`Reader`].
pub(super) trait CodeReader: Reader {
    /// The codes of columns `4 g .. 4 g + 4`, as bytes of each 32-bit lane.
    unsafe fn codes(v: &View, block: usize, g: usize) -> __m512i;
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
    /// Bytes of a block's own scales.
    const BYTES: usize = 2 * TILE;
    unsafe fn read(v: &View, block: usize) -> [Affine; 2];
}

pub(super) struct Half;
pub(super) struct Pair;
pub(super) struct Super;
pub(super) struct Signed16;
pub(super) struct Pair16;

/// 16 halves as f32.
///
/// # Safety
/// AVX-512; the values exist.
#[inline(always)]
pub(super) unsafe fn halves(at: *const u8) -> __m512 {
    // SAFETY: the caller points at 16 f16 values.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
}

#[inline(always)]
unsafe fn bytes(at: *const u8) -> __m512i {
    // SAFETY: the caller points at 16 bytes.
    unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())) }
}

/// `-a·b`, exact for the operands here.
#[inline(always)]
unsafe fn negative_product(a: __m512, b: __m512) -> __m512 {
    // SAFETY: the caller has AVX-512.
    unsafe { _mm512_mul_ps(_mm512_sub_ps(_mm512_set1_ps(-0.0), a), b) }
}

impl ScaleReader for Half {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; a block has 16 f16 here.
        unsafe {
            let d = halves(v.subs.add(block * 2 * TILE));
            let m = _mm512_mul_ps(d, _mm512_set1_ps(-v.offset));
            [Affine { d, m }; 2]
        }
    }
}

impl ScaleReader for Pair {
    const SPLIT: bool = false;
    const BYTES: usize = 4 * TILE;

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
            let d = _mm512_mul_ps(halves(over), _mm512_cvtepi32_ps(bytes(sub)));
            let n = _mm512_cvtepi32_ps(bytes(sub.add(TILE)));
            [Affine { d, m: negative_product(halves(over.add(2 * TILE)), n) }; 2]
        }
    }
}

/// Half a block of [`Signed16`], its scales at `at`.
#[inline(always)]
unsafe fn signed_half(over: __m512, offset: __m512, at: *const u8) -> Affine {
    // SAFETY: the caller points at 16 bytes.
    unsafe {
        let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()));
        let d = _mm512_mul_ps(over, _mm512_cvtepi32_ps(scale));
        Affine { d, m: _mm512_mul_ps(d, offset) }
    }
}

/// Half a block of [`Pair16`], its scales at `at`.
#[inline(always)]
unsafe fn nibble_half(scale: __m512, minimum: __m512, at: *const u8) -> Affine {
    // SAFETY: the caller points at 16 bytes.
    unsafe {
        let both = bytes(at);
        let s = _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15)));
        let n = _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(both));
        Affine { d: _mm512_mul_ps(scale, s), m: negative_product(minimum, n) }
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
            let offset = _mm512_set1_ps(-v.offset);
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
    #[inline(always)]
    unsafe fn codes(v: &View, block: usize, g: usize) -> __m512i {
        // SAFETY: the caller's promise; a block has LOW + PLANES lines, and g % LOW < LOW.
        unsafe {
            let lines = v.codes.add(block * LINE * (LOW + PLANES));
            let line = _mm512_load_si512(lines.add(g % LOW * LINE).cast());
            let mut q = line;
            if LOW < 8 {
                let shift = _mm512_set1_epi32((LOW * (g / LOW)) as i32);
                let mask = _mm512_set1_epi8(((1 << LOW) - 1) as i8);
                q = _mm512_and_si512(_mm512_srlv_epi32(line, shift), mask);
            }
            for plane in 0..PLANES {
                let bit = LOW + plane;
                let line = _mm512_load_si512(lines.add(bit * LINE).cast());
                let moved = if g >= bit {
                    _mm512_srlv_epi32(line, _mm512_set1_epi32((g - bit) as i32))
                } else {
                    _mm512_sllv_epi32(line, _mm512_set1_epi32((bit - g) as i32))
                };
                let bit = _mm512_and_si512(moved, _mm512_set1_epi8(1 << bit));
                q = _mm512_or_si512(q, bit);
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
    fn prefetch(v: &View, block: usize) {
        v.prefetch(block, LINE * (LOW + PLANES), S::BYTES);
    }

    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine; 2]) -> [__m512; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let Affine { d, m } = scales[g / 4];
            let mut weights = [_mm512_setzero_ps(); 4];
            if LOW == 4 && PLANES == 0 {
                // A look-up takes its index from the low 4 bits of a lane and ignores the others.
                let table = _mm512_setr_ps(
                    0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.,
                );
                let lines = v.codes.add(block * LINE * LOW);
                let line = _mm512_load_si512(lines.add(g % LOW * LINE).cast());
                for (j, w) in weights.iter_mut().enumerate() {
                    let shift = _mm512_set1_epi32((8 * j + LOW * (g / LOW)) as i32);
                    let q = _mm512_permutexvar_ps(_mm512_srlv_epi32(line, shift), table);
                    *w = _mm512_fmadd_ps(q, d, m);
                }
            } else {
                let codes = Self::codes(v, block, g);
                for (j, w) in weights.iter_mut().enumerate() {
                    let q = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(codes, byte_of_lanes(j)));
                    *w = _mm512_fmadd_ps(q, d, m);
                }
            }
            weights
        }
    }
}

/// The shuffle that moves byte `j` of every 32-bit lane to its bottom and clears the rest.
#[inline(always)]
unsafe fn byte_of_lanes(j: usize) -> __m512i {
    let lane = |i: i32| i32::from_le_bytes([(4 * i) as u8 + j as u8, 0x80, 0x80, 0x80]);
    // SAFETY: the caller has AVX-512.
    unsafe { _mm512_broadcast_i32x4(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3))) }
}

impl<const TYPE: u8> Reader for Float<TYPE> {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn scales(_: &View, _: usize) -> [Affine; 2] {
        // SAFETY: the caller has AVX-512.
        let zero = unsafe { _mm512_setzero_ps() };
        [Affine { d: zero, m: zero }; 2]
    }

    /// Whole cache lines in a row need no hint.
    #[inline(always)]
    fn prefetch(_: &View, _: usize) {}

    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, _: &[Affine; 2]) -> [__m512; 4] {
        let bytes = if TYPE == F32 { 4 } else { 2 };
        // SAFETY: the caller's promise; a block has 32 x 16 values.
        unsafe {
            let at = v.codes.add((block * 8 + g) * 4 * TILE * bytes);
            let mut weights = [_mm512_setzero_ps(); 4];
            for (j, w) in weights.iter_mut().enumerate() {
                let at = at.add(j * TILE * bytes);
                *w = match TYPE {
                    F32 => _mm512_load_ps(at.cast()),
                    F16 => halves(at),
                    _ => {
                        let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                    }
                };
            }
            weights
        }
    }
}
