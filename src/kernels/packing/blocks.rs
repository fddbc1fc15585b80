//! ggml's block formats (ggml-common.h, `dequantize_row_*` in ggml-quants.c): takes one block of 32
//! columns of one row apart into codes and scales, without any arithmetic on the values.

use super::layout::{BLOCK, Codes, SUPER, Scales};
use crate::gguf::GgmlType;

/// 32 columns of one row.
pub(super) struct Block {
    /// Unsigned codes.
    pub(super) codes: [u8; BLOCK],
    /// The bits of the f16 scale, of the whole super block for K types.
    pub(super) d: [u8; 2],
    /// The bits of the f16 minimum, zero where the type has none.
    pub(super) m: [u8; 2],
    /// The two bytes of sub-block scales in the order of [`Scales`], zero where there are none.
    pub(super) sub: [u8; 2],
}

/// A quantized type's place in the file and in memory.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// Columns of a file block.
    pub(super) block_cols: usize,
    /// Bytes of a file block.
    pub(super) block_bytes: usize,
    pub(super) codes: Codes,
    pub(super) scales: Scales,
    /// Reads columns `32 i .. 32 (i + 1)` of a file block of exactly `block_bytes` bytes.
    pub(super) read: fn(file: &[u8], i: usize) -> Block,
}

/// The format of a quantized type; `None` for floats and for types without a kernel.
pub(super) fn format_of(ty: GgmlType) -> Option<Format> {
    let bits = |low, planes| Codes::Bits { low, planes };
    let simple = |bytes, codes, scales, read| Format {
        block_cols: BLOCK,
        block_bytes: bytes,
        codes,
        scales,
        read,
    };
    let grouped = |bytes, codes, scales, read| Format {
        block_cols: BLOCK * SUPER,
        block_bytes: bytes,
        codes,
        scales,
        read,
    };
    Some(match ty {
        GgmlType::Q4_0 => simple(18, bits(4, 0), Scales::Half { offset: 8 }, q4_0),
        GgmlType::Q4_1 => simple(20, bits(4, 0), Scales::Pair, q4_1),
        GgmlType::Q5_0 => simple(22, bits(4, 1), Scales::Half { offset: 16 }, q5_0),
        GgmlType::Q5_1 => simple(24, bits(4, 1), Scales::Pair, q5_1),
        GgmlType::Q8_0 => simple(34, bits(8, 0), Scales::Half { offset: 128 }, q8_0),
        GgmlType::Q2K => grouped(84, bits(2, 0), Scales::Pair16, q2_k),
        GgmlType::Q3K => grouped(110, bits(2, 1), Scales::Signed16 { offset: 4 }, q3_k),
        GgmlType::Q4K => grouped(144, bits(4, 0), Scales::Super, q4_k),
        GgmlType::Q5K => grouped(176, bits(4, 1), Scales::Super, q5_k),
        GgmlType::Q6K => grouped(210, bits(4, 2), Scales::Signed16 { offset: 32 }, q6_k),
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 | GgmlType::Other(_) => return None,
    })
}

const NONE: [u8; 2] = [0; 2];

/// 16 bytes → 32 codes: low nibbles first.
fn nibbles(qs: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|k| if k < 16 { qs[k] & 15 } else { qs[k - 16] >> 4 })
}

/// Adds bit `k` of `qh` as the fifth bit of code `k`.
fn fifth_bits(mut codes: [u8; BLOCK], qh: &[u8]) -> [u8; BLOCK] {
    for (k, code) in codes.iter_mut().enumerate() {
        *code |= ((qh[k / 8] >> (k % 8)) & 1) << 4;
    }
    codes
}

fn q4_0(f: &[u8], _: usize) -> Block {
    Block { codes: nibbles(&f[2..]), d: [f[0], f[1]], m: NONE, sub: NONE }
}

fn q4_1(f: &[u8], _: usize) -> Block {
    Block { codes: nibbles(&f[4..]), d: [f[0], f[1]], m: [f[2], f[3]], sub: NONE }
}

