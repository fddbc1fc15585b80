//! Packed bytes → registers, one type per layout so that everything is known at compile time.
//!
//! All functions are inlined into a [`Task`](super::Task) or a function that enables the set's instructions;
//! nothing here checks bounds. No closures and no `array::map` here: where the compiler does not inline one,
//! every instruction inside becomes a call.

use std::marker::PhantomData;

use super::{Vector, View};
use crate::kernels::packing::{CODE_LINES, LINE, SUPER, TILE};

/// `w = d·q + m` for the rows of a register.
#[derive(Clone, Copy)]
pub(in crate::kernels::isa) struct Affine<V: Vector> {
    pub(in crate::kernels::isa) d: V::Floats,
    pub(in crate::kernels::isa) m: V::Floats,
}

/// How the blocks of a matrix are stored.
///
/// # Safety
/// All functions here and in the traits built on this one: the set's instructions are there, `block` is a block of
/// the matrix that `v` views, its layout is this one, and `g` is below 8.
pub(in crate::kernels::isa) trait Layout<V: Vector> {
    /// Whether the two halves of a block have scales of their own.
    const SPLIT: bool;
    /// Bytes of a block's codes, and of a row's in each run of 16.
    const CODE_BYTES: usize;
    const CODE_ROW: usize;
    /// Bytes of a block's own scales, and of a row's in each run of 16.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "x86 alone prefetches"))]
    const SUB_BYTES: usize;
    const SUB_ROW: usize;
    /// Whether reading codes ahead of computing may gain something.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "x86 alone prefetches"))]
    const AHEAD: bool;

    /// The scales of both halves.
    unsafe fn scales(v: &View, block: usize) -> [Affine<V>; 2];
}

/// Layouts that decode to f32.
///
/// # Safety
/// As [`Layout`].
pub(in crate::kernels::isa) trait Reader<V: Vector>: Layout<V> {
    /// Columns `4 g .. 4 g + 4` as f32.
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine<V>; 2]) -> [V::Floats; 4];
}

/// Layouts with integer codes.
///
/// # Safety
/// As [`Layout`].
pub(in crate::kernels::isa) trait CodeReader<V: Vector>: Layout<V> {
    /// Bits of a code.
    const BITS: usize;
    /// Whether `m = -d·2^(BITS - 1)`: codes stand for signed numbers.
    #[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "x86 multiplies unsigned codes"))]
    const SIGNED: bool;

    /// The codes of columns `4 g .. 4 g + 4`, as bytes of each 32-bit lane.
    unsafe fn codes(v: &View, block: usize, g: usize) -> V::Codes;
}

/// `LOW` bits together and `PLANES` single bits, with scales as `S` reads them.
pub(in crate::kernels::isa) struct Bits<const LOW: usize, const PLANES: usize, S>(PhantomData<S>);

/// Float weights of type [`F32`], [`F16`] or [`BF16`].
pub(in crate::kernels::isa) struct Float<const TYPE: u8>;
pub(in crate::kernels::isa) const F32: u8 = 0;
pub(in crate::kernels::isa) const F16: u8 = 1;
pub(in crate::kernels::isa) const BF16: u8 = 2;

/// Reads scales; the variants of [`crate::kernels::packing::Scales`].
///
/// # Safety
/// As [`Layout`].
pub(in crate::kernels::isa) trait ScaleReader<V: Vector> {
    /// As in [`Layout`].
    const SPLIT: bool;
    /// As in [`CodeReader`].
    #[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "as there"))]
    const SIGNED: bool = false;
    const SUB_BYTES: usize = 2 * TILE;
    const SUB_ROW: usize;

    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2];
}

pub(in crate::kernels::isa) struct Half;
pub(in crate::kernels::isa) struct Pair;
pub(in crate::kernels::isa) struct Super;
pub(in crate::kernels::isa) struct Signed16;
pub(in crate::kernels::isa) struct Pair16;

impl<V: Vector> ScaleReader<V> for Half {
    const SPLIT: bool = false;
    const SIGNED: bool = true;
    const SUB_ROW: usize = 2;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise; a block has 16 f16 here.
        unsafe {
            let d = V::halves(v.subs.add(block * <Self as ScaleReader<V>>::SUB_BYTES));
            [Affine { d, m: V::times(d, -v.offset) }; 2]
        }
    }
}

