//! Dense f32 matrices in the order in which products read them: LoRA factors, keys and values.

use std::cell::Cell;

#[cfg(target_arch = "x86_64")]
use super::tiles;
use crate::kernels::Compute;
use crate::kernels::elementwise::add;
use crate::kernels::isa::{Isa, Left, Output, PANEL};
use crate::kernels::memory::{Floats, float_bytes};
use crate::kernels::packing::BLOCK;
use crate::kernels::threads::in_parts;

/// Rows of a [`Panels`] that are stored together.
pub const PANEL_ROWS: usize = PANEL;

/// A dense f32 matrix `[rows, cols]` for products `x · Wᵀ`: panels of [`PANEL_ROWS`] rows, each
/// `[cols][PANEL_ROWS]`. Rows that fill up the last panel are zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panels {
    rows: usize,
    cols: usize,
    values: Floats,
}

impl Panels {
    /// Packs the rows of several matrices `[_, cols]`, one below the other, all multiplied by `scale`.
    ///
    /// # Panics
    /// If a matrix is not a whole number of rows.
    #[must_use]
    pub fn pack(matrices: &[&[f32]], cols: usize, scale: f32) -> Self {
        let rows = matrices.iter().map(|m| m.len() / cols).sum::<usize>();
        let mut values = Floats::zeroed(rows.div_ceil(PANEL) * cols * PANEL);
        let all = matrices.iter().flat_map(|m| {
            assert!(m.len().is_multiple_of(cols), "not a whole number of rows");
            m.chunks_exact(cols)
        });
        for (r, row) in all.enumerate() {
            let panel = &mut values[r / PANEL * cols * PANEL..][..cols * PANEL];
            for (to, value) in panel.chunks_exact_mut(PANEL).zip(row) {
                to[r % PANEL] = value * scale;
            }
        }
        Self { rows, cols, values }
    }

    /// Bytes of a packed matrix `[rows, cols]`.
    #[must_use]
    pub fn bytes(rows: usize, cols: usize) -> u64 {
        float_bytes(&[rows.next_multiple_of(PANEL), cols])
    }

    /// The transposed matrix.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let (rows, cols) = (self.cols, self.rows);
        let mut values = Floats::zeroed(rows.div_ceil(PANEL) * cols * PANEL);
        for c in 0..cols {
            let (panel, lane) = (c / PANEL * rows * PANEL, c % PANEL);
            for r in 0..rows {
                let value = self.values[panel + r * PANEL + lane];
                values[(r / PANEL * cols + c) * PANEL + r % PANEL] = value;
            }
        }
        Self { rows, cols, values }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Panel `pair`, `[cols][PANEL_ROWS]`, and how many of its rows exist.
    pub(super) fn panel(&self, pair: usize) -> (&[f32], usize) {
        let size = self.cols * PANEL;
        (&self.values[pair * size..(pair + 1) * size], PANEL.min(self.rows - pair * PANEL))
    }

    /// `y[m, rows] = x[m, cols] · Wᵀ`, or added to `y` if `accumulate`; row-major, contiguous.
    ///
    /// # Panics
    /// If `x` or `y` has another length.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "others have no tiles")
    )]
    pub fn matmul(&self, compute: Compute, x: &[f32], m: usize, y: &mut [f32], accumulate: bool) {
        let isa = Isa::detect();
        assert_eq!(x.len(), m * self.cols, "x must be [m, cols]");
        assert_eq!(y.len(), m * self.rows, "y must be [m, rows]");
        #[cfg(target_arch = "x86_64")]
        if compute == Compute::Fast && isa.multiplies_tiles(m) {
            let y = Output { at: y.as_mut_ptr(), stride: self.rows };
            // SAFETY: the tiles are there; `y` has m rows of this many columns, and is ours.
            unsafe { tiles::multiply_panels((x, m), self, y, accumulate) };
            return;
        }
        if m <= FEW_ROWS && self.cols >= DEPTHS * PANEL {
            self.matmul_few(isa, x, m, y, accumulate);
            return;
        }
        let y = Output { at: y.as_mut_ptr(), stride: self.rows };
        let pairs = self.rows.div_ceil(PANEL);
        // Few panels and many rows: tasks are rows, in pieces that fit a cache.
        in_parts(m.div_ceil(BLOCK), m * self.rows * self.cols, |pieces| {
            for first in pieces.map(|piece| piece * BLOCK) {
                let rows = BLOCK.min(m - first);
                let a = Left::new(&x[first * self.cols..], self.cols, rows, self.cols);
                for pair in 0..pairs {
                    let (panel, width) = self.panel(pair);
                    // SAFETY: `y` has m rows and the columns of all panels; these rows belong to
                    // this task.
                    unsafe {
                        let y = y.from(first, pair * PANEL);
                        isa.multiply_panel(a, panel, y, width, accumulate);
                    }
                }
            }
        });
    }
}

/// Up to this many rows of x, tasks are pieces of the summed dimension.
const FEW_ROWS: usize = 16;
/// How many such pieces; fixed, so that sums don't depend on the number of threads.
const DEPTHS: usize = 4;

