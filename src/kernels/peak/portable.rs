//! Multiply-adds in plain Rust, as the compiler translates them for any machine of this kind.

use std::hint::black_box;

use super::{Loop, Operands};

pub(super) const LOOPS: [Loop; 2] = [
    Loop {
        operands: Operands::F32,
        instructions: "plain Rust",
        tiles: false,
        operations: F32_TURNS * CHAINS * 4 * 2,
        run: f32_loop,
    },
    Loop {
        operands: Operands::Int8,
        instructions: "plain Rust",
        tiles: false,
        operations: INT8_CHAINS * DEPTH * 2,
        run: int8_loop,
    },
];

/// Independent sums of 128 bits: enough to hide the latency of an addition.
const CHAINS: usize = 10;
/// Multiply-adds of each sum in a turn.
const F32_TURNS: usize = 8;
/// Rows of codes that one row of activations is multiplied with.
const INT8_CHAINS: usize = 4;
/// Length of a row.
const DEPTH: usize = 64;

fn f32_loop(turns: u64) {
    let mut sums = [[0.0_f32; 4]; CHAINS];
    for _ in 0..turns {
        let x = black_box(0.5);
        for _ in 0..F32_TURNS {
            for sum in &mut sums {
                *sum = sum.map(|s| s * x + x);
            }
        }
    }
    black_box(sums);
}

fn int8_loop(turns: u64) {
    let codes = black_box([[3_u8; DEPTH]; INT8_CHAINS]);
    let mut sums = [0; INT8_CHAINS];
    for _ in 0..turns {
        let x = black_box(&[5_i8; DEPTH]);
        for (sum, codes) in sums.iter_mut().zip(&codes) {
            let products = codes.iter().zip(x).map(|(&q, &x)| i32::from(q) * i32::from(x));
            *sum += products.sum::<i32>() & 1;
        }
    }
    black_box(sums);
}
