//! What the vector instruction sets share: reading packed weights into registers, and decoding them to panels.
//!
//! [`Vector`] lists the few operations that differ. Everything built on them is written once, is inlined
//! completely, and is compiled for a set's instructions by [`Vector::run`].

pub(super) mod decode;
pub(super) mod readers;

use self::readers::Layout;
use crate::kernels::memory::Line;
use crate::kernels::packing::{CODE_LINES, LINE, PackedMatrix, TILE};

/// A vector instruction set.
///
/// # Safety
/// All functions need the instructions of the set, and addresses need as many values as are named.
pub(super) trait Vector: Copy {
    /// Rows of a tile that are computed together; divides [`TILE`].
    const LANES: usize;
    /// Columns that [`Self::store_transposed`] takes, at most 16.
    const SQUARE: usize;
    /// Whether [`Self::nibble`] is faster than [`Self::field`] and [`Self::byte`].
    const HAS_NIBBLES: bool;
    /// [`Self::LANES`] f32 values.
    type Floats: Copy;
    /// Four bytes, of four columns, for each of [`Self::LANES`] rows.
    type Codes: Copy;

    /// Runs a task in a function that may use the instructions of the set.
    unsafe fn run<T: Task>(task: T);

    unsafe fn zero() -> Self::Floats;
    /// `a·b`
    unsafe fn product(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a·b` with the same number for all lanes.
    unsafe fn times(a: Self::Floats, b: f32) -> Self::Floats;
    /// `-a·b`, exact for the operands of the readers.
    unsafe fn negative_product(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a·b + c`, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// f32 values.
    unsafe fn floats(at: *const f32) -> Self::Floats;
    /// f16 values as f32.
    unsafe fn halves(at: *const u8) -> Self::Floats;
    /// bf16 values as f32.
    unsafe fn brain_floats(at: *const u8) -> Self::Floats;
    /// Unsigned bytes as f32.
    unsafe fn bytes(at: *const u8) -> Self::Floats;
    /// Signed bytes as f32.
    unsafe fn signed_bytes(at: *const u8) -> Self::Floats;
    /// The low and the high 4 bits of unsigned bytes as f32.
    unsafe fn nibble_pair(at: *const u8) -> (Self::Floats, Self::Floats);

    /// The bytes at an address that is a multiple of their number.
    unsafe fn line(at: *const u8) -> Self::Codes;
    /// Writes the bytes to such an address.
    unsafe fn store_line(to: *mut u8, codes: Self::Codes);
    /// Bits `shift .. shift + width` of each byte. Both are constants in the end.
    unsafe fn field(line: Self::Codes, shift: usize, width: usize) -> Self::Codes;
    /// Sets bit `to` of each code, where it is clear, to bit `from` of the line's byte.
    unsafe fn with_bit(
        codes: Self::Codes,
        line: Self::Codes,
        from: usize,
        to: usize,
    ) -> Self::Codes;
    /// Byte `j` of the four of each row, as f32.
    unsafe fn byte(codes: Self::Codes, j: usize) -> Self::Floats;
    /// Bits `shift .. shift + 4` of byte `j` of the four of each row, as f32.
    unsafe fn nibble(line: Self::Codes, shift: usize, j: usize) -> Self::Floats;

    unsafe fn store(to: *mut f32, values: Self::Floats);
    /// Writes the first [`Self::SQUARE`] columns as [`Self::LANES`] rows, which are `stride` apart.
    unsafe fn store_transposed(columns: &[Self::Floats; 16], to: *mut f32, stride: usize);
}

/// Work that is compiled for each instruction set. Implementations of `work` are inlined, so that they end up
/// in the function of [`Vector::run`].
pub(super) trait Task {
    /// # Safety
    /// The processor has the instructions that the task uses; its fields are what they say.
    unsafe fn work(self);
}

/// The addresses of a matrix's parts.
#[derive(Clone, Copy)]
pub(super) struct View {
    codes: *const u8,
    subs: *const u8,
    supers: *const u8,
    pub(super) offset: f32,
}

impl View {
    pub(super) fn of(w: &PackedMatrix) -> Self {
        Self {
            codes: w.code_bytes.bytes().as_ptr(),
            subs: w.sub_bytes.bytes().as_ptr(),
            supers: w.super_bytes.bytes().as_ptr(),
            offset: w.scales.offset(),
        }
    }

