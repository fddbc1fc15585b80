//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

use crate::kernels::threads::in_rows;

/// Which values of a head form the pairs that are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Pairs (2i, 2i+1): ggml's NORM, files of the llama architecture.
    Interleaved,
    /// Pairs (i, i + dim/2): ggml's NEOX.
    Halves,
}

/// What a value costs, in multiplications.
const MACS: usize = 4;

/// The rotation of each row: cos and sin of position · frequency, `[rows, dim/2]` each.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub style: RopeStyle,
    /// How many leading values of each head are rotated; the rest pass through.
    pub dim: usize,
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

impl Rotation {
    /// The rotation of rows at these `positions` under `frequencies: [dim/2]` (radians a position).
    #[must_use]
    pub fn new(style: RopeStyle, frequencies: &[f32], positions: &[u32]) -> Self {
        let n = positions.len() * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for &p in positions {
            for &f in frequencies {
                let (s, c) = (p as f32 * f).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        Self { style, dim: 2 * frequencies.len(), cos, sin }
    }

    /// Rotates each head of `x: [rows, heads, head_dim]` in place by its row's position; `first` is
    /// the number of x's first row.
    ///
    /// # Panics
    /// If a row has no rotation or `head_dim` is below [`Self::dim`].
    pub fn forward(&self, first: usize, x: &mut [f32], heads: usize, head_dim: usize) {
        self.apply(first, x, heads, head_dim, 1.0);
    }

    /// The gradient of [`Self::forward`]: rotates back in place.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward(&self, first: usize, g: &mut [f32], heads: usize, head_dim: usize) {
        self.apply(first, g, heads, head_dim, -1.0);
    }

    fn apply(&self, first: usize, x: &mut [f32], heads: usize, head_dim: usize, turn: f32) {
        assert!(head_dim >= self.dim, "a rotation of {} values for {head_dim}", self.dim);
        let (half, macs) = (self.dim / 2, MACS * x.len());
        in_rows(x, heads * head_dim, macs, |part, x| {
            for (row, values) in x.chunks_exact_mut(heads * head_dim).enumerate() {
                let at = (first + part + row) * half;
                let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
                for head in values.chunks_exact_mut(head_dim) {
                    self.rotate(&mut head[..self.dim], cos, sin, turn);
                }
            }
        });
    }

    fn rotate(&self, head: &mut [f32], cos: &[f32], sin: &[f32], turn: f32) {
        let rotated = |x: f32, y: f32, c: f32, s: f32| (x * c - y * s, x * s + y * c);
        let turns = cos.iter().zip(sin).map(|(c, s)| (*c, turn * s));
        match self.style {
            RopeStyle::Interleaved => {
                for ([x, y], (c, s)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    (*x, *y) = rotated(*x, *y, c, s);
                }
            }
            RopeStyle::Halves => {
                let (first, second) = head.split_at_mut(self.dim / 2);
                for ((x, y), (c, s)) in first.iter_mut().zip(second).zip(turns) {
                    (*x, *y) = rotated(*x, *y, c, s);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    const STYLES: [RopeStyle; 2] = [RopeStyle::Interleaved, RopeStyle::Halves];

    #[test]
    fn gradient_agrees_with_finite_differences() {
        for style in STYLES {
            let rotation = Rotation::new(style, &[1.0, 0.1], &[0, 3, 7]);
            let turned = |x: &[f32], back: bool| {
                let mut x = x.to_vec();
                match back {
                    false => rotation.forward(0, &mut x, 2, 5),
                    true => rotation.backward(0, &mut x, 2, 5),
                }
                x
            };
            check::gradient(&check::numbers(30, 7), |x| turned(x, false), |_, g| turned(g, true));
        }
    }

    /// The second half of the rows, rotated alone, is the second half of all rotated rows.
    #[test]
    fn rows_are_rotated_by_their_own_position() {
        for style in STYLES {
            let rotation = Rotation::new(style, &[1.0, 0.1], &[0, 3, 7, 2]);
            let x = check::numbers(4 * 8, 3);
            let (mut all, mut rest) = (x.clone(), x[16..].to_vec());

            rotation.forward(0, &mut all, 2, 4);
            rotation.forward(2, &mut rest, 2, 4);

            assert_eq!(all[16..], rest);
            assert_eq!(all[..8], x[..8], "position 0 does not turn");
            let (c, s) = (3f32.cos(), 3f32.sin());
            let (i, j) = if style == RopeStyle::Halves { (8, 10) } else { (8, 9) };
            assert!((all[i] - (x[i] * c - x[j] * s)).abs() < 1e-6);
            assert!((all[j] - (x[i] * s + x[j] * c)).abs() < 1e-6);
        }
    }
}