fn q5_0(f: &[u8], _: usize) -> Block {
    let codes = fifth_bits(nibbles(&f[6..]), &f[2..6]);
    Block { codes, d: [f[0], f[1]], m: NONE, sub: NONE }
}

fn q5_1(f: &[u8], _: usize) -> Block {
    let codes = fifth_bits(nibbles(&f[8..]), &f[4..8]);
    Block { codes, d: [f[0], f[1]], m: [f[2], f[3]], sub: NONE }
}

fn q8_0(f: &[u8], _: usize) -> Block {
    // i8 → u8 with an offset of 128.
    let codes = std::array::from_fn(|k| f[2 + k] ^ 0x80);
    Block { codes, d: [f[0], f[1]], m: NONE, sub: NONE }
}

/// `block_q2_K`: scales[16], qs[64], d, dmin.
fn q2_k(f: &[u8], i: usize) -> Block {
    let qs = &f[16 + 32 * (i / 4)..];
    let codes = std::array::from_fn(|k| (qs[k] >> (2 * (i % 4))) & 3);
    Block { codes, d: [f[80], f[81]], m: [f[82], f[83]], sub: [f[2 * i], f[2 * i + 1]] }
}

/// `block_q3_K`: hmask[32], qs[64], scales[12] (6 bits each), d.
fn q3_k(f: &[u8], i: usize) -> Block {
    let (hmask, qs, scales) = (&f[..32], &f[32 + 32 * (i / 4)..], &f[96..108]);
    let codes =
        std::array::from_fn(|k| ((qs[k] >> (2 * (i % 4))) & 3) | (((hmask[k] >> i) & 1) << 2));
    let scale = |s: usize| {
        let low = if s < 8 { scales[s] & 15 } else { scales[s - 8] >> 4 };
        let high = (scales[8 + s % 4] >> (2 * (s / 4))) & 3;
        (low | (high << 4)).wrapping_sub(32)
    };
    Block { codes, d: [f[108], f[109]], m: NONE, sub: [scale(2 * i), scale(2 * i + 1)] }
}

/// The 6-bit scale and minimum of sub-block `i` (`get_scale_min_k4`).
fn scale_min_k4(s: &[u8], i: usize) -> [u8; 2] {
    if i < 4 {
        [s[i] & 63, s[i + 4] & 63]
    } else {
        [(s[i + 4] & 15) | ((s[i - 4] >> 6) << 4), (s[i + 4] >> 4) | ((s[i] >> 6) << 4)]
    }
}

/// 32 bytes hold sub-block `i` (even) in their low and `i + 1` in their high nibbles.
fn k_nibbles(qs: &[u8], i: usize) -> [u8; BLOCK] {
    std::array::from_fn(|k| (qs[32 * (i / 2) + k] >> (4 * (i % 2))) & 15)
}

/// `block_q4_K`: d, dmin, scales[12], qs[128].
fn q4_k(f: &[u8], i: usize) -> Block {
    let codes = k_nibbles(&f[16..], i);
    Block { codes, d: [f[0], f[1]], m: [f[2], f[3]], sub: scale_min_k4(&f[4..16], i) }
}

/// `block_q5_K`: d, dmin, scales[12], qh[32], qs[128].
fn q5_k(f: &[u8], i: usize) -> Block {
    let mut codes = k_nibbles(&f[48..], i);
    for (k, code) in codes.iter_mut().enumerate() {
        *code |= ((f[16 + k] >> i) & 1) << 4;
    }
    Block { codes, d: [f[0], f[1]], m: [f[2], f[3]], sub: scale_min_k4(&f[4..16], i) }
}

/// `block_q6_K`: ql[128], qh[64], scales[16], d.
fn q6_k(f: &[u8], i: usize) -> Block {
    let (half, part) = (i / 4, i % 4);
    let ql = &f[64 * half + 32 * (part % 2)..];
    let qh = &f[128 + 32 * half..];
    let codes = std::array::from_fn(|k| {
        ((ql[k] >> (4 * (part / 2))) & 15) | (((qh[k] >> (2 * part)) & 3) << 4)
    });
    Block { codes, d: [f[208], f[209]], m: NONE, sub: [f[192 + 2 * i], f[193 + 2 * i]] }
}
