//! The packed layout: where every code and scale of a matrix is stored, and how a value is read back.
//!
//! A matrix `[rows, cols]` is cut into tiles of [`TILE`] rows and blocks of [`BLOCK`] columns. The
//! block `b` of tile `t` has the number `t * blocks + b`; its 512 values are `w = d·q + m` with an
//! unsigned code `q` of 2 to 8 bits and a pair `(d, m)` per row (for some types per row and half
//! block). Nothing is rounded: a decoded value equals ggml's own to the last bit, because `d·q` is
//! exact in f32 for every type, so that `d·q + m` rounds once, wherever ggml rounds.
//!
//! Codes of one block, `64 * bits` bytes. Value `k` (0..32) of row `r` (0..16) belongs to group
//! `g = k / 4` and to byte lane `p = 4 r + k % 4` of a 64-byte line, which is what an instruction
//! that sums four int8 products per 32-bit lane wants:
//!
//! - low part of 8 bits: line `g`; of 4 bits: line `g % 4`, shifted left by `4 (g / 4)`; of 2 bits:
//!   line `g % 2`, shifted left by `2 (g / 2)`;
//! - then one line for each further bit: bit `g` of byte `p`.
//!
//! Float weights lie as `[k][r]`, each in its own type. The rows that fill up the last tile and the
//! columns that fill up a float matrix's last block are zero.

use half::{bf16, f16};

use crate::kernels::memory::Lines;

/// Rows of a tile: the f32 lanes of one AVX-512 register.
pub(in crate::kernels) const TILE: usize = 16;
/// Columns of a block: the block of ggml's simple types.
pub(in crate::kernels) const BLOCK: usize = 32;
/// Blocks that share a super scale in ggml's K types.
pub(in crate::kernels) const SUPER: usize = 8;
/// Bytes of a cache line and of an AVX-512 register.
pub(in crate::kernels) const LINE: usize = 64;

/// Lines of a block whose codes have been decoded to bytes.
pub(in crate::kernels) const CODE_LINES: usize = BLOCK * TILE / LINE;

/// How the codes of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Codes {
    /// `low` bits (2, 4 or 8) together, then `planes` single bits (0, 1 or 2).
    Bits {
        low: usize,
        planes: usize,
    },
    F32,
    F16,
    Bf16,
}

impl Codes {
    /// Whether codes are put together of several pieces.
    pub(in crate::kernels) const fn has_planes(self) -> bool {
        matches!(self, Self::Bits { planes: 1.., .. })
    }

    /// Bytes of one block of one tile.
    pub(in crate::kernels) const fn bytes(self) -> usize {
        match self {
            Self::Bits { low, planes } => LINE * (low + planes),
            Self::F32 => TILE * BLOCK * 4,
            Self::F16 | Self::Bf16 => TILE * BLOCK * 2,
        }
    }
}

/// How the scales of a block are stored. `subs` lie per block, `supers` per [`SUPER`] blocks; each
/// item below is an array over the 16 rows of the tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Scales {
    /// Float weights have none.
    None,
    /// subs: `d: f16`; `m = -offset·d`.
    Half { offset: u8 },
    /// subs: `d: f16`, `m: f16`.
    Pair,
    /// supers: `D: f16`, `M: f16`; subs: `s: u8`, `n: u8`; `d = D·s`, `m = -M·n`.
    Super,
    /// supers: `D: f16`; subs: `s: i8` for the first 16 columns, `s: i8` for the others; `d = D·s`,
    /// `m = -offset·d`.
    Signed16 { offset: u8 },
    /// supers: `D: f16`, `M: f16`; subs: `s` in the low and `n` in the high 4 bits of a byte for
    /// the first 16 columns, then for the others; `d = D·s`, `m = -M·n`.
    Pair16,
}

