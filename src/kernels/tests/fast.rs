//! Products in [`Compute::Fast`], against those of rounded activations.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::samples::{FLOATS, QUANTIZED, file_bytes, uniform};
use super::{all_isas, assert_product, cols_of, dot, matrix, packed, values};
use crate::gguf::GgmlType;
use crate::kernels::Compute;

/// x rounded to int8 per 32 columns, by the definition: `d = max|x| / 127`.
fn rounded(x: &[f32]) -> Vec<f32> {
    x.chunks_exact(32)
        .flat_map(|block| {
            let max = block.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            let (d, inverse) = (max / 127.0, 127.0 / max);
            block.iter().map(move |v| d * (v * inverse).round_ties_even())
        })
        .collect()
}

#[test]
fn fast_products_are_those_of_rounded_activations() {
    for isa in all_isas() {
        for kind in &QUANTIZED {
            for &cols in cols_of(kind) {
                for rows in [16, 17, 48, 100] {
                    let (packed, w) = matrix(13, kind, rows, cols);
                    for m in [1, 2, 3, 7, 8, 9, 16, 17, 31, 64] {
                        let x = values(&mut ChaCha8Rng::seed_from_u64(m as u64), m * cols);
                        let mut y = vec![f32::NAN; m * rows];
                        packed.matmul_on(isa, Compute::Fast, &x, m, &mut y);
                        let what = format!("{isa:?} {:?} [{rows}, {cols}], m {m}", kind.ty);
                        // Codes and offsets are summed apart, so terms are larger than w x.
                        let shape = (m, rows, cols);
                        match isa.multiplies_tiles(m) {
                            // Both operands are rounded to 8 bits that stand for themselves.
                            true => assert_product(&y, &x, &w, shape, 2.0 / 256.0, &what),
                            false => assert_product(&y, &rounded(&x), &w, shape, 1e-5, &what),
                        }
                    }
                }
            }
        }
    }
}

/// Rows that a cache does not hold with all their columns, and floats that fill no whole blocks.
#[test]
fn products_on_tiles_are_close_whatever_their_size() {
    let sizes = [(&QUANTIZED[1], 400, 1344), (&QUANTIZED[1], 100, 1344), (&FLOATS[0], 40, 1344)];
    let ragged = FLOATS.iter().flat_map(|kind| [1, 31, 33, 70].map(|cols| (kind, 40, cols)));
    for (kind, m, cols) in sizes.into_iter().chain(ragged) {
        let rows = 70;
        let (packed, w) = matrix(33, kind, rows, cols);
        let x = values(&mut ChaCha8Rng::seed_from_u64(34), m * cols);
        for isa in all_isas().into_iter().filter(|isa| isa.multiplies_tiles(m)) {
            let mut y = vec![f32::NAN; m * rows];
            packed.matmul_on(isa, Compute::Fast, &x, m, &mut y);
            let what = format!("{isa:?} {:?} [{rows}, {cols}], m {m}", kind.ty);
            assert_product(&y, &x, &w, (m, rows, cols), 2.0 / 256.0, &what);
        }
    }
}

/// So what is sampled does not depend on how much is sampled with it.
#[test]
fn a_row_is_the_same_among_few_and_among_many() {
    let (rows, few, many) = (48, 8, 64);
    for isa in all_isas().into_iter().filter(|isa| !isa.multiplies_tiles(many)) {
        for (kind, cols) in
            QUANTIZED.iter().flat_map(|kind| cols_of(kind).iter().map(move |c| (kind, *c)))
        {
            let (packed, _) = matrix(31, kind, rows, cols);
            let x = values(&mut ChaCha8Rng::seed_from_u64(32), many * cols);
            let (mut a, mut b) = (vec![f32::NAN; few * rows], vec![f32::NAN; many * rows]);
            packed.matmul_on(isa, Compute::Fast, &x[..few * cols], few, &mut a);
            packed.matmul_on(isa, Compute::Fast, &x, many, &mut b);
            assert!(a == b[..few * rows], "{isa:?} {:?}, {cols} columns", kind.ty);
        }
    }
}

#[test]
fn fast_products_of_the_largest_numbers_do_not_overflow() {
    let (rows, cols) = (16, 256);
    for isa in all_isas() {
        for kind in &QUANTIZED {
            let ends = if kind.ty == GgmlType::Q8_0 { [0x7f, 0x80] } else { [0, 0xff] };
            for (end, x) in ends.into_iter().flat_map(|end| [(end, 1.0), (end, -1.0)]) {
                let mut bytes = file_bytes(&mut ChaCha8Rng::seed_from_u64(27), kind, rows, cols);
                for block in bytes.chunks_exact_mut(kind.bytes) {
                    for (at, byte) in block.iter_mut().enumerate() {
                        if !kind.halves.iter().any(|half| (*half..half + 2).contains(&at)) {
                            *byte = end;
                        }
                    }
                }
                let (packed, w) = packed(kind, rows, cols, &bytes);
                let (x, mut y) = (vec![x; cols], vec![f32::NAN; rows]);
                packed.matmul_on(isa, Compute::Fast, &x, 1, &mut y);
                let what = format!("{isa:?} {:?}, all {end:#x} and {}", kind.ty, x[0]);
                assert_product(&y, &x, &w, (1, rows, cols), 1e-5, &what);
            }
        }
    }
}

#[test]
fn fast_products_stay_within_the_rounding_of_exact_ones() {
    let (rows, cols, m) = (48, 576, 130);
    let (packed, w) = matrix(14, &QUANTIZED[1], rows, cols);
    let x = values(&mut ChaCha8Rng::seed_from_u64(15), m * cols);
    let mut y = vec![f32::NAN; m * rows];
    packed.matmul(Compute::Fast, &x, m, &mut y);
    // Each x is off by at most half a step of at most 1 / 127.
    for (i, o) in (0..m).flat_map(|i| (0..rows).map(move |o| (i, o))) {
        let (x, w) = (&x[i * cols..][..cols], &w[o * cols..][..cols]);
        let (expected, _) = dot(x.iter().copied().zip(w.iter().copied()));
        let bound: f32 = w.iter().map(|w| w.abs() * 0.51 / 127.0).sum();
        assert!((f64::from(y[i * rows + o]) - expected).abs() <= f64::from(bound));
    }
}

#[test]
fn rounding_is_the_same_on_every_instruction_set() {
    use crate::kernels::products::ActBlock;

    let mut rng = ChaCha8Rng::seed_from_u64(16);
    for scale in [1e-38, 1e-31, 1e-3, 1.0, 1e30] {
        let x: [f32; 32] = std::array::from_fn(|_| scale * uniform(&mut rng));
        let rounded = all_isas().into_iter().map(|isa| {
            let mut block = ActBlock::ZERO;
            isa.quantize_block(&x, &mut block);
            block
        });
        let rounded: Vec<_> = rounded.collect();
        assert!(rounded.windows(2).all(|pair| pair[0] == pair[1]), "{rounded:?}");
    }
}
