//! Multiply-adds in the tile registers of x86-64 (Intel SDM volume 1, chapter 18: Intel AMX).
//!
//! A tile holds 16 rows of 64 bytes; one instruction multiplies two of them into a third. Rust's
//! intrinsics for them are unstable, hence `asm!`: one block holds configuration, work and release,
//! so that no tile is in use outside it.

use core::arch::asm;

use super::{Loop, Operands};
use crate::kernels::isa::amx::{CONFIG, has_tiles, permitted};

/// Tile products of one turn, each into its own sums.
const TILES: usize = 4;
/// Multiply-adds of one tile product per byte of a row: 16 · 16 sums.
const SUMS: usize = 16 * 16;

/// Adds the loops that this machine can run, if it has tiles and the kernel permits their use.
pub(super) fn add_loops(all: &mut Vec<Loop>) {
    let (bf16, int8) = has_tiles();
    if !(bf16 || int8) || !permitted() {
        return;
    }
    let mut add = |there, operands, instructions, depth, run| {
        let operations = TILES * SUMS * depth * 2;
        if there {
            all.push(Loop { operands, instructions, tiles: true, operations, run });
        }
    };
    // SAFETY: the processor has the instructions and the kernel permits them.
    add(bf16, Operands::Bf16, "amx tdpbf16ps", 32, |turns| unsafe { bf16_tiles(turns) });
    // SAFETY: as above.
    add(int8, Operands::Int8, "amx tdpbusd", 64, |turns| unsafe { int8_tiles(turns) });
}

/// A function that multiplies [`TILES`] pairs of tiles of zeros, `turns` times.
macro_rules! tiles {
    ($name:ident, $instruction:literal) => {
        /// # Safety
        /// The processor must have the instruction and the kernel permit its use.
        unsafe fn $name(turns: u64) {
            // SAFETY: the caller's promise; `CONFIG` is a valid configuration of 64 bytes, and the
            // tiles are given back before the block ends.
            unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "tilezero tmm4",
                    "tilezero tmm5",
                    "tilezero tmm6",
                    "tilezero tmm7",
                    "test {turns}, {turns}",
                    "jz 3f",
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec {turns}",
                    "jnz 2b",
                    "3:",
                    "tilerelease",
                    config = in(reg) &raw const CONFIG,
                    turns = inout(reg) turns => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(readonly, nostack),
                );
            }
        }
    };
}

tiles!(bf16_tiles, "tdpbf16ps");
tiles!(int8_tiles, "tdpbusd");
