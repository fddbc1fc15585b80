//! x86-64: AVX2, AVX-512 and AMX.
//!
//! [`panels`] has the f32 products of the two vector sets, written once for both; what differs is in their
//! `registers`, and their int8 products are their own.

pub(in crate::kernels) mod amx;
pub(super) mod avx2;
pub(super) mod avx512;
mod panels;

use std::arch::x86_64::*;

use self::panels::PanelRows;
use super::dispatch::Operations;
use super::operands::{CodeTile, Left, Output, Value};
use super::vector::readers::{Affine, Layout};
use super::vector::{Vector, View};
use crate::kernels::packing::{BLOCK, LINE, PackedMatrix};
use crate::kernels::products::ActBlock;

/// What the products of x86 processors need besides [`Vector`].
///
/// # Safety
/// As [`Vector`].
trait X86: Vector {
    /// Rows of the left operand that are multiplied with a panel at once, with two registers of sums each.
    const ROWS: usize;
    /// Values by which reading a panel runs ahead of computing; 0 if that gains nothing.
    const PANEL_AHEAD: usize;
    /// Bytes by which reading packed weights runs ahead of computing; 0 if that gains nothing.
    const CODES_AHEAD: usize;

    /// As [`Operations::MOST_HALF_ROWS`].
    const MOST_HALF_ROWS: Option<usize>;
    /// As [`Operations::DECODED_ROWS`].
    const DECODED_ROWS: Option<usize>;

    unsafe fn splat(value: f32) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// 32-bit integers as f32.
    unsafe fn from_integers(values: Self::Codes) -> Self::Floats;
    /// The first `width` values, at most all lanes; zero in the other lanes. Their memory is not touched.
    unsafe fn load_first(at: *const f32, width: usize) -> Self::Floats;
    /// Writes the first `width` lanes, at most all.
    unsafe fn store_first(at: *mut f32, width: usize, values: Self::Floats);
    /// Multiplies `rows` rows, at most [`Self::ROWS`], with as many sums per value as hide the latency of
    /// additions.
    unsafe fn multiply_rows<P: Value>(rows: usize, job: PanelRows<P>);

    /// See [`Operations::quantize_block`].
    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock);
    /// See [`Operations::multiply_int8`].
    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output);
}

impl<X: X86> Operations for X {
    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
        // SAFETY: the caller's promise.
        unsafe { <X as X86>::quantize_block(values, to) };
    }

    const MOST_HALF_ROWS: Option<usize> = <X as X86>::MOST_HALF_ROWS;
    const DECODED_ROWS: Option<usize> = <X as X86>::DECODED_ROWS;

    unsafe fn multiply_panel<P: Value>(
        a: Left<'_>,
        panel: &[P],
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { panels::multiply_panel::<X, P>(a, panel, c, width, accumulate) };
    }

    unsafe fn multiply_fused(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output) {
        // SAFETY: the caller's promise.
        unsafe { panels::multiply_fused::<X>(w, tile, a, c) };
    }

    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
        // SAFETY: the caller's promise.
        unsafe { <X as X86>::multiply_int8(w, group, c) };
    }
}

/// Asks for the codes of the block [`X86::CODES_AHEAD`] bytes further on, and for its scales. Whole cache lines
/// in a row, as float weights are, need no hint, nor does what was written just before.
#[inline(always)]
fn prefetch<X: X86, R: Layout<X>>(v: &View, block: usize) {
    if X::CODES_AHEAD == 0 || !R::AHEAD {
        return;
    }
    let (codes, subs) = v.block::<X, R>(block + X::CODES_AHEAD / R::CODE_BYTES);
    for line in (0..R::CODE_BYTES).step_by(LINE) {
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(line).cast()) };
    }
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(subs.cast()) };
}

/// `sum + dot·d_w·d_x + m_w·(d_x Σ q_x)`
///
/// # Safety
/// As [`X86`].
#[inline(always)]
unsafe fn add_scaled<X: X86>(
    sum: X::Floats,
    dot: X::Codes,
    w: Affine<X>,
    d_x: f32,
    sum_x: f32,
) -> X::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = X::times(w.d, d_x);
        let sum = X::multiply_add(X::from_integers(dot), scale, sum);
        X::multiply_add(w.m, X::splat(sum_x), sum)
    }
}

/// For a shuffle within 128 bits: byte `j` of every 32-bit lane moves to its bottom, the rest is cleared.
#[inline(always)]
fn byte_of_lanes(j: usize) -> __m128i {
    let lane = |i: i32| i32::from_le_bytes([(4 * i) as u8 + j as u8, 0x80, 0x80, 0x80]);
    // SAFETY: every x86-64 target has SSE2.
    unsafe { _mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)) }
}
