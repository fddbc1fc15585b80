//! Matrices in the form of a file, of every type that has kernels, for the tests of products here and of
//! decoding in `tests/library/decoding.rs`.

use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::GgmlType;

/// A type: columns and bytes of a block, places of the f16 scales.
pub(crate) struct Kind {
    pub(crate) ty: GgmlType,
    pub(crate) block: usize,
    pub(crate) bytes: usize,
    pub(crate) halves: &'static [usize],
}

const fn kind(ty: GgmlType, block: usize, bytes: usize, halves: &'static [usize]) -> Kind {
    Kind { ty, block, bytes, halves }
}

pub(crate) const QUANTIZED: [Kind; 10] = [
    kind(GgmlType::Q4_0, 32, 18, &[0]),
    kind(GgmlType::Q4_1, 32, 20, &[0, 2]),
    kind(GgmlType::Q5_0, 32, 22, &[0]),
    kind(GgmlType::Q5_1, 32, 24, &[0, 2]),
    kind(GgmlType::Q8_0, 32, 34, &[0]),
    kind(GgmlType::Q2K, 256, 84, &[80, 82]),
    kind(GgmlType::Q3K, 256, 110, &[108]),
    kind(GgmlType::Q4K, 256, 144, &[0, 2]),
    kind(GgmlType::Q5K, 256, 176, &[0, 2]),
    kind(GgmlType::Q6K, 256, 210, &[208]),
];
pub(crate) const FLOATS: [Kind; 3] = [
    kind(GgmlType::F32, 1, 4, &[]),
    kind(GgmlType::F16, 1, 2, &[]),
    kind(GgmlType::BF16, 1, 2, &[]),
];

/// In -1 ..= 1.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0
}

/// A matrix of random codes and scales in the file's form: every bit pattern occurs, not only
/// those that a good quantizer writes.
pub(crate) fn file_bytes(rng: &mut ChaCha8Rng, kind: &Kind, rows: usize, cols: usize) -> Vec<u8> {
    let values = rows * cols;
    match kind.ty {
        GgmlType::F32 => (0..values).flat_map(|_| uniform(rng).to_le_bytes()).collect(),
        GgmlType::F16 => {
            (0..values).flat_map(|_| f16::from_f32(uniform(rng)).to_le_bytes()).collect()
        }
        GgmlType::BF16 => {
            (0..values).flat_map(|_| bf16::from_f32(uniform(rng)).to_le_bytes()).collect()
        }
        _ => {
            let mut bytes = vec![0; values / kind.block * kind.bytes];
            rng.fill_bytes(&mut bytes);
            for block in bytes.chunks_exact_mut(kind.bytes) {
                for &at in kind.halves {
                    let scale = f16::from_f32(0.02 * uniform(rng));
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
            bytes
        }
    }
}
