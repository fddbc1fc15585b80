//! The operands of products, as every instruction set takes them.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::vector::Vector;
use crate::kernels::memory::Line;
use crate::kernels::packing::PackedMatrix;

/// Columns of a panel: two tiles, or one block.
pub(in crate::kernels) const PANEL: usize = 32;

/// A row-major f32 matrix, of which parallel tasks write disjoint columns.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Output {
    pub(in crate::kernels) at: *mut f32,
    /// Distance between rows.
    pub(in crate::kernels) stride: usize,
}

// SAFETY: a plain address; every function that writes through it is unsafe and demands that no
// other task touches the columns it names.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// The same matrix seen from another first element.
    ///
    /// # Safety
    /// The element must lie in the matrix or one past its end.
    pub(in crate::kernels) unsafe fn from(self, row: usize, col: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { at: unsafe { self.at.add(row * self.stride + col) }, stride: self.stride }
    }
}

/// A tile of a quantized matrix, for int8 products.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct CodeTile<'a> {
    pub(in crate::kernels) matrix: &'a PackedMatrix,
    pub(in crate::kernels) tile: usize,
    /// Its codes, if `Isa::decode_codes` has decoded them.
    pub(in crate::kernels) decoded: Option<&'a [Line]>,
}

/// Left operand rows: `rows` rows of at least `depth` values, `stride` apart.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Left<'a> {
    pub(in crate::kernels) values: &'a [f32],
    pub(in crate::kernels) stride: usize,
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) depth: usize,
}

impl<'a> Left<'a> {
    pub(in crate::kernels) fn new(
        values: &'a [f32],
        stride: usize,
        rows: usize,
        depth: usize,
    ) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + depth <= values.len(), "operand too short");
        Self { values, stride, rows, depth }
    }
}

/// What a panel holds.
pub(super) trait Value: Copy {
    /// The value as f32.
    fn to_f32(self) -> f32;

    /// [`Vector::LANES`] values as f32.
    ///
    /// # Safety
    /// As [`Vector`]; the values exist.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats;
}

impl Value for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats {
        // SAFETY: the caller's promise.
        unsafe { V::floats(at) }
    }
}

/// IEEE 754 half precision.
impl Value for u16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        half::f16::from_bits(self).to_f32()
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats {
        // SAFETY: the caller's promise.
        unsafe { V::halves(at.cast()) }
    }
}

/// The rows of a left operand in the fewest groups of at most `most`, all about equally large rather than full
/// ones and a small rest: the first row of each, and how many there are.
pub(super) fn row_groups(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = rows - first;
        let here = (first, left.div_ceil(left.div_ceil(most).max(1)));
        first += here.1;
        (here.1 > 0).then_some(here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_rows_once_and_are_about_equally_large() {
        let of = |rows, most| row_groups(rows, most).collect::<Vec<_>>();
        assert_eq!(of(0, 6), []);
        assert_eq!(of(6, 6), [(0, 6)]);
        assert_eq!(of(13, 6), [(0, 5), (5, 4), (9, 4)]);
        assert_eq!(of(13, 12), [(0, 7), (7, 6)]);
    }
}
