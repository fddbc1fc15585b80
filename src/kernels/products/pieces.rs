//! Cuts a dimension into pieces that fit a cache.

use std::ops::Range;

/// `0..total` in the fewest ranges of at most `most`, all about equally long.
pub(super) fn pieces(total: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    pieces_of(total, most, 1)
}

/// As [`pieces`], with boundaries at multiples of `unit`; `most` must be one too.
pub(super) fn pieces_of(
    total: usize,
    most: usize,
    unit: usize,
) -> impl Iterator<Item = Range<usize>> {
    let count = total.div_ceil(most);
    let units = total.div_ceil(unit);
    (0..count).map(move |i| {
        let at = |i: usize| (i * units / count * unit).min(total);
        at(i)..at(i + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once_in_equal_parts() {
        let of = |total, most| pieces(total, most).collect::<Vec<_>>();
        assert!(of(0, 4).is_empty());
        assert_eq!(of(8, 4), [0..4, 4..8]);
        assert_eq!(of(9, 4), [0..3, 3..6, 6..9]);
    }

    #[test]
    fn pieces_keep_to_units() {
        let ranges: Vec<_> = pieces_of(30, 16, 8).collect();
        assert_eq!(ranges, [0..16, 16..30]);
    }
}