impl Panels {
    /// [`Self::matmul`] for few rows, whose cost is reading the panels: each task reads a part of
    /// them.
    fn matmul_few(&self, isa: Isa, x: &[f32], m: usize, y: &mut [f32], accumulate: bool) {
        let pairs = self.rows.div_ceil(PANEL);
        let width = pairs * PANEL;
        let mut parts = Floats::zeroed(DEPTHS * m * width);
        let to = Output { at: parts.as_mut_ptr(), stride: width };
        in_parts(pairs * DEPTHS, m * self.rows * self.cols, |units| {
            for (pair, part) in units.map(|unit| (unit / DEPTHS, unit % DEPTHS)) {
                let (from, end) = (part * self.cols / DEPTHS, (part + 1) * self.cols / DEPTHS);
                let a = Left::new(&x[from..], self.cols, m, end - from);
                let panel = &self.panel(pair).0[from * PANEL..];
                // SAFETY: `parts` has m rows for each piece; these columns belong to this task.
                unsafe {
                    isa.multiply_panel(a, panel, to.from(part * m, pair * PANEL), PANEL, false);
                }
            }
        });
        for (part, parts) in parts.chunks_exact(m * width).enumerate() {
            for (y, from) in y.chunks_exact_mut(self.rows).zip(parts.chunks_exact(width)) {
                match part == 0 && !accumulate {
                    true => y.copy_from_slice(&from[..self.rows]),
                    false => add(from, y),
                }
            }
        }
    }
}

/// A right operand `[depth, PANEL_ROWS]` of [`multiply_panel`].
#[derive(Debug, Clone, Copy)]
pub enum Panel<'a> {
    Whole(&'a [f32]),
    /// Finite values in IEEE 754 half precision.
    Half(&'a [u16]),
}

/// `c[rows, width] (+)= a[rows, depth] · b[depth, PANEL_ROWS]` for one panel `b`, on this thread:
/// `a`'s rows are `a_stride` apart, `c`'s `c_stride`.
///
/// # Panics
/// If a slice is too short, or `width` larger than [`PANEL_ROWS`].
pub fn multiply_panel(
    (a, a_stride, rows, depth): (&[f32], usize, usize, usize),
    b: Panel<'_>,
    (c, c_stride, width): (&mut [f32], usize, usize),
    accumulate: bool,
) {
    if rows == 0 {
        return;
    }
    assert!(width <= c_stride || rows == 1, "rows of the result overlap");
    assert!((rows - 1) * c_stride + width <= c.len(), "the result is too short");
    let a = Left::new(a, a_stride, rows, depth);
    let c = Output { at: c.as_mut_ptr(), stride: c_stride };
    let isa = Isa::detect();
    match b {
        // SAFETY: `c` was checked to hold these rows and columns, which don't overlap each other.
        Panel::Whole(b) => unsafe { isa.multiply_panel(a, b, c, width, accumulate) },
        Panel::Half(b) => {
            let mut wide = WIDE.take();
            // SAFETY: as above.
            unsafe { isa.multiply_half_panel(a, b, &mut wide, c, width, accumulate) };
            WIDE.set(wide);
        }
    }
}

thread_local! {
    /// Memory for a panel that is widened.
    static WIDE: Cell<Floats> = Cell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i * 7919 % 101) as f32 - 50.0).collect()
    }

    #[test]
    fn products_agree_with_three_loops() {
        for (rows, cols, m) in
            [(1, 1, 1), (16, 5, 3), (48, 576, 70), (70, 16, 33), (48, 576, 8), (16, 131, 1)]
        {
            let (w, x) = (numbers(rows * cols), numbers(m * cols));
            let (first, second) = w.split_at(rows / 2 * cols);
            let packed = Panels::pack(&[first, second], cols, 0.5);
            let mut y = vec![1.0; m * rows];

            packed.matmul(Compute::Exact, &x, m, &mut y, true);

            for (i, y) in y.iter().enumerate() {
                let (x, w) = (&x[i / rows * cols..][..cols], &w[i % rows * cols..][..cols]);
                // Whole numbers and halves: exact in f32.
                let sum: f32 = x.iter().zip(w).map(|(x, w)| x * w * 0.5).sum();
                assert_eq!(*y, 1.0 + sum, "{rows} {cols} {m}");
            }
        }
    }

    /// On every instruction set of this machine, with fewer and more rows than are converted in
    /// registers.
    #[test]
    fn a_panel_of_halves_is_as_good_as_the_same_in_f32() {
        for (rows, depth, width) in [(1, 1, 32), (3, 64, 32), (12, 7, 5), (24, 40, 17), (31, 9, 32)]
        {
            let (a, b) = (numbers(rows * depth), numbers(depth * PANEL));
            let halves: Vec<u16> = b.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
            for isa in Isa::all_available() {
                for accumulate in [false, true] {
                    let product = |half: bool| {
                        let mut c = vec![1.0; rows * width];
                        let to = Output { at: c.as_mut_ptr(), stride: width };
                        let a = Left::new(&a, depth, rows, depth);
                        let mut wide = Floats::default();
                        // SAFETY: `c` has these rows and columns.
                        unsafe {
                            if half {
                                isa.multiply_half_panel(
                                    a, &halves, &mut wide, to, width, accumulate,
                                );
                            } else {
                                isa.multiply_panel(a, &b, to, width, accumulate);
                            }
                        }
                        c
                    };
                    assert_eq!(product(true), product(false), "{isa:?} {rows} {depth} {width}");
                }
            }
        }
    }

    #[test]
    fn transposing_swaps_rows_and_columns() {
        let w = numbers(40 * 3);
        let turned: Vec<f32> = (0..120).map(|i| w[i % 40 * 3 + i / 40]).collect();

        let packed = Panels::pack(&[&w], 3, 1.0);

        assert_eq!(packed.transposed(), Panels::pack(&[&turned], 40, 1.0));
        assert_eq!(Panels::bytes(40, 3), 4 * packed.values.len() as u64);
    }
}
