//! Which keys each row attends to in a packed sequence of prompts and branches.

use std::ops::Range;

use super::key_values::{SLOTS, aligned};

/// Query rows of one sequence. Slots are the places of keys and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// How many query rows.
    pub rows: usize,
    /// Ranges of slots that every row of the segment sees; each begins at a multiple of [`SLOTS`].
    pub seen: Vec<Range<usize>>,
    /// Where the segment's own keys begin, a multiple of [`SLOTS`].
    pub own: usize,
    /// How many of its own keys come before its first row: row i sees `own ..= own + past + i`.
    pub past: usize,
}

/// What each query row sees. Segments follow one another in the order of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttentionPlan {
    pub segments: Vec<Segment>,
}

/// Some rows with the same `seen` that are computed together.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub seen: &'a [Range<usize>],
    /// The first row, counted from the start of all queries.
    pub row: usize,
    pub rows: usize,
    pub parts: Vec<Part>,
}

/// The rows of one segment in a block.
#[derive(Debug)]
pub(super) struct Part {
    pub rows: usize,
    /// The own keys that its last row sees.
    pub own: Range<usize>,
}

impl AttentionPlan {
    /// One sequence of `rows` rows, each of which sees itself and those before it.
    #[must_use]
    pub fn causal(rows: usize) -> Self {
        Self { segments: vec![Segment { rows, seen: vec![], own: 0, past: 0 }] }
    }

    /// How many query rows the plan covers.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|s| s.rows).sum()
    }

    /// One past the last slot that any query row sees.
    #[must_use]
    pub fn slots(&self) -> usize {
        let ends = |s: &Segment| {
            let seen = s.seen.iter().map(|r| r.end).max().unwrap_or(0);
            seen.max(s.own + s.past + s.rows)
        };
        self.segments.iter().map(ends).max().unwrap_or(0)
    }

    /// The slot of each row's own key.
    #[must_use]
    pub fn own_slots(&self) -> Vec<usize> {
        let slots = |s: &Segment| s.own + s.past..s.own + s.past + s.rows;
        self.segments.iter().flat_map(slots).collect()
    }

    /// Blocks of at most `rows` rows, in row order. Rows of several segments share a block where
    /// they see the same.
    pub(super) fn blocks(&self, rows: usize) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut row = 0;
        for segment in &self.segments {
            let mut first = 0;
            while first < segment.rows {
                let open = blocks.last().filter(|b| b.rows < rows && b.seen == segment.seen);
                if open.is_none() {
                    let seen = &segment.seen[..];
                    blocks.push(Block { seen, row, rows: 0, parts: Vec::new() });
                }
                let block = blocks.last_mut().expect("one was pushed");
                let taken = (rows - block.rows).min(segment.rows - first);
                let end = segment.own + segment.past + first + taken;
                block.parts.push(Part { rows: taken, own: segment.own..end });
                block.rows += taken;
                (first, row) = (first + taken, row + taken);
            }
        }
        blocks
    }
}

impl Block<'_> {
    /// Columns of scores for the seen ranges, each filled up to whole panels.
    pub fn seen_width(&self) -> usize {
        self.seen.iter().map(|r| aligned(r.len())).sum()
    }

    /// Columns of scores: the seen ranges, then own keys, filled up to whole panels.
    pub fn width(&self) -> usize {
        self.seen_width() + self.parts.iter().map(|p| aligned(p.own.len())).max().unwrap_or(0)
    }

    /// The seen ranges with the column where each begins.
    pub fn seen_columns(&self) -> impl Iterator<Item = (usize, &Range<usize>)> {
        self.seen.iter().scan(0, |column, range| {
            let at = *column;
            *column += aligned(range.len());
            Some((at, range))
        })
    }

    /// The parts with the block row where each begins.
    pub fn part_rows(&self) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().scan(0, |row, part| {
            let at = *row;
            *row += part.rows;
            Some((at, part))
        })
    }
}

/// The first slots of the panels that hold a range.
pub(super) fn panels(range: &Range<usize>) -> impl Iterator<Item = usize> {
    debug_assert!(range.start.is_multiple_of(SLOTS), "sequences begin with a panel");
    range.clone().step_by(SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_rows_that_see_the_same() {
        let branch = |rows, own, past| Segment { rows, seen: vec![0..3], own, past };
        let prompt = Segment { rows: 3, seen: vec![], own: 0, past: 0 };
        let plan = AttentionPlan {
            segments: vec![prompt, branch(1, 32, 4), branch(2, 64, 0), branch(3, 96, 0)],
        };

        let blocks = plan.blocks(4);

        let shape: Vec<_> = blocks.iter().map(|b| (b.row, b.rows, b.parts.len())).collect();
        assert_eq!(shape, [(0, 3, 1), (3, 4, 3), (7, 2, 1)]);
        assert_eq!(blocks[1].parts[0].own, 32..37);
        assert_eq!(blocks[1].parts[2].own, 96..97);
        assert_eq!(blocks[2].parts[0].own, 96..99);
        assert_eq!((blocks[0].width(), blocks[1].width()), (32, 64));
        assert_eq!((plan.rows(), plan.slots()), (9, 99));
        assert_eq!(plan.own_slots(), [0, 1, 2, 36, 64, 65, 96, 97, 98]);
    }
}
