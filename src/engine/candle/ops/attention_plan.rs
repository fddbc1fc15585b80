//! An attention plan in the form in which dense products can follow it.
//!
//! Rows are cut into blocks. In a block all rows see the same ranges of keys, which are read once for
//! all of them, and each part of it has own keys in one sequence. Parts are filled up to the same
//! numbers of rows and of own keys, so that a block is one batch of products; filling at most doubles
//! its work.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use crate::engine::candle::ops::tensor::numbers;
use crate::ops::attention_plan::AttentionPlan;

/// Scores of a block over all heads, at most: 64 MiB.
const SCORES: usize = 1 << 24;

/// What each query row sees, block by block.
#[derive(Debug)]
pub struct Plan {
    pub blocks: Vec<Block>,
    /// The slot of each row's own key: `[rows]`.
    pub own_slots: Tensor,
    /// For each slot a row whose key it holds, or any row if it holds none: `[slots]`.
    pub rows_of_slots: Tensor,
}

/// Rows that are computed together.
#[derive(Debug)]
pub struct Block {
    /// The first row and how many there are.
    pub row: usize,
    pub rows: usize,
    /// Ranges of slots that every row sees, with their numbers.
    pub seen: Vec<(Range<usize>, Tensor)>,
    /// How many parts, filled up to this many rows and own keys.
    pub parts: usize,
    pub part_rows: usize,
    pub own: usize,
    /// The slots of all parts' own keys: `[parts · own]`.
    pub own_slots: Tensor,
    /// What is added to scores of own keys, 0 or −∞: `[1, parts, part_rows, 1, own]`.
    pub mask: Tensor,
    /// Where parts have different numbers of rows: how to fill them up and back.
    pub filling: Option<Filling>,
}

/// How the rows of a block stand among filled ones.
#[derive(Debug)]
pub struct Filling {
    /// For each filled row the block's row that it holds, or `rows` for none: `[parts · part_rows]`.
    pub from: Tensor,
    /// For each row of the block its place among filled ones: `[rows]`.
    pub back: Tensor,
}

/// Some rows of one segment.
#[derive(Debug, Clone)]
struct Part {
    rows: usize,
    /// Where its segment's own keys begin, and how many its first row sees.
    own: usize,
    visible: usize,
}

impl Part {
    /// Own keys that its last row sees.
    fn keys(&self) -> usize {
        self.visible + self.rows - 1
    }
}

/// A block before it goes to the device.
#[derive(Debug)]
struct Group<'a> {
    row: usize,
    seen: &'a [Range<usize>],
    parts: Vec<Part>,
}

impl<'a> Group<'a> {
    fn seen_keys(&self) -> usize {
        self.seen.iter().map(Range::len).sum()
    }

    fn rows(&self) -> usize {
        self.parts.iter().map(|p| p.rows).sum()
    }

    /// Scores with this part as well: those that count, and all with what is filled up.
    fn scores_with(&self, part: &Part) -> (usize, usize) {
        let all = || self.parts.iter().chain([part]);
        let seen = self.seen_keys();
        let wanted = all().map(|p| p.rows * (seen + p.keys())).sum();
        let rows = all().map(|p| p.rows).max().unwrap_or(0);
        let keys = all().map(Part::keys).max().unwrap_or(0);
        (wanted, all().count() * rows * (seen + keys))
    }

    /// Cuts a plan into groups of at most `most` scores a head.
    fn all_of(plan: &'a AttentionPlan, most: usize) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut row = 0;
        for segment in &plan.segments {
            let seen: usize = segment.seen.iter().map(Range::len).sum();
            let rows = (most / (seen + segment.past + segment.rows)).max(1);
            for first in (0..segment.rows).step_by(rows) {
                let part = Part {
                    rows: rows.min(segment.rows - first),
                    own: segment.own,
                    visible: segment.past + first + 1,
                };
                let open = groups.last_mut().filter(|group| {
                    let (wanted, filled) = group.scores_with(&part);
                    group.seen == segment.seen && filled <= most && filled <= 2 * wanted
                });
                let taken = part.rows;
                match open {
                    Some(group) => group.parts.push(part),
                    None => groups.push(Self { row, seen: &segment.seen, parts: vec![part] }),
                }
                row += taken;
            }
        }
        groups
    }

