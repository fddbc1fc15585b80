//! GGUF bytes → [`PackedMatrix`]: checks sizes, then moves every code and scale to its place.

use super::blocks::{Block, Format, format_of};
use super::layout::{BLOCK, Codes, LINE, PackedMatrix, SUPER, Scales, TILE, code_place};
use crate::gguf::GgmlType;
use crate::kernels::error::KernelError;
use crate::kernels::isa::Isa;
use crate::kernels::memory::Lines;
use crate::kernels::threads::for_each;

/// The packed bytes of one tile.
struct Tile<'a> {
    codes: &'a mut [u8],
    subs: &'a mut [u8],
    supers: &'a mut [u8],
}

/// A type's blocks in the file, and the layout they are packed to.
struct FileLayout {
    /// Columns of a file block.
    block_cols: usize,
    /// Bytes of a file block.
    block_bytes: usize,
    codes: Codes,
    scales: Scales,
}

impl FileLayout {
    /// `None` for a type without kernels.
    fn of(ty: GgmlType) -> Option<Self> {
        let float =
            |block_bytes, codes| Self { block_cols: 1, block_bytes, codes, scales: Scales::None };
        match (format_of(ty), ty) {
            (Some(Format { block_cols, block_bytes, codes, scales, .. }), _) => {
                Some(Self { block_cols, block_bytes, codes, scales })
            }
            (None, GgmlType::F32) => Some(float(4, Codes::F32)),
            (None, GgmlType::F16) => Some(float(2, Codes::F16)),
            (None, GgmlType::BF16) => Some(float(2, Codes::Bf16)),
            _ => None,
        }
    }
}

impl PackedMatrix {
    /// The bytes that a matrix of this type and size takes once it is packed
    /// ([`Self::resident_bytes`]); `None` for a type without kernels.
    #[must_use]
    pub fn packed_bytes(ty: GgmlType, rows: usize, cols: usize) -> Option<u64> {
        let FileLayout { codes, scales, .. } = FileLayout::of(ty)?;
        let (tiles, blocks) = (rows.div_ceil(TILE), cols.div_ceil(BLOCK));
        let lines = |per_block: usize, blocks: usize| {
            let bytes =
                [tiles, blocks, per_block].iter().fold(1, |n: u64, f| n.saturating_mul(*f as u64));
            bytes.checked_next_multiple_of(LINE as u64).unwrap_or(u64::MAX)
        };
        let parts = [
            lines(codes.bytes(), blocks),
            lines(scales.sub_bytes(), blocks),
            lines(scales.super_bytes(), blocks / SUPER),
        ];
        Some(parts.into_iter().fold(0, u64::saturating_add))
    }

