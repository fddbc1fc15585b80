//! AMX: products of bf16 tiles, for many rows (Intel's instruction set reference, chapter on AMX).
//!
//! Both operands are cut into tiles of 1 KB, which lie in the order in which they are read. A tile of
//! the left operand is 16 rows of 32 values; of the right one 16 pairs of rows, so that each 32-bit
//! lane holds two values that are summed over. Sums are f32.
//!
//! bf16 keeps 8 bits of every value, whatever its size: on a real model that is 15 times closer to f32
//! than activations rounded to int8 by blocks, and rounds the weights as well. (Three products of
//! halves, Henry, Tang & Heinecke 2019, arXiv 1904.06376, would keep 16 bits at a third of the
//! speed.)
//!
//! Rust has no stable intrinsics for these instructions, hence the assembly.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::avx512::{self, mask};
use crate::kernels::isa::{Left, Output, PANEL};

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
/// [`PANEL`] values.
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

/// Rounds the first `depth` values of up to [`ROWS`] rows: `[depth / 32][2][16][32]`.
/// Missing rows and columns become zero.
///
/// # Safety
/// [`available`]; `to` has [`tiles_of`] tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::kernels) unsafe fn pack_left(a: Left<'_>, to: &mut [Tile]) {
    debug_assert!(to.len() >= tiles_of(a.depth) && a.rows <= ROWS);
    for step in 0..a.depth.div_ceil(DEPTH) {
        let from = step * DEPTH;
        let left = a.depth - from;
        let masks = [mask(left), mask(left.saturating_sub(16))];
        for r in 0..ROWS {
            // SAFETY: masked lanes are not read; others are values of a row that exists. A row of a
            // tile has 32 places.
            unsafe {
                let x = if r < a.rows {
                    let at = a.values.as_ptr().add(r * a.stride + from);
                    [
                        _mm512_maskz_loadu_ps(masks[0], at),
                        _mm512_maskz_loadu_ps(masks[1], at.wrapping_add(16)),
                    ]
                } else {
                    [_mm512_setzero_ps(); 2]
                };
                let at = to.as_mut_ptr().cast::<u16>().add(step * 2 * TILE + r * 32);
                store(at, [rounded(x[0]), rounded(x[1])]);
            }
        }
    }
}

/// Rounds a panel of `depth` rows: `[depth / 32][2][16][16][2]`. Missing rows become zero.
///
/// # Safety
/// [`available`]; `panel` has `depth` rows of [`PANEL`] values, `to` [`tiles_of`] tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::kernels) unsafe fn pack_right(panel: &[f32], depth: usize, to: &mut [Tile]) {
    debug_assert!(to.len() >= tiles_of(depth) && panel.len() >= depth * PANEL);
    for pair in 0..depth.div_ceil(DEPTH) * DEPTH / 2 {
        let (step, row) = (pair / 16, pair % 16);
        for half in 0..2 {
            let load = |k: usize| {
                if k >= depth {
                    return _mm512_setzero_ps();
                }
                // SAFETY: row `k` of the panel exists.
                unsafe { _mm512_loadu_ps(panel.as_ptr().add(k * PANEL + 16 * half)) }
            };
            let x = [load(2 * pair), load(2 * pair + 1)];
            // SAFETY: a row of a tile has 32 places.
            unsafe {
                let tile = to.as_mut_ptr().cast::<u16>().add((step * 2 + half) * TILE);
                let at = tile.add(row * 32);
                store_pairs(at, [rounded(x[0]), rounded(x[1])]);
            }
        }
    }
}

/// To the nearest bf16, ties to even: its bits in the upper halves of the lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
fn rounded(x: __m512) -> __m512i {
    // SAFETY: both are 256 bits of plain data.
    let halves: __m256i = unsafe { std::mem::transmute(_mm512_cvtneps_pbh(x)) };
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))
}

/// 32 values one after the other.
///
/// # Safety
/// `to` points at 32 places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store(to: *mut u16, bits: [__m512i; 2]) {
    for (i, bits) in bits.into_iter().enumerate() {
        let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits));
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.add(16 * i).cast(), halves) };
    }
}

/// 16 pairs of values, one of each register.
///
/// # Safety
/// `to` points at 32 places.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_pairs(to: *mut u16, bits: [__m512i; 2]) {
    let pairs = _mm512_or_si512(_mm512_srli_epi32::<16>(bits[0]), bits[1]);
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(to.cast(), pairs) };
}