impl<V: Vector> ScaleReader<V> for Pair {
    const SPLIT: bool = false;
    const SUB_BYTES: usize = 4 * TILE;
    const SUB_ROW: usize = 2;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise; a block has 2 x 16 f16 here.
        unsafe {
            let at = v.subs.add(block * <Self as ScaleReader<V>>::SUB_BYTES);
            [Affine { d: V::halves(at), m: V::halves(at.add(2 * TILE)) }; 2]
        }
    }
}

impl<V: Vector> ScaleReader<V> for Super {
    const SPLIT: bool = false;
    const SUB_ROW: usize = 1;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE);
            let sub = v.subs.add(block * <Self as ScaleReader<V>>::SUB_BYTES);
            let d = V::product(V::halves(over), V::bytes(sub));
            let minimum = V::halves(over.add(2 * TILE));
            [Affine { d, m: V::negative_product(minimum, V::bytes(sub.add(TILE))) }; 2]
        }
    }
}

/// Half a block of [`Signed16`], its scales at `at`.
#[inline(always)]
unsafe fn signed_half<V: Vector>(over: V::Floats, offset: f32, at: *const u8) -> Affine<V> {
    // SAFETY: the caller points at a signed byte for each row.
    unsafe {
        let d = V::product(over, V::signed_bytes(at));
        Affine { d, m: V::times(d, -offset) }
    }
}

/// Half a block of [`Pair16`], its scales at `at`.
#[inline(always)]
unsafe fn nibble_half<V: Vector>(scale: V::Floats, minimum: V::Floats, at: *const u8) -> Affine<V> {
    // SAFETY: the caller points at a byte for each row.
    unsafe {
        let (s, n) = V::nibble_pair(at);
        Affine { d: V::product(scale, s), m: V::negative_product(minimum, n) }
    }
}

impl<V: Vector> ScaleReader<V> for Signed16 {
    const SPLIT: bool = true;
    const SIGNED: bool = true;
    const SUB_ROW: usize = 1;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise; 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = V::halves(v.supers.add(block / SUPER * 2 * TILE));
            let sub = v.subs.add(block * <Self as ScaleReader<V>>::SUB_BYTES);
            [signed_half(over, v.offset, sub), signed_half(over, v.offset, sub.add(TILE))]
        }
    }
}

impl<V: Vector> ScaleReader<V> for Pair16 {
    const SPLIT: bool = true;
    const SUB_ROW: usize = 1;

    #[inline(always)]
    unsafe fn read(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise; 2 x 16 f16 per super block, 2 x 16 bytes per block.
        unsafe {
            let over = v.supers.add(block / SUPER * 4 * TILE);
            let (scale, minimum) = (V::halves(over), V::halves(over.add(2 * TILE)));
            let sub = v.subs.add(block * <Self as ScaleReader<V>>::SUB_BYTES);
            [nibble_half(scale, minimum, sub), nibble_half(scale, minimum, sub.add(TILE))]
        }
    }
}

impl<V: Vector, const LOW: usize, const PLANES: usize, S: ScaleReader<V>> CodeReader<V>
    for Bits<LOW, PLANES, S>
{
    const BITS: usize = LOW + PLANES;
    const SIGNED: bool = S::SIGNED;

    #[inline(always)]
    unsafe fn codes(v: &View, block: usize, g: usize) -> V::Codes {
        // SAFETY: the caller's promise; a block has LOW + PLANES lines, and g % LOW < LOW.
        unsafe {
            let lines = v.codes.add(block * <Self as Layout<V>>::CODE_BYTES);
            let line = V::line(lines.add(g % LOW * LINE));
            let mut codes = V::field(line, LOW * (g / LOW), LOW);
            for plane in 0..PLANES {
                let line = V::line(lines.add((LOW + plane) * LINE));
                codes = V::with_bit(codes, line, g, LOW + plane);
            }
            codes
        }
    }
}