    /// Packs a tensor's bytes: `rows` rows of `cols` values, row-major, as a GGUF file holds them.
    ///
    /// Decoded values equal ggml's `dequantize_row_*` to the last bit. Takes about as many bytes as
    /// the file. Runs on all threads.
    ///
    /// # Errors
    /// A type without kernels, dimensions that are zero or do not match the type's block or the
    /// number of bytes, too little memory, or a `LATROD_ISA` that this machine does not have.
    pub fn pack(ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, KernelError> {
        Isa::chosen()?;
        let format = format_of(ty);
        let FileLayout { block_cols, block_bytes, codes, scales } =
            FileLayout::of(ty).ok_or(KernelError::UnsupportedType { ty })?;
        let bad_shape = KernelError::BadShape { rows, cols };
        if rows == 0 || cols == 0 {
            return Err(bad_shape);
        }
        if !cols.is_multiple_of(block_cols) {
            return Err(KernelError::RaggedRow { ty, cols, block: block_cols });
        }
        let expected = (cols / block_cols)
            .checked_mul(block_bytes)
            .and_then(|row| row.checked_mul(rows))
            .ok_or(bad_shape)?;
        if bytes.len() != expected {
            return Err(KernelError::WrongLength { ty, rows, cols, expected, found: bytes.len() });
        }

        // The bytes exist, so rows * cols is at most eight times their number, and no product below
        // can exceed 16 times (the filled-up tile) 32 times (the filled-up block) that.
        let (tiles, blocks) = (rows.div_ceil(TILE), cols.div_ceil(BLOCK));
        let size = |per_block: usize, blocks: usize| {
            tiles
                .checked_mul(blocks)
                .and_then(|n| n.checked_mul(per_block))
                .ok_or(KernelError::BadShape { rows, cols })
        };
        let mut code_bytes = Lines::zeroed(size(codes.bytes(), blocks)?)?;
        let mut sub_bytes = Lines::zeroed(size(scales.sub_bytes(), blocks)?)?;
        let mut super_bytes = Lines::zeroed(size(scales.super_bytes(), blocks / SUPER)?)?;

        let row_bytes = bytes.len() / rows;
        let code_tiles = split(code_bytes.bytes_mut(), codes.bytes() * blocks, tiles);
        let sub_tiles = split(sub_bytes.bytes_mut(), scales.sub_bytes() * blocks, tiles);
        let super_tiles =
            split(super_bytes.bytes_mut(), scales.super_bytes() * (blocks / SUPER), tiles);
        let parts = code_tiles.into_iter().zip(sub_tiles).zip(super_tiles);
        let mut parts: Vec<(Tile<'_>, &[u8])> = parts
            .map(|((codes, subs), supers)| Tile { codes, subs, supers })
            .zip(bytes.chunks(row_bytes * TILE))
            .collect();
        for_each(&mut parts, rows * cols, |(tile, source)| {
            for (lane, row) in source.chunks_exact(row_bytes).enumerate() {
                match format {
                    Some(format) => place_quantized(tile, &format, lane, row),
                    None => place_floats(tile, block_bytes, lane, row),
                }
            }
        });
        Ok(Self { rows, cols, tiles, blocks, codes, scales, code_bytes, sub_bytes, super_bytes })
    }
}

/// `count` pieces of `each` bytes, which may be none.
fn split(bytes: &mut [u8], each: usize, count: usize) -> Vec<&mut [u8]> {
    if each == 0 {
        return (0..count).map(|_| &mut [][..]).collect();
    }
    bytes.chunks_exact_mut(each).take(count).collect()
}

fn place_floats(tile: &mut Tile<'_>, width: usize, lane: usize, row: &[u8]) {
    // Blocks of 32 columns follow one another, so the column alone gives the place.
    for (col, value) in row.chunks_exact(width).enumerate() {
        tile.codes[(col * TILE + lane) * width..][..width].copy_from_slice(value);
    }
}

fn place_quantized(tile: &mut Tile<'_>, format: &Format, lane: usize, row: &[u8]) {
    let per_file_block = format.block_cols / BLOCK;
    for (f, file_block) in row.chunks_exact(format.block_bytes).enumerate() {
        for i in 0..per_file_block {
            let block = (format.read)(file_block, i);
            place_block(tile, format, f * per_file_block + i, lane, &block);
        }
    }
}

fn place_block(tile: &mut Tile<'_>, format: &Format, b: usize, lane: usize, block: &Block) {
    if let Codes::Bits { low, planes } = format.codes {
        let size = format.codes.bytes();
        let codes = &mut tile.codes[b * size..][..size];
        let low_mask = ((1u16 << low) - 1) as u8;
        for (k, &q) in block.codes.iter().enumerate() {
            let (line, shift, place) = code_place(low, k, lane);
            codes[line * LINE + place] |= (q & low_mask) << shift;
            for plane in 0..planes {
                let bit = (q >> (low + plane)) & 1;
                codes[(low + plane) * LINE + place] |= bit << (k / 4);
            }
        }
    }
    let sub_size = format.scales.sub_bytes();
    let subs = &mut tile.subs[b * sub_size..][..sub_size];
    let super_size = format.scales.super_bytes();
    let supers = &mut tile.supers[(b / SUPER) * super_size..][..super_size];
    let (first, second) = (2 * lane, 2 * TILE + 2 * lane);
    match format.scales {
        Scales::None => {}
        Scales::Half { .. } => subs[first..first + 2].copy_from_slice(&block.d),
        Scales::Pair => {
            subs[first..first + 2].copy_from_slice(&block.d);
            subs[second..second + 2].copy_from_slice(&block.m);
        }
        Scales::Super | Scales::Pair16 => {
            supers[first..first + 2].copy_from_slice(&block.d);
            supers[second..second + 2].copy_from_slice(&block.m);
        }
        Scales::Signed16 { .. } => supers[first..first + 2].copy_from_slice(&block.d),
    }
    if super_size != 0 {
        subs[lane] = block.sub[0];
        subs[TILE + lane] = block.sub[1];
    }
}
