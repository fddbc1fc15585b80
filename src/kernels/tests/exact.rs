//! Exact products and the gradients of their inputs, of every type and shape.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::samples::{FLOATS, Kind, QUANTIZED};
use super::{F32_ERROR, all_isas, assert_product, cols_of, dot, matrix, values};
use crate::kernels::isa::Isa;
use crate::kernels::{Compute, PackedMatrix};

#[test]
fn panels_hold_the_decoded_values_to_the_bit() {
    // A product with rows of the unit matrix is a look at the panel: sums of zeros and one value.
    for isa in all_isas() {
        for kind in QUANTIZED.iter().chain(&FLOATS) {
            let (rows, cols) = (40, 256);
            let (packed, expected) = matrix(8, kind, rows, cols);
            let mut unit = vec![0.0; cols * cols];
            unit.iter_mut().step_by(cols + 1).for_each(|v| *v = 1.0);
            let mut y = vec![f32::NAN; cols * rows];
            packed.matmul_on(isa, Compute::Exact, &unit, cols, &mut y);
            for (k, o) in (0..cols).flat_map(|k| (0..rows).map(move |o| (k, o))) {
                assert_eq!(y[k * rows + o], expected[o * cols + k], "{isa:?} {:?}", kind.ty);
            }
            let mut dx = vec![f32::NAN; rows * cols];
            packed.matmul_transposed_on(isa, Compute::Exact, &eye(rows), rows, &mut dx, false);
            assert_eq!(dx, expected, "{isa:?} {:?}, transposed", kind.ty);
        }
    }
}

fn eye(n: usize) -> Vec<f32> {
    let mut unit = vec![0.0; n * n];
    unit.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    unit
}

#[test]
fn exact_products_are_right_for_every_type_and_shape() {
    for isa in all_isas() {
        for kind in QUANTIZED.iter().chain(&FLOATS) {
            for &cols in cols_of(kind) {
                for rows in [16, 17, 48, 100] {
                    let (packed, w) = matrix(9, kind, rows, cols);
                    for m in [1, 2, 3, 7, 8, 9, 17, 64] {
                        check_exact(isa, kind, &packed, &w, m);
                    }
                }
            }
        }
    }
}

fn check_exact(isa: Isa, kind: &Kind, packed: &PackedMatrix, w: &[f32], m: usize) {
    let (rows, cols) = (packed.rows(), packed.cols());
    let x = values(&mut ChaCha8Rng::seed_from_u64(m as u64), m * cols);
    let mut y = vec![f32::NAN; m * rows];
    packed.matmul_on(isa, Compute::Exact, &x, m, &mut y);
    let what = format!("{isa:?} {:?} [{rows}, {cols}], m {m}", kind.ty);
    assert_product(&y, &x, w, (m, rows, cols), F32_ERROR, &what);
}

#[test]
fn products_larger_than_any_cache_block_are_right() {
    // More rows of x than share a panel, more columns and rows of W than a panel is deep.
    let (m, rows, cols) = (400, 1300, 1344);
    let (packed, w) = matrix(10, &QUANTIZED[1], rows, cols);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (x, g) = (values(&mut rng, m * cols), values(&mut rng, m * rows));
    let (mut y, mut dx) = (vec![f32::NAN; m * rows], vec![f32::NAN; m * cols]);
    packed.matmul(Compute::Exact, &x, m, &mut y);
    packed.matmul_transposed(Compute::Exact, &g, m, &mut dx, false);
    for (i, o) in [(0, 0), (399, 1299), (383, 640), (384, 639), (200, 1280), (193, 31)] {
        let row = (0..cols).map(|k| (x[i * cols + k], w[o * cols + k]));
        let (expected, size) = dot(row);
        assert!((f64::from(y[i * rows + o]) - expected).abs() <= F32_ERROR * size, "y {i} {o}");
        let column = (0..rows).map(|r| (g[i * rows + r], w[r * cols + o]));
        let (expected, size) = dot(column);
        assert!((f64::from(dx[i * cols + o]) - expected).abs() <= F32_ERROR * size, "dx {i} {o}");
    }
}

#[test]
fn float_weights_need_no_whole_blocks() {
    for isa in all_isas() {
        for kind in &FLOATS {
            for cols in [1, 31, 33, 70] {
                let (packed, w) = matrix(12, kind, 19, cols);
                for m in [1, 20] {
                    check_exact(isa, kind, &packed, &w, m);
                    check_transposed(isa, kind, &packed, &w, m);
                }
            }
        }
    }
}

fn check_transposed(isa: Isa, kind: &Kind, packed: &PackedMatrix, w: &[f32], m: usize) {
    let (rows, cols) = (packed.rows(), packed.cols());
    let mut rng = ChaCha8Rng::seed_from_u64(m as u64);
    let (g, before) = (values(&mut rng, m * rows), values(&mut rng, m * cols));
    let transposed: Vec<f32> =
        (0..cols).flat_map(|k| (0..rows).map(move |r| w[r * cols + k])).collect();
    let what = format!("{isa:?} {:?} [{rows}, {cols}]ᵀ, m {m}", kind.ty);

    // Tiles multiply with 8 bits of each operand, everything else with 24.
    let fast_error = if isa.multiplies_tiles(m) { 2.0 / 256.0 } else { F32_ERROR };
    for (compute, error) in [(Compute::Exact, F32_ERROR), (Compute::Fast, fast_error)] {
        let mut dx = vec![f32::NAN; m * cols];
        packed.matmul_transposed_on(isa, compute, &g, m, &mut dx, false);
        assert_product(&dx, &g, &transposed, (m, cols, rows), error, &what);

        let mut sum = before.clone();
        packed.matmul_transposed_on(isa, compute, &g, m, &mut sum, true);
        for ((sum, before), dx) in sum.iter().zip(&before).zip(&dx) {
            // A sum may begin with what was there.
            assert!((sum - (before + dx)).abs() <= 1e-5 * (1.0 + dx.abs()), "{what}, accumulated");
        }
    }
}

#[test]
fn transposed_products_are_right_for_every_type_and_shape() {
    for isa in all_isas() {
        for kind in QUANTIZED.iter().chain(&FLOATS) {
            for &cols in cols_of(kind) {
                for rows in [16, 17, 100] {
                    let (packed, w) = matrix(18, kind, rows, cols);
                    for m in [1, 3, 8, 17, 64] {
                        check_transposed(isa, kind, &packed, &w, m);
                    }
                }
            }
        }
    }
}