/// The shape of all eight tile registers: 16 rows of 64 bytes.
#[repr(C, align(64))]
pub(in crate::kernels) struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

pub(in crate::kernels) static CONFIG: Config = {
    let mut config =
        Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut i = 0;
    while i < 8 {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
        i += 1;
    }
    config
};

/// Tile registers of this thread, configured until the value is dropped.
pub(in crate::kernels) struct Tiles(());

impl Tiles {
    /// # Safety
    /// [`available`].
    pub(in crate::kernels) unsafe fn begin() -> Self {
        // SAFETY: the caller's promise; the configuration is one that the processor accepts.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self(())
    }

    /// `c[rows, width] (+)= left · right` over `depth` values, `width` at most [`PANEL`], from
    /// operands of [`pack_left`] and [`pack_right`].
    ///
    /// # Safety
    /// The operands were packed for this depth; `c` holds `rows` (at most [`ROWS`])
    /// rows and `width` columns that nothing else touches meanwhile.
    #[expect(clippy::unused_self, reason = "the registers are ready while it lives")]
    pub(in crate::kernels) unsafe fn multiply(
        &self,
        (left, right): (&[Tile], &[Tile]),
        depth: usize,
        c: Output,
        (rows, width): (usize, usize),
        accumulate: bool,
    ) {
        assert!(left.len() >= tiles_of(depth), "left operand too short");
        assert!(right.len() >= tiles_of(depth), "right operand too short");
        let mut sums = MaybeUninit::<Sums>::uninit();
        let (a, b, steps) = (left.as_ptr(), right.as_ptr(), depth.div_ceil(DEPTH));
        // SAFETY: the operands hold `steps` steps; the caller's promise for `c`.
        unsafe {
            sum_tiles(a, b, steps, &mut sums);
            // All four tiles have been stored.
            write(sums.assume_init_ref(), c, rows, width, accumulate);
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only where the instruction does, which resets the registers.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// `[ROWS][PANEL]`
#[repr(C, align(64))]
struct Sums([f32; ROWS * PANEL]);

/// Sums the products of `steps` pairs of tiles of both operands, into all of `sums`.
///
/// # Safety
/// Configured tiles; the operands have two tiles for each step.
unsafe fn sum_tiles(a: *const Tile, b: *const Tile, steps: usize, sums: &mut MaybeUninit<Sums>) {
    // SAFETY: the caller's promise; each step reads two tiles of both operands. No Rust code keeps
    // anything in tile registers. The left operand is read past the first cache, which holds the
    // right one.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tileloaddt1 tmm4, [{a} + {s}*1]", "tileloadd tmm6, [{b} + {s}*1]",
            "tileloadd tmm7, [{b} + {s}*1 + 1024]", "tileloaddt1 tmm5, [{a} + {s}*1 + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048", "add {b}, 2048",
            "dec {n}", "jnz 2b",
            "3:",
            "mov {s}, 128",
            "tilestored [{c} + {s}*1], tmm0", "tilestored [{c} + {s}*1 + 64], tmm1",
            "tilestored [{c} + {s}*1 + 2048], tmm2", "tilestored [{c} + {s}*1 + 2112], tmm3",
            a = inout(reg) a => _, b = inout(reg) b => _, n = inout(reg) steps => _,
            c = in(reg) sums.as_mut_ptr(), s = inout(reg) 64usize => _,
            options(nostack),
        );
    }
}

/// # Safety
/// AVX-512; `c` holds the rows and columns.
#[target_feature(enable = "avx512f")]
unsafe fn write(sums: &Sums, c: Output, rows: usize, width: usize, accumulate: bool) {
    let masks = [mask(width), mask(width.saturating_sub(16))];
    for (r, row) in sums.0.chunks_exact(PANEL).enumerate().take(rows) {
        for (h, mask) in masks.into_iter().enumerate() {
            // SAFETY: masked lanes are not touched; the others are the caller's.
            unsafe {
                let at = c.at.add(r * c.stride).wrapping_add(16 * h);
                let mut sum = _mm512_loadu_ps(row.as_ptr().add(16 * h));
                if accumulate {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, at));
                }
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}
