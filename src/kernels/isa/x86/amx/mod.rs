//! AMX: products of bf16 tiles, for many rows (Intel's instruction set reference, chapter on AMX).
//!
//! Both operands are cut into tiles of 1 KB, which lie in the order in which they are read ([`operands`]).
//! A tile of the left operand is 16 rows of 32 values; of the right one 16 pairs of rows, so that each
//! 32-bit lane holds two values that are summed over. Sums are f32 ([`registers`], [`product`]).
//!
//! bf16 keeps 8 bits of every value, whatever its size: on a real model that is 15 times closer to f32
//! than activations rounded to int8 by blocks, and rounds the weights as well. (Three products of
//! halves, Henry, Tang & Heinecke 2019, arXiv 1904.06376, would keep 16 bits at a third of the
//! speed.)
//!
//! Rust has no stable intrinsics for these instructions, hence the assembly.

mod operands;
mod product;
mod registers;

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::avx512;

pub(in crate::kernels) use self::operands::pack_left;
pub(in crate::kernels) use self::product::{Product, Right};
pub(in crate::kernels) use self::registers::{CONFIG, Tiles};

/// Rows of the left operand that are multiplied together.
pub(in crate::kernels) const ROWS: usize = 32;
/// Values of the summed dimension in a tile.
pub(in crate::kernels) const DEPTH: usize = 32;
/// bf16 values of a tile.
const TILE: usize = 512;

/// A tile in memory. Its rows are cache lines: loads that straddle two of them take three times as long.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels) struct Tile([u16; TILE]);

impl Tile {
    pub(in crate::kernels) const ZERO: Self = Self([0; TILE]);
}

/// Tiles of [`ROWS`] rows of a left operand of `depth` values, or of a right one of `depth` rows of
/// [`PANEL`](super::super::PANEL) values.
pub(in crate::kernels) const fn tiles_of(depth: usize) -> usize {
    2 * depth.div_ceil(DEPTH)
}

/// Whether this machine has what the functions here use, and permits this process to use it.
pub(in crate::kernels) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        avx512::available()
            && is_x86_feature_detected!("avx512bf16")
            && has_tiles().0
            && permitted()
    })
}

/// Whether the processor multiplies tiles of bf16, and of int8, and the system keeps its registers.
pub(in crate::kernels) fn has_tiles() -> (bool, bool) {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: OSXSAVE was looked at.
        unsafe { _xgetbv(0) }
    }
    let osxsave = __cpuid(1).ecx & 1 << 27 != 0;
    // SAFETY: the processor has XSAVE where OSXSAVE is set.
    if __cpuid(0).eax < 7 || !osxsave || unsafe { state() } & STATE != STATE {
        return (false, false);
    }
    let features = __cpuid_count(7, 0).edx;
    let has = |bits| features & bits == bits;
    (has(TILES | BF16), has(TILES | INT8))
}

/// Asks Linux for permission to use the tile registers, which it grants per process.
#[cfg(target_os = "linux")]
pub(in crate::kernels) fn permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const REQUEST: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let refused: usize;
    // SAFETY: a system call that touches no memory of ours; `rcx` and `r11` are what it overwrites.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => refused, in("rdi") REQUEST,
             in("rsi") TILE_DATA, out("rcx") _, out("r11") _, options(nostack));
    }
    refused == 0
}

#[cfg(not(target_os = "linux"))]
pub(in crate::kernels) fn permitted() -> bool {
    false
}