impl Scales {
    /// Bytes per block of one tile.
    pub(in crate::kernels) const fn sub_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Pair => 4 * TILE,
            Self::Half { .. } | Self::Super | Self::Signed16 { .. } | Self::Pair16 => 2 * TILE,
        }
    }

    /// Bytes per [`SUPER`] blocks of one tile.
    pub(in crate::kernels) const fn super_bytes(self) -> usize {
        match self {
            Self::None | Self::Half { .. } | Self::Pair => 0,
            Self::Signed16 { .. } => 2 * TILE,
            Self::Super | Self::Pair16 => 4 * TILE,
        }
    }

    /// The `offset` in `m = -offset·d`, 0 where `m` is stored.
    pub(in crate::kernels) const fn offset(self) -> f32 {
        match self {
            Self::Half { offset } | Self::Signed16 { offset } => offset as f32,
            Self::None | Self::Pair | Self::Super | Self::Pair16 => 0.0,
        }
    }
}

/// The scales of the 16 rows of one half block: `w = d·q + m`.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct HalfScales {
    pub(in crate::kernels) d: [f32; TILE],
    pub(in crate::kernels) m: [f32; TILE],
}

/// A frozen weight matrix `[rows = out features, cols = in features]`, quantized as in its file.
///
/// Made by [`PackedMatrix::pack`]; it replaces the file's bytes, which need not be kept.
pub struct PackedMatrix {
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) cols: usize,
    /// `ceil(rows / TILE)`
    pub(in crate::kernels) tiles: usize,
    /// `ceil(cols / BLOCK)`
    pub(in crate::kernels) blocks: usize,
    pub(in crate::kernels) codes: Codes,
    pub(in crate::kernels) scales: Scales,
    pub(in crate::kernels) code_bytes: Lines,
    pub(in crate::kernels) sub_bytes: Lines,
    pub(in crate::kernels) super_bytes: Lines,
}

