//! Dense f32 products over strided slices: a bounds-checked door to the `gemm` crate.

use gemm::Parallelism;

use super::threads::threads;

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
}

/// `dst = alpha · a · b`, or `dst += alpha · a · b` with `accumulate`.
///
/// `dst` holds `a.rows` rows of `b.cols` adjacent values whose starts are `dst_stride` apart. The
/// result depends only on the inputs, `parallel` and the number of threads.
///
/// # Panics
/// If the shapes don't fit together or `dst` is too short.
pub fn gemm(
    dst: &mut [f32],
    dst_stride: usize,
    accumulate: bool,
    alpha: f32,
    a: MatRef<'_>,
    b: MatRef<'_>,
    parallel: bool,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert!(dst_stride >= b.cols, "rows of the result overlap");
    let Some(last) = last_index(a.rows, b.cols, dst_stride, 1) else { return };
    assert!(last < dst.len(), "the result is too short");
    let parallelism = if parallel { Parallelism::Rayon(threads()) } else { Parallelism::None };
    // SAFETY: the three views were checked against their slices above and on construction; `dst` is
    // exclusively borrowed, so it cannot overlap `a` or `b`; its rows do not overlap each other.
    // `gemm` reads `dst` only when asked to (`accumulate`).
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            dst.as_mut_ptr(),
            1,
            dst_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
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

        gemm(&mut dst, 6, true, 0.5, a_view, b_view, false);

        for i in 0..5 {
            for j in 0..6 {
                let sum: f32 = (0..7).map(|k| a[i * 9 + k] * b[j.min(3) * 9 + k]).sum();
                let wanted = if j < 4 { 1.0 + 0.5 * sum } else { 1.0 };
                assert!((dst[i * 6 + j] - wanted).abs() < 1e-5, "{i},{j}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "inner dimensions differ")]
    fn refuses_shapes_that_do_not_fit() {
        let a = numbers(6);
        gemm(
            &mut [0.0; 4],
            2,
            false,
            1.0,
            MatRef::new(&a, 2, 3, 3),
            MatRef::new(&a, 2, 2, 2),
            false,
        );
    }
}
