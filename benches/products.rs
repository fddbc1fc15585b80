//! Speed of products with quantized weights. Criterion's "Gelem/s" are GFLOP/s here, counting
//! 2·m·k·n for `[m, k] · [k, n]`.
//!
//! `cargo bench --bench products -- Q4_1/576x1536` runs a part; `taskset` sets processors.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use latrod::gguf::GgmlType;
use latrod::kernels::{Compute, PackedMatrix};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Name, type, columns and bytes of a block, places of its f16 scales.
const TYPES: [(&str, GgmlType, usize, usize, &[usize]); 5] = [
    ("Q4_1", GgmlType::Q4_1, 32, 20, &[0, 2]),
    ("Q5_0", GgmlType::Q5_0, 32, 22, &[0]),
    ("Q8_0", GgmlType::Q8_0, 32, 34, &[0]),
    ("Q4_K", GgmlType::Q4K, 256, 144, &[0, 2]),
    ("Q6_K", GgmlType::Q6K, 256, 210, &[208]),
];

/// k → n: SmolLM2's feed-forward layers, and those of a model of 1 to 2 billion weights.
const SHAPES: [(usize, usize); 3] = [(576, 1536), (1536, 576), (2048, 8192)];

fn weights(
    ty: GgmlType,
    block: (usize, usize),
    scales: &[usize],
    k: usize,
    n: usize,
) -> PackedMatrix {
    let (cols, bytes) = block;
    let mut file = vec![0; n * k / cols * bytes];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut file);
    for block in file.chunks_exact_mut(bytes) {
        for &at in scales {
            block[at..at + 2].copy_from_slice(&f16::from_f32(0.01).to_le_bytes());
        }
    }
    PackedMatrix::pack(ty, n, k, &file).expect("the bytes have the right length")
}

fn activations(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    (0..count).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
}

fn products(c: &mut Criterion) {
    for (name, ty, cols, bytes, scales) in TYPES {
        for (k, n) in SHAPES.into_iter().filter(|(k, _)| k.is_multiple_of(cols)) {
            let w = weights(ty, (cols, bytes), scales, k, n);
            let mut group = c.benchmark_group(format!("{name}/{k}x{n}"));
            for m in [1, 8, 64, 512] {
                group.throughput(Throughput::Elements((2 * m * k * n) as u64));
                let (x, g) = (activations(m * k), activations(m * n));
                let (mut y, mut dx) = (vec![0.0; m * n], vec![0.0; m * k]);
                for (compute, label) in [(Compute::Exact, "exact"), (Compute::Fast, "fast")] {
                    group.bench_function(BenchmarkId::new(label, m), |b| {
                        b.iter(|| w.matmul(compute, black_box(&x), m, black_box(&mut y)));
                    });
                    group.bench_function(BenchmarkId::new(format!("{label} transposed"), m), |b| {
                        let g = black_box(&g);
                        b.iter(|| w.matmul_transposed(compute, g, m, black_box(&mut dx), false));
                    });
                }
            }
            group.finish();
        }
    }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
}

criterion_group! {
    name = benches;
    config = config();
    targets = products
}
criterion_main!(benches);
