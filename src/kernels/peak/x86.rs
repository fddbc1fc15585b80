//! Multiply-adds in the registers of x86-64, for every instruction set that the processor has.
//!
//! Sums are independent of each other, and enough of them to hide an instruction's latency. An
//! empty `asm!` after each turn makes the compiler believe that an operand has changed, so that it
//! can neither take work out of the loop nor share it between turns.

use core::arch::asm;
use core::arch::x86_64::*;
use std::hint::black_box;

use super::{Loop, Operands};

/// Independent sums: an AVX-512 processor starts two multiply-adds a cycle, each done after four or
/// five, and AVX2 leaves room for twelve of sixteen registers.
const CHAINS: usize = 12;
/// Sums where one takes three instructions and each needs an operand of its own.
const PAIR_CHAINS: usize = 4;

pub(super) fn loops() -> Vec<Loop> {
    let mut all = Vec::new();
    let mut add = |operands, instructions, operations, run| {
        all.push(Loop { operands, instructions, tiles: false, operations, run });
    };
    let avx512 = is_x86_feature_detected!("avx512f");
    if avx512 {
        // SAFETY: the feature is there.
        add(Operands::F32, "avx512 vfmadd231ps", CHAINS * 32, |n| unsafe { f32_512(n) });
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features are there.
        add(Operands::F32, "avx2 vfmadd231ps", CHAINS * 16, |n| unsafe { f32_256(n) });
    }
    if avx512 && is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the features are there.
        add(Operands::Bf16, "avx512 vdpbf16ps", CHAINS * 64, |n| unsafe { bf16_512(n) });
    }
    if avx512 && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the features are there.
        add(Operands::Int8, "avx512 vpdpbusd", CHAINS * 128, |n| unsafe { int8_512(n) });
    }
    if is_x86_feature_detected!("avxvnni") {
        // SAFETY: the feature, which includes AVX2, is there.
        add(Operands::Int8, "avx-vnni vpdpbusd", CHAINS * 64, |n| unsafe { int8_vnni(n) });
    }
    if is_x86_feature_detected!("avx2") {
        let name = "avx2 vpmaddubsw, vpmaddwd, vpaddd";
        // SAFETY: the feature is there.
        add(Operands::Int8, name, PAIR_CHAINS * 64, |n| unsafe { int8_256(n) });
    }
    #[cfg(target_os = "linux")]
    super::amx::add_loops(&mut all);
    all
}

/// A function of `turns` that makes each of [`CHAINS`] sums, which start as `$zero`, `$step(sum, x,
/// y)` in every turn.
macro_rules! chains {
    ($name:ident, $features:literal, $register:ident, $zero:expr, $x:expr, $y:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        fn $name(turns: u64) {
            let mut sums = [$zero; CHAINS];
            let (mut x, y) = (black_box($x), black_box($y));
            for _ in 0..turns {
                for sum in &mut sums {
                    *sum = $step(*sum, x, y);
                }
                // SAFETY: there is no instruction in it.
                unsafe { asm!("/* {0} */", inout($register) x, options(nomem, nostack)) };
            }
            black_box((sums, x));
        }
    };
}

chains!(
    f32_512,
    "avx512f",
    zmm_reg,
    _mm512_setzero_ps(),
    _mm512_set1_ps(0.5),
    _mm512_set1_ps(1.0),
    |sum, x, y| _mm512_fmadd_ps(sum, x, y)
);

chains!(
    f32_256,
    "avx2,fma",
    ymm_reg,
    _mm256_setzero_ps(),
    _mm256_set1_ps(0.5),
    _mm256_set1_ps(1.0),
    |sum, x, y| _mm256_fmadd_ps(sum, x, y)
);

chains!(
    bf16_512,
    "avx512f,avx512bf16",
    zmm_reg,
    _mm512_setzero_ps(),
    _mm512_set1_epi16(0x3f80), // 1
    _mm512_set1_epi16(0x3f00), // 0.5
    |sum, x: __m512i, y: __m512i| _mm512_dpbf16_ps(sum, as_bf16(x), as_bf16(y))
);

chains!(
    int8_512,
    "avx512f,avx512vnni",
    zmm_reg,
    _mm512_setzero_si512(),
    _mm512_set1_epi8(3),
    _mm512_set1_epi8(5),
    |sum, x, y| _mm512_dpbusd_epi32(sum, x, y)
);

chains!(
    int8_vnni,
    "avx2,avxvnni",
    ymm_reg,
    _mm256_setzero_si256(),
    _mm256_set1_epi8(3),
    _mm256_set1_epi8(5),
    |sum, x, y| _mm256_dpbusd_avx_epi32(sum, x, y)
);

/// int8 without an instruction for it: products in pairs, pairs in fours, fours to the sum. Each
/// sum has an `y` of its own, since the first two steps don't depend on the sum and would else be
/// done once for all of them.
#[target_feature(enable = "avx2")]
fn int8_256(turns: u64) {
    let mut sums = [_mm256_setzero_si256(); PAIR_CHAINS];
    let ones = _mm256_set1_epi16(1);
    let mut x = black_box(_mm256_set1_epi8(3));
    let ys: [__m256i; PAIR_CHAINS] = black_box([_mm256_set1_epi8(5); PAIR_CHAINS]);
    for _ in 0..turns {
        for (sum, y) in sums.iter_mut().zip(ys) {
            let fours = _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones);
            *sum = _mm256_add_epi32(*sum, fours);
        }
        // SAFETY: there is no instruction in it.
        unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack)) };
    }
    black_box((sums, x));
}

fn as_bf16(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 plain bytes.
    unsafe { core::mem::transmute(x) }
}
