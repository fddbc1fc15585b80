//! Packed bytes → registers, one type per layout so that everything is known at compile time.
//!
//! A tile is read in two parts of 8 rows, a register of four for each of two quads. All functions are
//! inlined; nothing here checks bounds.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use crate::kernels::layout::{LINE, SUPER, TILE};
use crate::kernels::view::View;

/// Rows of a part.
pub(super) const PART: usize = 8;

/// Values of the 8 rows of a part.
pub(super) type Rows = [float32x4_t; 2];

/// `w = d·q + m` for 8 rows.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) d: Rows,
    pub(super) m: Rows,
}

/// Reads the blocks of one layout.
///
/// # Safety
/// All functions: `block` is a block of the matrix that `v` views, its layout is this reader's,
/// `part` is below 2 and `g` below 8.
pub(super) trait Reader {
    /// Whether the two halves of a block have scales of their own.
    const SPLIT: bool;

    /// The scales of both halves.
    unsafe fn scales(v: &View, block: usize, part: usize) -> [Affine; 2];

    /// Columns `4 g .. 4 g + 4` as f32.
    unsafe fn weights(
        v: &View,
        block: usize,
        part: usize,
        g: usize,
        scales: &[Affine; 2],
    ) -> [Rows; 4];
}

/// Layouts with integer codes.
///
/// # Safety
/// As [`Reader`].
pub(super) trait CodeReader: Reader {
    /// Bits of a code.
    const BITS: usize;

    /// The codes of columns `4 g .. 4 g + 4`, as bytes of each 32-bit lane.
    unsafe fn codes(v: &View, block: usize, part: usize, g: usize) -> [uint8x16_t; 2];
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
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2];
}

pub(super) struct Half;
pub(super) struct Pair;
pub(super) struct Super;
pub(super) struct Signed16;
pub(super) struct Pair16;

/// 8 f16 values.
#[inline(always)]
unsafe fn halves(at: *const u8) -> Rows {
    // SAFETY: the caller points at 16 bytes.
    unsafe {
        let at = at.cast::<u16>();
        [at, at.add(4)].map(|at| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))))
    }
}

/// 8 unsigned bytes.
#[inline(always)]
unsafe fn bytes(at: *const u8) -> Rows {
    // SAFETY: the caller points at 8 bytes.
    unsafe { numbers(vld1_u8(at)) }
}

#[inline(always)]
fn numbers(bytes: uint8x8_t) -> Rows {
    // SAFETY: every aarch64 target has NEON.
    unsafe {
        let wide = vmovl_u8(bytes);
        [vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide))]
    }
}

#[inline(always)]
fn product(a: Rows, b: Rows) -> Rows {
    // SAFETY: every aarch64 target has NEON.
    unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
}

/// `-a·b`, exact for the operands here.
#[inline(always)]
fn negative_product(a: Rows, b: Rows) -> Rows {
    // SAFETY: every aarch64 target has NEON.
    product(a, b).map(|p| unsafe { vnegq_f32(p) })
}

#[inline(always)]
fn times(a: Rows, b: f32) -> Rows {
    // SAFETY: every aarch64 target has NEON.
    unsafe { [vmulq_n_f32(a[0], b), vmulq_n_f32(a[1], b)] }
}

impl ScaleReader for Half {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; a block has 16 f16 here.
        let d = unsafe { halves(v.subs.add(block * 2 * TILE + part * 2 * PART)) };
        [Affine { d, m: times(d, -v.offset) }; 2]
    }
}

impl ScaleReader for Pair {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; a block has 2 x 16 f16 here.
        unsafe {
            let at = v.subs.add(block * 4 * TILE + part * 2 * PART);
            [Affine { d: halves(at), m: halves(at.add(2 * TILE)) }; 2]
        }
    }
}

impl ScaleReader for Super {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE + part * 2 * PART);
            let sub = v.subs.add(block * 2 * TILE + part * PART);
            let d = product(halves(over), bytes(sub));
            let m = negative_product(halves(over.add(2 * TILE)), bytes(sub.add(TILE)));
            [Affine { d, m }; 2]
        }
    }
}

/// Half a block of [`Signed16`], its scales at `at`.
#[inline(always)]
unsafe fn signed_half(over: Rows, offset: f32, at: *const u8) -> Affine {
    // SAFETY: the caller points at 8 bytes.
    let scale = unsafe {
        let wide = vmovl_s8(vld1_s8(at.cast()));
        [vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)].map(|s| vcvtq_f32_s32(s))
    };
    let d = product(over, scale);
    Affine { d, m: times(d, -offset) }
}

/// Half a block of [`Pair16`], its scales at `at`.
#[inline(always)]
unsafe fn nibble_half(scale: Rows, minimum: Rows, at: *const u8) -> Affine {
    // SAFETY: the caller points at 8 bytes.
    let (s, n) = unsafe {
        let both = vld1_u8(at);
        (numbers(vand_u8(both, vdup_n_u8(15))), numbers(vshr_n_u8::<4>(both)))
    };
    Affine { d: product(scale, s), m: negative_product(minimum, n) }
}

