//! Dense products over strided slices of f32: a bounds-checked wrapper around the `gemm` crate, and tiles where the
//! processor has them.

use std::ops::Range;

use gemm::Parallelism;

#[cfg(target_arch = "x86_64")]
use super::tiles;
use crate::kernels::Compute;
#[cfg(target_arch = "x86_64")]
use crate::kernels::isa::{Isa, Left, Output};
#[cfg(target_arch = "x86_64")]
use crate::kernels::memory::Floats;
use crate::kernels::threads::in_parts;

/// A read-only matrix view: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// The last index that a view touches, if it touches any.
fn last_index(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    (rows > 0 && cols > 0).then(|| (rows - 1) * row_stride + (cols - 1) * col_stride)
}

impl<'a> MatRef<'a> {
    /// A view of `rows` rows whose starts are `row_stride` apart and whose values are adjacent.
    ///
    /// # Panics
    /// If the view reaches beyond `data`.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(last_index(rows, cols, row_stride, 1).is_none_or(|i| i < data.len()));
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view of the same values.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The values row by row.
    #[cfg(target_arch = "x86_64")]
    fn to_rows(self) -> Floats {
        let mut rows = Floats::zeroed(self.rows * self.cols);
        for (i, row) in rows.chunks_exact_mut(self.cols).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = self.data[i * self.row_stride + j * self.col_stride];
            }
        }
        rows
    }
}

/// `dst = a · b`, or `dst += a · b` with `accumulate`.
///
/// `dst` holds `a.rows` rows of `b.cols` adjacent values whose starts are `dst_stride` apart. The result depends only
/// on the inputs. With `Compute::Fast`, processors with tiles round both operands to bf16 if rows of `b` are adjacent
/// values and the summed dimension is long enough.
///
/// # Panics
/// If the shapes don't fit together or `dst` is too short.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "others have no tiles"))]
pub fn gemm(
    compute: Compute,
    (dst, dst_stride): (&mut [f32], usize),
    accumulate: bool,
    a: MatRef<'_>,
    b: MatRef<'_>,
    parallel: bool,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert!(dst_stride >= b.cols, "rows of the result overlap");
    let Some(last) = last_index(a.rows, b.cols, dst_stride, 1) else { return };
    assert!(last < dst.len(), "the result is too short");
    #[cfg(target_arch = "x86_64")]
    if compute == Compute::Fast && b.col_stride == 1 && Isa::detect().multiplies_tiles(a.cols) {
        let a_rows = a.to_rows();
        let a = Left::new(&a_rows, a.cols, a.rows, a.cols);
        let b = Left::new(b.data, b.row_stride, b.rows, b.cols);
        let c = Output { at: dst.as_mut_ptr(), stride: dst_stride };
        // SAFETY: the tiles are there; `dst` was checked to hold the result, and is ours.
        unsafe { tiles::multiply_rows(a, b, c, accumulate) };
        return;
    }
    let task = Task { dst: dst.as_mut_ptr(), dst_stride, accumulate, a, b };
    let (rows, cols) = (a.rows, b.cols);
    if !parallel {
        // SAFETY: the views were checked against their slices; `dst` is exclusively borrowed.
        unsafe { task.run(0..rows, 0..cols) };
        return;
    }
    // Pieces of a fixed size, so that sums don't depend on the number of threads.
    let macs = rows * cols * a.cols;
    let by_rows = rows > cols;
    let total = rows.max(cols);
    in_parts(total.div_ceil(PIECE), macs, |pieces| {
        for first in pieces.map(|piece| piece * PIECE) {
            let piece = first..(first + PIECE).min(total);
            // SAFETY: as above, and each piece belongs to one task.
            unsafe {
                match by_rows {
                    true => task.run(piece, 0..cols),
                    false => task.run(0..rows, piece),
                }
            }
        }
    });
}

/// Rows or columns of a result that one thread computes.
const PIECE: usize = 128;

/// A product whose pieces tasks compute in parallel.
struct Task<'a> {
    dst: *mut f32,
    dst_stride: usize,
    accumulate: bool,
    a: MatRef<'a>,
    b: MatRef<'a>,
}

// SAFETY: a plain address and shared views; `run` demands that pieces don't overlap.
unsafe impl Sync for Task<'_> {}

impl Task<'_> {
    /// # Safety
    /// `dst` holds the rows and columns, which nothing else touches meanwhile.
    unsafe fn run(&self, rows: Range<usize>, cols: Range<usize>) {
        let Self { a, b, .. } = self;
        // SAFETY: the caller's promise for `dst`; the pieces lie within the views. `gemm` reads
        // `dst` only when asked to (`accumulate`).
        unsafe {
            gemm::gemm(
                rows.len(),
                cols.len(),
                a.cols,
                self.dst.add(rows.start * self.dst_stride + cols.start),
                1,
                self.dst_stride as isize,
                self.accumulate,
                a.data.as_ptr().add(rows.start * a.row_stride),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().add(cols.start * b.col_stride),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 25.0).collect()
    }

    #[test]
    fn agrees_with_three_loops_on_strided_views() {
        let (a, b) = (numbers(5 * 9), numbers(4 * 9));
        let a_view = MatRef::new(&a, 5, 7, 9);
        let b_view = MatRef::new(&b, 4, 7, 9).t();
        let mut dst = vec![1.0; 5 * 6];

        gemm(Compute::Exact, (&mut dst, 6), true, a_view, b_view, false);

        for i in 0..5 {
            for j in 0..6 {
                let sum: f32 = (0..7).map(|k| a[i * 9 + k] * b[j.min(3) * 9 + k]).sum();
                let wanted = if j < 4 { 1.0 + sum } else { 1.0 };
                assert!((dst[i * 6 + j] - wanted).abs() < 1e-5, "{i},{j}");
            }
        }
    }

    /// More rows and columns than tiles have, and fewer; a summed dimension of several pieces.
    #[test]
    fn fast_products_are_close() {
        for (rows, depth, cols) in [(16, 256, 96), (3, 33, 40), (70, 1100, 5)] {
            let (a, b) = (numbers(depth * rows), numbers(depth * (cols + 3)));
            let (at, b) =
                (MatRef::new(&a, depth, rows, rows), MatRef::new(&b, depth, cols, cols + 3));
            for accumulate in [false, true] {
                let product = |compute| {
                    let mut dst = vec![1.0; rows * cols];
                    gemm(compute, (&mut dst, cols), accumulate, at.t(), b, true);
                    dst
                };
                // Terms are at most 4, and each is off by at most 2 parts in 256.
                let bound = 2.0 / 256.0 * 4.0 * (depth as f32).sqrt() * 3.0;
                for (exact, fast) in product(Compute::Exact).iter().zip(product(Compute::Fast)) {
                    assert!((exact - fast).abs() < bound, "{rows} {depth} {cols}: {exact} {fast}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "inner dimensions differ")]
    fn refuses_shapes_that_do_not_fit() {
        let a = numbers(6);
        let (a, b) = (MatRef::new(&a, 2, 3, 3), MatRef::new(&a, 2, 2, 2));
        gemm(Compute::Exact, (&mut [0.0; 4], 2), false, a, b, false);
    }
}