    fn on(&self, device: &Device) -> Result<Block> {
        let parts = &self.parts;
        let rows = self.rows();
        let part_rows = parts.iter().map(|p| p.rows).max().unwrap_or(0);
        let own = parts.iter().map(Part::keys).max().unwrap_or(0);
        // Filled columns hold a key of the part's own, which is a number, and are masked.
        let slot = |p: &Part, i: usize| p.own + if i < p.keys() { i } else { 0 };
        let own_slots = parts.iter().flat_map(|p| (0..own).map(move |i| slot(p, i)));
        // Filled rows see everything: no row may see nothing.
        let hidden = |p: &Part, row: usize, i: usize| row < p.rows && i >= p.visible + row;
        let mut mask = Vec::with_capacity(parts.len() * part_rows * own);
        for part in parts {
            for row in 0..part_rows {
                let value = |i| if hidden(part, row, i) { f32::NEG_INFINITY } else { 0.0 };
                mask.extend((0..own).map(value));
            }
        }
        let seen = self.seen.iter().map(|r| Ok((r.clone(), numbers(r.clone(), device)?)));
        Ok(Block {
            row: self.row,
            rows,
            seen: seen.collect::<Result<_>>()?,
            parts: parts.len(),
            part_rows,
            own,
            own_slots: numbers(own_slots, device)?,
            mask: Tensor::from_vec(mask, (1, parts.len(), part_rows, 1, own), device)?,
            filling: match rows == parts.len() * part_rows {
                true => None,
                false => Some(Filling::new(parts, (rows, part_rows), device)?),
            },
        })
    }
}

impl Filling {
    fn new(parts: &[Part], (rows, part_rows): (usize, usize), device: &Device) -> Result<Self> {
        let (mut from, mut back) = (Vec::new(), Vec::new());
        for part in parts {
            let first = back.len();
            back.extend(from.len()..from.len() + part.rows);
            from.extend(first..first + part.rows);
            from.resize(from.len() + part_rows - part.rows, rows);
        }
        Ok(Self { from: numbers(from, device)?, back: numbers(back, device)? })
    }
}

impl Plan {
    /// Prepares a plan for `heads` heads.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn new(plan: &AttentionPlan, heads: usize, device: &Device) -> Result<Self> {
        Self::with_scores(plan, heads, SCORES, device)
    }

    /// As [`Self::new`], with at most `scores` scores in a block, or one row.
    pub(super) fn with_scores(
        plan: &AttentionPlan,
        heads: usize,
        scores: usize,
        device: &Device,
    ) -> Result<Self> {
        let slots = plan.slots();
        let own_slots = plan.own_slots();
        let mut rows_of_slots = vec![0; slots];
        for (row, slot) in own_slots.iter().enumerate() {
            rows_of_slots[*slot] = row;
        }
        let groups = Group::all_of(plan, scores / heads);
        Ok(Self {
            blocks: groups.iter().map(|group| group.on(device)).collect::<Result<_>>()?,
            own_slots: numbers(own_slots, device)?,
            rows_of_slots: numbers(rows_of_slots, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention_plan::Segment;

    #[test]
    fn filling_is_bounded_and_every_row_is_there_once() {
        let branch = |rows, own, past| Segment { rows, seen: vec![0..30], own, past };
        let prompt = Segment { rows: 30, seen: vec![], own: 0, past: 0 };
        let segments = vec![prompt, branch(1, 32, 9), branch(1, 64, 4), branch(40, 96, 0)];
        let plan = AttentionPlan { segments };

        let groups = Group::all_of(&plan, 1 << 20);
        let small = Group::all_of(&plan, 500);

        let shape = |g: &Group<'_>| (g.row, g.parts.iter().map(|p| p.rows).collect::<Vec<_>>());
        let all: Vec<_> = groups.iter().map(shape).collect();
        assert_eq!(all, [(0, vec![30]), (30, vec![1, 1]), (32, vec![40])]);
        assert_eq!(small.iter().map(Group::rows).sum::<usize>(), plan.rows());
        for group in &small {
            let (last, others) = group.parts.split_last().unwrap();
            let without = Group { parts: others.to_vec(), ..*group };
            assert!(without.scores_with(last).1 <= 500, "{group:?}");
        }
    }
}
