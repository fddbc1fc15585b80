//! f32 buffers aligned to cache lines: vector loads that straddle two lines take twice as long.

use std::ops::{Deref, DerefMut};

/// f32 values of a cache line.
const LANES: usize = 16;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A buffer of f32 values, aligned to 64 bytes.
#[derive(Debug, Clone, Default)]
pub struct Floats {
    lines: Vec<Line>,
    len: usize,
}

/// Bytes of an f32 array of these dimensions; [`u64::MAX`] if they are more than that.
#[must_use]
pub fn float_bytes(dims: &[usize]) -> u64 {
    dims.iter().fold(4, |bytes, dim| bytes.saturating_mul(*dim as u64))
}

impl Floats {
    /// `len` zeros.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let mut floats = Self::default();
        floats.resize(len);
        floats
    }

    /// Makes it exactly `len` values long; new ones are zero, or what was there before.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LANES);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0.0; LANES]));
        }
        self.len = len;
    }

    /// Replaces everything by `values`.
    pub fn copy_from(&mut self, values: &[f32]) {
        self.resize(values.len());
        self.copy_from_slice(values);
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is 16 f32 without padding, and `resize` keeps `len` within the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, borrowed mutably with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_cache_line_at_every_length() {
        let mut floats = Floats::default();
        for len in [1, 16, 17, 1000, 3] {
            floats.resize(len);
            floats.fill(2.0);
            assert_eq!(floats.len(), len);
            assert_eq!(floats.as_ptr().addr() % 64, 0);
        }
        floats.copy_from(&[1.0, 2.0]);
        assert_eq!(*floats, [1.0, 2.0]);
    }
}
