//! NEON: a tile's 16 rows are the lanes of four registers, taken two at a time.
//!
//! [`registers`] has the operations that reading weights is made of, [`panels`] the f32 products and [`int8`] the
//! 8-bit ones, whose sums of products are made by one of the instructions in [`dots`].
//!
//! Every aarch64 target has NEON itself, so only the functions that use more are unsafe for that
//! reason.

mod dots;
mod int8;
mod panels;
mod registers;

use std::arch::is_aarch64_feature_detected;

use self::dots::{Dotprod, Widening};
use super::dispatch::Operations;
use super::operands::{CodeTile, Left, Output, Value};
use crate::kernels::packing::{BLOCK, PackedMatrix};
use crate::kernels::products::ActBlock;

#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Whether this machine has `sdot`, of the extension `dotprod` (Cortex-A55, A76, A78: Raspberry Pi 5, Jetson
/// Orin), for [`multiply_int8_dotprod`]. Others (Cortex-A53, A72: Raspberry Pi 4) use `smull` and `smlal` to
/// 16 bits, which every processor has.
pub(super) fn dotprod_available() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

impl Operations for Neon {
    const MOST_HALF_ROWS: Option<usize> = Some(15);
    const DECODED_ROWS: Option<usize> = Some(32);

    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
        int8::quantize_block(values, to);
    }

    unsafe fn multiply_panel<P: Value>(
        a: Left<'_>,
        panel: &[P],
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { panels::multiply_panel(a, panel, c, width, accumulate) };
    }

    unsafe fn multiply_fused(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output) {
        // SAFETY: the caller's promise.
        unsafe { panels::multiply_fused(w, tile, a, c) };
    }

    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
        // SAFETY: the caller's promise.
        unsafe { int8::multiply_int8::<Widening>(w, group, c) };
    }
}

/// # Safety
/// As [`Operations::multiply_int8`], with [`dotprod_available`].
pub(super) unsafe fn multiply_int8_dotprod(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
    // SAFETY: the caller's promise.
    unsafe { int8::multiply_int8::<Dotprod>(w, group, c) };
}
