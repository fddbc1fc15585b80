//! The products of every type and shape against sums in f64 of the decoded weights, on every
//! instruction set that this machine has. That decoding is right is tested in `tests/library/decoding.rs`.

#[path = "samples.rs"]
mod samples;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use samples::{FLOATS, Kind, QUANTIZED, file_bytes, uniform};

use super::isa::Isa;
use super::{Compute, KernelError, PackedMatrix, Panels, Product, Update, matmul_shared};
use crate::gguf::GgmlType;

/// Every instruction set of this machine.
fn all_isas() -> Vec<Isa> {
    Isa::all_available().collect()
}

fn values(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| uniform(rng)).collect()
}

/// A packed matrix of random weights and its values.
fn matrix(seed: u64, kind: &Kind, rows: usize, cols: usize) -> (PackedMatrix, Vec<f32>) {
    let bytes = file_bytes(&mut ChaCha8Rng::seed_from_u64(seed), kind, rows, cols);
    packed(kind, rows, cols, &bytes)
}

/// A packed matrix and its values.
fn packed(kind: &Kind, rows: usize, cols: usize, bytes: &[u8]) -> (PackedMatrix, Vec<f32>) {
    let packed = PackedMatrix::pack(kind.ty, rows, cols, bytes).unwrap();
    let mut decoded = vec![0.0; rows * cols];
    for (r, row) in decoded.chunks_exact_mut(cols).enumerate() {
        packed.decode_row(r, row);
    }
    (packed, decoded)
}

/// `Σ_k a(k)·b(k)` in f64, and the sum of the terms' sizes, which errors are measured by.
fn dot(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(sum, size), (a, b)| {
        let term = f64::from(a) * f64::from(b);
        (sum + term, size + term.abs())
    })
}

/// Checks `y[m, rows]` against f64 sums, each within `relative` of the size of its terms.
fn assert_product(
    y: &[f32],
    x: &[f32],
    w: &[f32],
    (m, rows, cols): (usize, usize, usize),
    relative: f64,
    what: &str,
) {
    for i in 0..m {
        for o in 0..rows {
            let x = &x[i * cols..(i + 1) * cols];
            let w = &w[o * cols..(o + 1) * cols];
            let (expected, size) = dot(x.iter().copied().zip(w.iter().copied()));
            let found = f64::from(y[i * rows + o]);
            let error = (found - expected).abs();
            assert!(error <= relative * size, "{what}, row {i}, out {o}: {found} for {expected}");
        }
    }
}

const F32_ERROR: f64 = 1e-6;