impl ScaleReader for Signed16 {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = halves(v.supers.add(block / SUPER * 2 * TILE + part * 2 * PART));
            let sub = v.subs.add(block * 2 * TILE + part * PART);
            [signed_half(over, v.offset, sub), signed_half(over, v.offset, sub.add(TILE))]
        }
    }
}

impl ScaleReader for Pair16 {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE + part * 2 * PART);
            let (scale, minimum) = (halves(over), halves(over.add(2 * TILE)));
            let sub = v.subs.add(block * 2 * TILE + part * PART);
            [nibble_half(scale, minimum, sub), nibble_half(scale, minimum, sub.add(TILE))]
        }
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

/// The two registers of a part of a line.
#[inline(always)]
unsafe fn line(at: *const u8, part: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller points at 64 bytes, of which a part has 32.
    unsafe {
        let at = at.add(part * 4 * PART);
        [vld1q_u8(at), vld1q_u8(at.add(16))]
    }
}

impl<const LOW: usize, const PLANES: usize, S: ScaleReader> CodeReader for Bits<LOW, PLANES, S> {
    const BITS: usize = LOW + PLANES;

    #[inline(always)]
    unsafe fn codes(v: &View, block: usize, part: usize, g: usize) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise; a block has LOW + PLANES lines, and g % LOW < LOW.
        unsafe {
            let lines = v.codes.add(block * LINE * (LOW + PLANES));
            let mut codes = line(lines.add(g % LOW * LINE), part);
            let shift = LOW * (g / LOW);
            for q in &mut codes {
                *q = shifted(*q, -(shift as i32));
                if shift + LOW < 8 {
                    *q = vandq_u8(*q, vdupq_n_u8(((1u16 << LOW) - 1) as u8));
                }
            }
            for plane in 0..PLANES {
                let bit = LOW + plane;
                let bits = line(lines.add(bit * LINE), part);
                for (q, bits) in codes.iter_mut().zip(bits) {
                    let moved = shifted(bits, bit as i32 - g as i32);
                    *q = vbslq_u8(vdupq_n_u8(1 << bit), moved, *q);
                }
            }
            codes
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

impl<const LOW: usize, const PLANES: usize, S: ScaleReader> Reader for Bits<LOW, PLANES, S> {
    const SPLIT: bool = S::SPLIT;

    #[inline(always)]
    unsafe fn scales(v: &View, block: usize, part: usize) -> [Affine; 2] {
        // SAFETY: the caller's promise.
        unsafe { S::read(v, block, part) }
    }

    #[inline(always)]
    unsafe fn weights(
        v: &View,
        block: usize,
        part: usize,
        g: usize,
        scales: &[Affine; 2],
    ) -> [Rows; 4] {
        let Affine { d, m } = scales[g / 4];
        // Nibbles need not be taken apart first.
        let whole = LOW == 4 && PLANES == 0;
        let (width, shift) = if whole { (4, 4 * (g / 4)) } else { (8, 0) };
        // SAFETY: the caller's promise.
        unsafe {
            let codes = if whole {
                line(v.codes.add((block * LOW + g % LOW) * LINE), part)
            } else {
                Self::codes(v, block, part, g)
            };
            let mut weights = [[vdupq_n_f32(0.0); 2]; 4];
            for (j, w) in weights.iter_mut().enumerate() {
                for (i, w) in w.iter_mut().enumerate() {
                    *w = vfmaq_f32(m[i], field(codes[i], width, shift, j), d[i]);
                }
            }
            weights
        }
    }
}

impl<const TYPE: u8> Reader for Float<TYPE> {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn scales(_: &View, _: usize, _: usize) -> [Affine; 2] {
        // SAFETY: every aarch64 target has NEON.
        let zero = unsafe { [vdupq_n_f32(0.0); 2] };
        [Affine { d: zero, m: zero }; 2]
    }

    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, part: usize, g: usize, _: &[Affine; 2]) -> [Rows; 4] {
        let bytes = if TYPE == F32 { 4 } else { 2 };
        // SAFETY: the caller's promise; a block has 32 x 16 values.
        unsafe {
            let at = v.codes.add(((block * 8 + g) * 4 * TILE + part * PART) * bytes);
            let mut weights = [[vdupq_n_f32(0.0); 2]; 4];
            for (j, w) in weights.iter_mut().enumerate() {
                let at = at.add(j * TILE * bytes);
                *w = match TYPE {
                    F32 => [vld1q_f32(at.cast()), vld1q_f32(at.add(16).cast())],
                    F16 => halves(at),
                    _ => [at, at.add(8)]
                        .map(|at| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast())))),
                };
            }
            weights
        }
    }
}