    /// The same matrix from row `first` of each tile on.
    #[inline(always)]
    pub(super) fn rows_from<V: Vector, R: Layout<V>>(self, first: usize) -> Self {
        Self {
            codes: self.codes.wrapping_add(first * R::CODE_ROW),
            subs: self.subs.wrapping_add(first * R::SUB_ROW),
            supers: self.supers.wrapping_add(first * size_of::<u16>()),
            offset: self.offset,
        }
    }

    /// Where the codes of a block and its own scales are stored; also beyond the matrix, to prefetch.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn block<V: Vector, R: Layout<V>>(&self, block: usize) -> (*const u8, *const u8) {
        let subs = self.subs.wrapping_add(block * R::SUB_BYTES);
        (self.codes.wrapping_add(block * R::CODE_BYTES), subs)
    }
}

/// A tile, or the rows of it that a register holds.
#[derive(Clone, Copy)]
pub(super) struct TileView {
    pub(super) v: View,
    /// The tile's first block.
    pub(super) block: usize,
    pub(super) blocks: usize,
    /// Rows that exist; may be more than a register holds.
    pub(super) width: usize,
}

impl TileView {
    pub(super) fn of(w: &PackedMatrix, tile: usize) -> Self {
        let width = TILE.min(w.rows - tile * TILE);
        Self { v: View::of(w), block: tile * w.blocks, blocks: w.blocks, width }
    }

    /// The same tile for the reader [`Decoded`](readers::Decoded), with the codes that it is to read.
    pub(super) fn with_decoded(self, codes: &[Line]) -> Self {
        let before = self.block * CODE_LINES * LINE;
        let codes = codes.as_ptr().cast::<u8>().wrapping_sub(before);
        Self { v: View { codes, ..self.v }, ..self }
    }

    /// The rows from `first` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn rows_from<V: Vector, R: Layout<V>>(self, first: usize) -> Self {
        Self { v: self.v.rows_from::<V, R>(first), width: self.width - first, ..self }
    }
}

/// Defines functions of [`Vector`] and of traits that build on it, which share one argument for their safety.
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller has the set's instructions and names addresses of enough values.
                unsafe { $body }
            }
        )*
    };
}
pub(super) use operations;

/// Runs a body with a type alias for the [reader](readers) of a matrix's layout. The second form leaves float
/// weights out.
macro_rules! with_reader {
    ($w:expr, $reader:ident => $body:expr) => {{
        use $crate::kernels::isa::vector::readers::{BF16, F16, F32, Float};
        use $crate::kernels::packing::Codes;
        match $w.codes {
            Codes::F32 => {
                type $reader = Float<F32>;
                $body
            }
            Codes::F16 => {
                type $reader = Float<F16>;
                $body
            }
            Codes::Bf16 => {
                type $reader = Float<BF16>;
                $body
            }
            Codes::Bits { .. } => $crate::kernels::isa::vector::with_reader!(quantized $w, $reader => $body),
        }
    }};
    (quantized $w:expr, $reader:ident => $body:expr) => {
        $crate::kernels::isa::vector::with_reader!(@ $w, $reader => $body,
            (4, 0, Scales::Half { .. }, Half), (4, 0, Scales::Pair, Pair),
            (4, 1, Scales::Half { .. }, Half), (4, 1, Scales::Pair, Pair),
            (8, 0, Scales::Half { .. }, Half),
            (2, 0, Scales::Pair16, Pair16), (2, 1, Scales::Signed16 { .. }, Signed16),
            (4, 0, Scales::Super, Super), (4, 1, Scales::Super, Super),
            (4, 2, Scales::Signed16 { .. }, Signed16))
    };
    (@ $w:expr, $reader:ident => $body:expr,
     $(($low:literal, $planes:literal, $scales:pat, $tag:ident)),*) => {{
        use $crate::kernels::isa::vector::readers;
        use $crate::kernels::packing::{Codes, Scales};
        match ($w.codes, $w.scales) {
            $((Codes::Bits { low: $low, planes: $planes }, $scales) => {
                type $reader = readers::Bits<$low, $planes, readers::$tag>;
                $body
            })*
            (codes, scales) => unreachable!("no file type has {codes:?} with {scales:?}"),
        }
    }};
}
pub(super) use with_reader;

/// Repeats a body with `$i` = 0..8, each a constant, because shifts inside must be constants.
macro_rules! eight_times {
    ($i:ident => $body:block) => {
        $crate::kernels::isa::vector::eight_times!(@ $i => $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident => $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            $body
        })*
    };
}
pub(super) use eight_times;