fn cols_of(kind: &Kind) -> &'static [usize] {
    if kind.block == 256 { &[256, 512] } else { &[32, 64, 576] }
}

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
                    for m in [1, 2, 3, 7, 8, 9, 17, 64] {
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
    use super::activations::ActBlock;

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

#[test]
fn values_that_are_not_finite_are_carried_on() {
    for isa in all_isas() {
        for compute in [Compute::Exact, Compute::Fast] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let (packed, _) = matrix(17, &QUANTIZED[1], 16, 64);
                let mut x = vec![1.0; 2 * 64];
                x[70] = bad;
                let mut y = vec![0.0; 2 * 16];
                packed.matmul_on(isa, compute, &x, 2, &mut y);
                let finite: Vec<_> = y.iter().map(|v| v.is_finite()).collect();
                let expected = [[true; 16], [false; 16]].concat();
                assert_eq!(finite, expected, "{isa:?} {compute:?} {bad}");
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
            assert!((sum - (before + dx)).abs() <= 1e-6 * (1.0 + dx.abs()), "{what}, accumulated");
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

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (rows, cols, m) = (1000, 576, 50);
    let (packed, _) = matrix(19, &QUANTIZED[1], rows, cols);
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let (x, g) = (values(&mut rng, m * cols), values(&mut rng, m * rows));
    let on = |threads: usize| {
        let pool = super::threads::Pool::new(threads);
        pool.install(|| {
            let mut out = vec![vec![0.0; m * rows], vec![0.0; m * rows], vec![0.0; m * cols]];
            packed.matmul(Compute::Exact, &x, m, &mut out[0]);
            packed.matmul(Compute::Fast, &x, m, &mut out[1]);
            packed.matmul_transposed(Compute::Exact, &g, m, &mut out[2], false);
            out
        })
    };
    assert!(on(1) == on(3));
}

#[test]
fn products_that_share_their_input_equal_single_ones() {
    let cols = 576;
    let (a, _) = matrix(23, &QUANTIZED[1], 576, cols);
    let (b, _) = matrix(24, &QUANTIZED[4], 200, cols);
    let (c, _) = matrix(25, &FLOATS[1], 33, cols);
    for (m, compute) in [1, 20].into_iter().flat_map(|m| [(m, Compute::Exact), (m, Compute::Fast)])
    {
        let x = values(&mut ChaCha8Rng::seed_from_u64(26), m * cols);
        for group in [vec![&a, &b], vec![&a, &c, &b], vec![]] {
            let single: Vec<Vec<f32>> = group
                .iter()
                .map(|w| {
                    let mut y = vec![f32::NAN; m * w.rows()];
                    w.matmul(compute, &x, m, &mut y);
                    y
                })
                .collect();
            let mut shared: Vec<_> = group.iter().map(|w| vec![f32::NAN; m * w.rows()]).collect();
            let products = group.iter().zip(&mut shared);
            let mut products: Vec<_> =
                products.map(|(w, y)| Product { w, compute, y, update: None }).collect();
            matmul_shared(&x, m, &mut products);
            assert!(shared == single, "{compute:?}, m {m}, {} products", group.len());
        }
    }
}

#[test]
fn what_lora_adds_is_added_to_every_kind_of_product() {
    let (rows, cols, rank, stride) = (200, 576, 5, 7);
    let (w, _) = matrix(24, &QUANTIZED[4], rows, cols);
    let mut rng = ChaCha8Rng::seed_from_u64(27);
    let b = values(&mut rng, rows * rank);
    let panels = Panels::pack(&[&b], rank, 1.0);
    for (m, compute) in
        [1, 20, 50].into_iter().flat_map(|m| [(m, Compute::Exact), (m, Compute::Fast)])
    {
        let (x, h) = (values(&mut rng, m * cols), values(&mut rng, m * stride));
        let (mut plain, mut y) = (vec![f32::NAN; m * rows], vec![f32::NAN; m * rows]);
        w.matmul(compute, &x, m, &mut plain);
        let update = Some(Update { h: &h, stride, b: &panels });
        matmul_shared(&x, m, &mut [Product { w: &w, compute, y: &mut y, update }]);
        for (i, (y, plain)) in y.iter().zip(plain).enumerate() {
            let (h, b) = (&h[i / rows * stride..], &b[i % rows * rank..][..rank]);
            let (sum, _) = dot(b.iter().copied().zip(h.iter().copied()));
            let error = f64::from(*y) - f64::from(plain) - sum;
            assert!(error.abs() < 1e-4, "{compute:?}, m {m}: {error}");
        }
    }
}

#[test]
fn products_of_no_rows_do_nothing() {
    let (packed, _) = matrix(21, &QUANTIZED[1], 16, 32);
    for compute in [Compute::Exact, Compute::Fast] {
        packed.matmul(compute, &[], 0, &mut []);
    }
    packed.matmul_transposed(Compute::Exact, &[], 0, &mut [], true);
}

#[test]
fn packing_takes_about_as_much_memory_as_the_file() {
    for kind in QUANTIZED.iter().chain(&FLOATS) {
        let (rows, cols) = (64, 1024);
        let (packed, _) = matrix(22, kind, rows, cols);
        let file = rows * cols / kind.block * kind.bytes;
        assert!(packed.resident_bytes() <= file * 104 / 100, "{:?}", kind.ty);
        let told = PackedMatrix::packed_bytes(kind.ty, packed.rows(), packed.cols());
        assert_eq!(told, Some(packed.resident_bytes() as u64), "{:?}", kind.ty);
    }
}

#[test]
fn packing_refuses_bytes_that_are_no_such_matrix() {
    let pack = |ty, rows, cols, len| PackedMatrix::pack(ty, rows, cols, &vec![0; len]).unwrap_err();
    let q4 = GgmlType::Q4_1;
    assert_eq!(
        pack(q4, 1, 33, 20),
        KernelError::RaggedRow { ty: q4, cols: 33, block: 32 },
        "a block and a bit"
    );
    assert_eq!(
        pack(q4, 2, 32, 39),
        KernelError::WrongLength { ty: q4, rows: 2, cols: 32, expected: 40, found: 39 },
        "cut short"
    );
    assert_eq!(
        pack(GgmlType::Other(99), 1, 32, 0),
        KernelError::UnsupportedType { ty: GgmlType::Other(99) },
        "unknown type"
    );
    for (rows, cols) in [(0, 32), (32, 0), (usize::MAX, 32)] {
        assert_eq!(pack(q4, rows, cols, 0), KernelError::BadShape { rows, cols }, "bad shape");
    }
}
