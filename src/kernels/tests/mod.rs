//! Tests of products on every instruction set that this machine has, against sums in f64 of the decoded weights.
//! `tests/library/decoding.rs` tests decoding itself.

mod exact;
mod fast;
pub(in crate::kernels) mod samples;

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
    let (rows, cols) = (200, 576);
    let (w, _) = matrix(24, &QUANTIZED[4], rows, cols);
    let mut rng = ChaCha8Rng::seed_from_u64(27);
    let few_and_many = [1, 20, 50].into_iter().flat_map(|m| [(m, 5), (m, 600)]);
    for ((m, rank), compute) in
        few_and_many.flat_map(|shape| [(shape, Compute::Exact), (shape, Compute::Fast)])
    {
        let stride = rank + 2;
        let b = values(&mut rng, rows * rank);
        let panels = Panels::pack(&[&b], rank, 1.0);
        let tiles = compute == Compute::Fast && Isa::detect().multiplies_tiles(m);
        let bound = if tiles { 2.0 / 256.0 } else { F32_ERROR };
        let (x, h) = (values(&mut rng, m * cols), values(&mut rng, m * stride));
        let (mut plain, mut y) = (vec![f32::NAN; m * rows], vec![f32::NAN; m * rows]);
        w.matmul(compute, &x, m, &mut plain);
        let update = Some(Update { h: &h, stride, b: &panels });
        matmul_shared(&x, m, &mut [Product { w: &w, compute, y: &mut y, update }]);
        for (i, (y, plain)) in y.iter().zip(plain).enumerate() {
            let (h, b) = (&h[i / rows * stride..], &b[i % rows * rank..][..rank]);
            let (sum, size) = dot(b.iter().copied().zip(h.iter().copied()));
            let error = (f64::from(*y) - f64::from(plain) - sum).abs();
            assert!(error < bound * size + 1e-4, "{compute:?}, m {m}, rank {rank}: {error}");
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
