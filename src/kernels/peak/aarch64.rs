//! Multiply-adds in the registers of `AArch64`, for every instruction set that the processor has.
//!
//! Written as `asm!` throughout, because not all of these instructions have stable intrinsics. Every
//! turn is [`CHAINS`] instructions with sums of their own: enough to hide their latency.

use core::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::{Loop, Operands};

/// Independent sums: four pipes, four cycles each.
const CHAINS: usize = 16;

pub(super) fn loops() -> Vec<Loop> {
    let mut all = Vec::new();
    let mut add = |operands, instructions, operations, run| {
        all.push(Loop { operands, instructions, tiles: false, operations, run });
    };
    // SAFETY: every AArch64 processor that runs Rust's standard library has NEON.
    add(Operands::F32, "neon fmla", CHAINS * 8, |n| unsafe { f32_fmla(n) });
    if is_aarch64_feature_detected!("bf16") {
        // SAFETY: the feature is there.
        add(Operands::Bf16, "neon bfmmla", CHAINS * 32, |n| unsafe { bf16_mmla(n) });
    }
    if is_aarch64_feature_detected!("i8mm") {
        // SAFETY: the feature is there.
        add(Operands::Int8, "neon smmla", CHAINS * 64, |n| unsafe { int8_mmla(n) });
    }
    if is_aarch64_feature_detected!("dotprod") {
        // SAFETY: the feature is there.
        add(Operands::Int8, "neon sdot", CHAINS * 32, |n| unsafe { int8_sdot(n) });
    }
    // SAFETY: as for the first.
    add(Operands::Int8, "neon smull, sadalp", CHAINS / 2 * 16, |n| unsafe { int8_smull(n) });
    all
}

/// A function that runs `$lines` `turns` times; they leave their sums in v0 to v15, may use v16 to
/// v31, and find small numbers in v30 and v31.
macro_rules! turns {
    ($name:ident, $features:literal, $($line:expr),+) => {
        #[target_feature(enable = $features)]
        fn $name(turns: u64) {
            // SAFETY: registers only, all of them declared.
            unsafe {
                asm!(
                    "movi v30.16b, #3",
                    "movi v31.16b, #5",
                    "cbz {turns}, 3f",
                    "2:",
                    $($line,)+
                    "subs {turns}, {turns}, #1",
                    "b.ne 2b",
                    "3:",
                    turns = inout(reg) turns => _,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                    out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v30") _, out("v31") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

/// One line for each sum v0 to v15.
macro_rules! each_sum {
    ($name:ident, $features:literal, $instruction:literal, $sum:literal, $operands:literal) => {
        turns!(
            $name,
            $features,
            concat!($instruction, " v0.", $sum, $operands),
            concat!($instruction, " v1.", $sum, $operands),
            concat!($instruction, " v2.", $sum, $operands),
            concat!($instruction, " v3.", $sum, $operands),
            concat!($instruction, " v4.", $sum, $operands),
            concat!($instruction, " v5.", $sum, $operands),
            concat!($instruction, " v6.", $sum, $operands),
            concat!($instruction, " v7.", $sum, $operands),
            concat!($instruction, " v8.", $sum, $operands),
            concat!($instruction, " v9.", $sum, $operands),
            concat!($instruction, " v10.", $sum, $operands),
            concat!($instruction, " v11.", $sum, $operands),
            concat!($instruction, " v12.", $sum, $operands),
            concat!($instruction, " v13.", $sum, $operands),
            concat!($instruction, " v14.", $sum, $operands),
            concat!($instruction, " v15.", $sum, $operands)
        );
    };
}

each_sum!(f32_fmla, "neon", "fmla", "4s", ", v30.4s, v31.4s");
each_sum!(bf16_mmla, "neon,bf16", "bfmmla", "4s", ", v30.8h, v31.8h");
each_sum!(int8_mmla, "neon,i8mm", "smmla", "4s", ", v30.16b, v31.16b");
each_sum!(int8_sdot, "neon,dotprod", "sdot", "4s", ", v30.16b, v31.16b");

turns!(
    int8_smull,
    "neon",
    "smull v16.8h, v30.8b, v31.8b",
    "smull2 v17.8h, v30.16b, v31.16b",
    "smull v18.8h, v30.8b, v31.8b",
    "smull2 v19.8h, v30.16b, v31.16b",
    "smull v20.8h, v30.8b, v31.8b",
    "smull2 v21.8h, v30.16b, v31.16b",
    "smull v22.8h, v30.8b, v31.8b",
    "smull2 v23.8h, v30.16b, v31.16b",
    "sadalp v0.4s, v16.8h",
    "sadalp v1.4s, v17.8h",
    "sadalp v2.4s, v18.8h",
    "sadalp v3.4s, v19.8h",
    "sadalp v4.4s, v20.8h",
    "sadalp v5.4s, v21.8h",
    "sadalp v6.4s, v22.8h",
    "sadalp v7.4s, v23.8h"
);
