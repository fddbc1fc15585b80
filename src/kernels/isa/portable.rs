//! Every operation in plain Rust, for any target, and as the reference for the other sets.
//!
//! Loops are written so that the compiler vectorizes the products; decoding is simple, not fast.

use super::dispatch::{Decode, Operations};
use super::operands::{CodeTile, Left, Output, PANEL, Value};
use crate::kernels::memory::Line;
use crate::kernels::packing::{BLOCK, PackedMatrix, TILE};
use crate::kernels::products::{ActBlock, GROUP_ROWS, TINY};

/// Rows of the left operand that [`Portable::multiply_panel`] takes at once.
const ROWS: usize = 4;

/// Plain Rust, which every machine runs.
pub(super) struct Portable;

impl Decode for Portable {
    unsafe fn decode_panel(
        w: &PackedMatrix,
        pair: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        for side in 0..2.min(w.tiles - 2 * pair) {
            for i in 0..count {
                let values = decode_block(w, 2 * pair + side, first + i);
                for (k, row) in values.iter().enumerate() {
                    panel[(i * BLOCK + k) * PANEL + side * TILE..][..TILE].copy_from_slice(row);
                }
            }
        }
    }

    unsafe fn decode_panel_transposed(
        w: &PackedMatrix,
        b: usize,
        first: usize,
        count: usize,
        panel: &mut [f32],
    ) {
        for (i, rows) in panel.chunks_exact_mut(TILE * PANEL).take(count).enumerate() {
            let values = decode_block(w, first + i, b);
            for (at, to) in rows.iter_mut().enumerate() {
                *to = values[at % PANEL][at / PANEL];
            }
        }
    }

    unsafe fn decode_codes(_: &PackedMatrix, _: usize, _: &mut [Line]) {
        unreachable!("products read codes as they are stored");
    }
}

impl Operations for Portable {
    const MOST_HALF_ROWS: Option<usize> = None;
    const DECODED_ROWS: Option<usize> = None;

    unsafe fn quantize_block(values: &[f32; BLOCK], to: &mut ActBlock) {
        // The largest absolute value by its bits, so that NaN counts as larger than anything.
        let bits = values.iter().fold(0, |max, v| (v.to_bits() & 0x7fff_ffff).max(max));
        let max = f32::from_bits(bits);
        if max <= TINY {
            *to = ActBlock::ZERO;
            return;
        }
        let inverse = 127.0 / max;
        let mut sums = [0i32; 2];
        for (k, (q, v)) in to.q.iter_mut().zip(values).enumerate() {
            *q = (v * inverse).round_ties_even() as i8;
            sums[k / 16] += i32::from(*q);
        }
        to.set_scale(max, sums);
    }

    unsafe fn multiply_panel<P: Value>(
        a: Left<'_>,
        panel: &[P],
        c: Output,
        width: usize,
        accumulate: bool,
    ) {
        let mut r = 0;
        while r < a.rows {
            let rows = ROWS.min(a.rows - r);
            let mut sums = [[0.0f32; PANEL]; ROWS];
            for (k, p) in panel.as_chunks::<PANEL>().0.iter().take(a.depth).enumerate() {
                for (i, sums) in sums.iter_mut().take(rows).enumerate() {
                    let x = a.values[(r + i) * a.stride + k];
                    for (sum, p) in sums.iter_mut().zip(p) {
                        *sum += x * p.to_f32();
                    }
                }
            }
            for (i, sums) in sums.iter().take(rows).enumerate() {
                // SAFETY: the caller gave `c` these rows and `width` columns.
                let c =
                    unsafe { std::slice::from_raw_parts_mut(c.at.add((r + i) * c.stride), width) };
                for (c, sum) in c.iter_mut().zip(sums) {
                    *c = if accumulate { *c + sum } else { *sum };
                }
            }
            r += rows;
        }
    }

    unsafe fn multiply_fused(w: &PackedMatrix, tile: usize, a: Left<'_>, c: Output) {
        let width = TILE.min(w.rows - tile * TILE);
        for r in 0..a.rows {
            let mut sums = [0.0f32; TILE];
            for b in 0..w.blocks {
                for (k, weights) in decode_block(w, tile, b).iter().enumerate() {
                    let x = a.values[r * a.stride + b * BLOCK + k];
                    for (sum, w) in sums.iter_mut().zip(weights) {
                        *sum += x * w;
                    }
                }
            }
            // SAFETY: the caller gave `c` these rows and the tile's columns.
            let c = unsafe { std::slice::from_raw_parts_mut(c.at.add(r * c.stride), width) };
            c.copy_from_slice(&sums[..width]);
        }
    }

    unsafe fn multiply_int8(w: CodeTile<'_>, group: &[ActBlock], c: Output) {
        let CodeTile { matrix: w, tile, .. } = w;
        let rows = group.len() / w.blocks;
        let width = TILE.min(w.rows - tile * TILE);
        for lane in 0..width {
            let mut sums = [0.0f32; GROUP_ROWS];
            for b in 0..w.blocks {
                let block = tile * w.blocks + b;
                let halves = w.half_scales(block);
                // Codes are small whole numbers.
                let codes: [i32; BLOCK] = std::array::from_fn(|k| w.code(block, k, lane) as i32);
                for (sum, act) in sums.iter_mut().zip(&group[b * rows..][..rows]) {
                    for (h, half) in halves.iter().enumerate() {
                        let dot: i32 =
                            (16 * h..16 * h + 16).map(|k| codes[k] * i32::from(act.q[k])).sum();
                        *sum += dot as f32 * (half.d[lane] * act.d) + half.m[lane] * act.sums[h];
                    }
                }
            }
            for (r, sum) in sums.iter().take(rows).enumerate() {
                // SAFETY: the caller gave `c` these rows and the tile's columns.
                unsafe { *c.at.add(r * c.stride + lane) = *sum };
            }
        }
    }
}

/// One block of one tile, `[k][row]`.
fn decode_block(w: &PackedMatrix, tile: usize, b: usize) -> [[f32; TILE]; BLOCK] {
    let block = tile * w.blocks + b;
    let halves = w.half_scales(block);
    std::array::from_fn(|k| {
        let half = &halves[k / 16];
        std::array::from_fn(|lane| w.code(block, k, lane) * half.d[lane] + half.m[lane])
    })
}