impl PackedMatrix {
    /// Output features.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that the packed weights occupy.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.code_bytes.bytes().len()
            + self.sub_bytes.bytes().len()
            + self.super_bytes.bytes().len()
    }

    /// Decodes one row to f32, as an embedding lookup needs it.
    ///
    /// # Panics
    /// If `row` is not below [`Self::rows`] or `out` is not [`Self::cols`] long.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of a matrix with {} rows", self.rows);
        assert_eq!(out.len(), self.cols, "one value per column");
        let (tile, lane) = (row / TILE, row % TILE);
        let mut codes = [0.0; BLOCK];
        for (b, out) in out.chunks_mut(BLOCK).enumerate() {
            let block = tile * self.blocks + b;
            self.codes(block, lane, &mut codes);
            let halves = self.lane_scales(block, lane);
            for ((half, codes), out) in
                halves.iter().zip(codes.chunks(BLOCK / 2)).zip(out.chunks_mut(BLOCK / 2))
            {
                let (d, m) = *half;
                out.iter_mut().zip(codes).for_each(|(value, code)| *value = d * code + m);
            }
        }
    }

    /// The codes `q` of row `lane` of a block, or the values themselves for float weights.
    fn codes(&self, block: usize, lane: usize, to: &mut [f32; BLOCK]) {
        let size = self.codes.bytes();
        let bytes = &self.code_bytes.bytes()[block * size..][..size];
        match self.codes {
            Codes::Bits { low: 8, .. } => bits::<8>(bytes, 0, lane, to),
            Codes::Bits { low: 4, planes } => bits::<4>(bytes, planes, lane, to),
            Codes::Bits { low: 2, planes } => bits::<2>(bytes, planes, lane, to),
            _ => to.iter_mut().enumerate().for_each(|(k, q)| *q = self.code(block, k, lane)),
        }
    }

    /// The code `q` of column `k` and row `lane` of a block, or the value itself for float weights.
    pub(in crate::kernels) fn code(&self, block: usize, k: usize, lane: usize) -> f32 {
        let size = self.codes.bytes();
        let bytes = &self.code_bytes.bytes()[block * size..][..size];
        let at = k * TILE + lane;
        match self.codes {
            Codes::F32 => f32::from_le_bytes(four(bytes, 4 * at)),
            Codes::F16 => f16::from_le_bytes(two(bytes, 2 * at)).to_f32(),
            Codes::Bf16 => bf16::from_le_bytes(two(bytes, 2 * at)).to_f32(),
            Codes::Bits { low, planes } => {
                let (line, shift, place) = code_place(low, k, lane);
                let low_mask = ((1u16 << low) - 1) as u8;
                let mut q = (bytes[line * LINE + place] >> shift) & low_mask;
                for plane in 0..planes {
                    let bit = (bytes[(low + plane) * LINE + place] >> (k / 4)) & 1;
                    q |= bit << (low + plane);
                }
                f32::from(q)
            }
        }
    }

    /// The scales of both halves of a block; `d = 1, m = 0` for float weights.
    pub(in crate::kernels) fn half_scales(&self, block: usize) -> [HalfScales; 2] {
        let mut halves = [HalfScales { d: [1.0; TILE], m: [0.0; TILE] }; 2];
        for lane in 0..TILE {
            for (half, (d, m)) in halves.iter_mut().zip(self.lane_scales(block, lane)) {
                half.d[lane] = d;
                half.m[lane] = m;
            }
        }
        halves
    }

    /// `d` and `m` of both halves of row `lane` of a block.
    #[inline]
    fn lane_scales(&self, block: usize, lane: usize) -> [(f32, f32); 2] {
        let sub = self.scales.sub_bytes();
        let sub = &self.sub_bytes.bytes()[block * sub..][..sub];
        let over = self.scales.super_bytes();
        let over = &self.super_bytes.bytes()[(block / SUPER) * over..][..over];
        let half_at = |bytes: &[u8]| f16::from_le_bytes(two(bytes, 2 * lane)).to_f32();
        let offset = self.scales.offset();
        match self.scales {
            // -0.0, so that adding it keeps the sign of a zero weight.
            Scales::None => [(1.0, -0.0); 2],
            Scales::Half { .. } => {
                let d = half_at(sub);
                [(d, -offset * d); 2]
            }
            Scales::Pair => [(half_at(sub), half_at(&sub[2 * TILE..])); 2],
            Scales::Super => {
                let d = half_at(over) * f32::from(sub[lane]);
                [(d, -(half_at(&over[2 * TILE..]) * f32::from(sub[TILE + lane]))); 2]
            }
            Scales::Signed16 { .. } => [0, TILE].map(|half| {
                let d = half_at(over) * f32::from(i8::from_le_bytes([sub[half + lane]]));
                (d, -offset * d)
            }),
            Scales::Pair16 => [0, TILE].map(|half| {
                let byte = sub[half + lane];
                let minimum = half_at(&over[2 * TILE..]) * f32::from(byte >> 4);
                (half_at(over) * f32::from(byte & 15), -minimum)
            }),
        }
    }
}

/// The codes of a row, `LOW` bits of which lie together.
fn bits<const LOW: usize>(bytes: &[u8], planes: usize, lane: usize, to: &mut [f32; BLOCK]) {
    let low_mask = ((1u16 << LOW) - 1) as u8;
    for (group, to) in to.chunks_exact_mut(4).enumerate() {
        let (line, shift, place) = code_place(LOW, 4 * group, lane);
        let low = four(bytes, line * LINE + place);
        let mut codes = low.map(|byte| (byte >> shift) & low_mask);
        for plane in 0..planes {
            let line = four(bytes, (LOW + plane) * LINE + place);
            for (code, byte) in codes.iter_mut().zip(line) {
                *code |= ((byte >> group) & 1) << (LOW + plane);
            }
        }
        to.iter_mut().zip(codes).for_each(|(to, code)| *to = f32::from(code));
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedMatrix")
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("codes", &self.codes)
            .field("scales", &self.scales)
            .finish_non_exhaustive()
    }
}

/// Where the low part of a code lies: (line, left shift, byte in the line).
pub(in crate::kernels) const fn code_place(
    low: usize,
    k: usize,
    lane: usize,
) -> (usize, usize, usize) {
    let group = k / 4;
    let lines = low;
    (group % lines, low * (group / lines), 4 * lane + k % 4)
}

fn two(bytes: &[u8], at: usize) -> [u8; 2] {
    [bytes[at], bytes[at + 1]]
}

fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}