impl<V: Vector, const LOW: usize, const PLANES: usize, S: ScaleReader<V>> Layout<V>
    for Bits<LOW, PLANES, S>
{
    const SPLIT: bool = S::SPLIT;
    const CODE_BYTES: usize = LINE * (LOW + PLANES);
    const CODE_ROW: usize = LINE / TILE;
    const SUB_BYTES: usize = S::SUB_BYTES;
    const SUB_ROW: usize = S::SUB_ROW;
    const AHEAD: bool = true;

    #[inline(always)]
    unsafe fn scales(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise.
        unsafe { S::read(v, block) }
    }
}

impl<V: Vector, const LOW: usize, const PLANES: usize, S: ScaleReader<V>> Reader<V>
    for Bits<LOW, PLANES, S>
{
    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, scales: &[Affine<V>; 2]) -> [V::Floats; 4] {
        // SAFETY: the caller's promise; a block has LOW + PLANES lines, and g % LOW < LOW.
        unsafe {
            let Affine { d, m } = scales[g / 4];
            let mut weights = [V::zero(); 4];
            if V::HAS_NIBBLES && LOW == 4 && PLANES == 0 {
                let line = V::line(v.codes.add((block * LOW + g % LOW) * LINE));
                for (j, w) in weights.iter_mut().enumerate() {
                    *w = V::multiply_add(V::nibble(line, LOW * (g / LOW), j), d, m);
                }
            } else {
                let codes = <Self as CodeReader<V>>::codes(v, block, g);
                for (j, w) in weights.iter_mut().enumerate() {
                    *w = V::multiply_add(V::byte(codes, j), d, m);
                }
            }
            weights
        }
    }
}

/// Codes of `R` that have been [decoded to bytes](super::decode), with its scales.
pub(in crate::kernels::isa) struct Decoded<R>(PhantomData<R>);

impl<V: Vector, R: CodeReader<V>> CodeReader<V> for Decoded<R> {
    const BITS: usize = R::BITS;
    const SIGNED: bool = R::SIGNED;

    #[inline(always)]
    unsafe fn codes(v: &View, block: usize, g: usize) -> V::Codes {
        // SAFETY: the caller's promise.
        unsafe { V::line(v.codes.wrapping_add((block * CODE_LINES + g) * LINE)) }
    }
}

impl<V: Vector, R: CodeReader<V>> Layout<V> for Decoded<R> {
    const SPLIT: bool = R::SPLIT;
    const CODE_BYTES: usize = CODE_LINES * LINE;
    const CODE_ROW: usize = LINE / TILE;
    const SUB_BYTES: usize = R::SUB_BYTES;
    const SUB_ROW: usize = R::SUB_ROW;
    const AHEAD: bool = false;

    #[inline(always)]
    unsafe fn scales(v: &View, block: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise.
        unsafe { R::scales(v, block) }
    }
}

impl<const TYPE: u8> Float<TYPE> {
    /// Bytes of a value.
    const BYTES: usize = if TYPE == F32 { 4 } else { 2 };
}

impl<V: Vector, const TYPE: u8> Layout<V> for Float<TYPE> {
    const SPLIT: bool = false;
    const CODE_BYTES: usize = 8 * 4 * TILE * Self::BYTES;
    const CODE_ROW: usize = Self::BYTES;
    const SUB_BYTES: usize = 0;
    const SUB_ROW: usize = 0;
    const AHEAD: bool = false;

    #[inline(always)]
    unsafe fn scales(_: &View, _: usize) -> [Affine<V>; 2] {
        // SAFETY: the caller's promise.
        let zero = unsafe { V::zero() };
        [Affine { d: zero, m: zero }; 2]
    }
}

impl<V: Vector, const TYPE: u8> Reader<V> for Float<TYPE> {
    #[inline(always)]
    unsafe fn weights(v: &View, block: usize, g: usize, _: &[Affine<V>; 2]) -> [V::Floats; 4] {
        // SAFETY: the caller's promise; a block has 32 x 16 values.
        unsafe {
            let at = v.codes.add((block * 8 + g) * 4 * TILE * Self::BYTES);
            let mut weights = [V::zero(); 4];
            for (j, w) in weights.iter_mut().enumerate() {
                let at = at.add(j * TILE * Self::BYTES);
                *w = match TYPE {
                    F32 => V::floats(at.cast()),
                    F16 => V::halves(at),
                    _ => V::brain_floats(at),
                };
            }
            weights
        }
    }
}
