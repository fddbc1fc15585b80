//! Keys and values in the order in which attention reads them.
//!
//! A token's keys and values stand in a slot. Scores of queries against 32 keys at a time need the
//! keys as `[head_dim][32 slots]`; sums of values over many slots need the values as `[slots][32 of
//! head_dim]`. Both are panels of the same product (`kernels::multiply_panel`).

use super::attention::HeadShape;
use crate::kernels::PANEL_ROWS;

/// Slots that lie together; sequences begin at multiples of it.
pub const SLOTS: usize = PANEL_ROWS;

/// The next multiple of [`SLOTS`].
#[must_use]
pub const fn aligned(slots: usize) -> usize {
    slots.next_multiple_of(SLOTS)
}

/// Vectors `[kv_heads, head_dim]` in slots, ready to be multiplied with queries:
/// `[kv_heads][slots / 32][head_dim][32]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ByDimension {
    values: Vec<f32>,
    slots: usize,
}

/// Vectors `[kv_heads, head_dim]` in slots, ready to be summed over slots:
/// `[kv_heads][head_dim / 32][slots][32]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BySlot {
    values: Vec<f32>,
    slots: usize,
}

impl ByDimension {
    /// Makes room for `slots` slots, of which nothing is known.
    pub fn resize(&mut self, shape: HeadShape, slots: usize) {
        self.slots = aligned(slots);
        self.values.resize(shape.kv_heads * shape.head_dim * self.slots, 0.0);
    }

    /// Stores row i of `rows: [_, kv_heads, head_dim]` in slot `slots[i]`.
    ///
    /// # Panics
    /// If a slot does not exist or rows are missing.
    pub fn store(&mut self, shape: HeadShape, slots: &[usize], rows: &[f32]) {
        let d = shape.head_dim;
        for (row, &slot) in rows.chunks_exact(shape.kv_width()).zip(slots) {
            for (head, vector) in row.chunks_exact(d).enumerate() {
                let panel = head * (self.slots / SLOTS) + slot / SLOTS;
                let to = &mut self.values[panel * d * SLOTS..(panel + 1) * d * SLOTS];
                for (lane, value) in to.chunks_exact_mut(SLOTS).zip(vector) {
                    lane[slot % SLOTS] = *value;
                }
            }
        }
    }

    /// The panel of a head whose first slot is `slot`, a multiple of [`SLOTS`]: `[head_dim][32]`.
    pub(super) fn panel(&self, shape: HeadShape, head: usize, slot: usize) -> &[f32] {
        let size = shape.head_dim * SLOTS;
        let at = head * (self.slots / SLOTS) + slot / SLOTS;
        &self.values[at * size..(at + 1) * size]
    }
}

impl BySlot {
    /// Makes room for `slots` slots, of which nothing is known.
    pub fn resize(&mut self, shape: HeadShape, slots: usize) {
        self.slots = aligned(slots);
        let groups = shape.head_dim.div_ceil(SLOTS);
        self.values.resize(shape.kv_heads * groups * self.slots * SLOTS, 0.0);
    }

    /// As [`ByDimension::store`].
    ///
    /// # Panics
    /// If a slot does not exist or rows are missing.
    pub fn store(&mut self, shape: HeadShape, slots: &[usize], rows: &[f32]) {
        let groups = shape.head_dim.div_ceil(SLOTS);
        for (row, &slot) in rows.chunks_exact(shape.kv_width()).zip(slots) {
            for (head, vector) in row.chunks_exact(shape.head_dim).enumerate() {
                for (group, part) in vector.chunks(SLOTS).enumerate() {
                    let at = ((head * groups + group) * self.slots + slot) * SLOTS;
                    self.values[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
    }

    /// Dimensions `32 group ..` of a head from slot `slot` on: `[slots][32]`.
    pub(super) fn panel(&self, shape: HeadShape, head: usize, group: usize, slot: usize) -> &[f32] {
        let groups = shape.head_dim.div_ceil(SLOTS);
        let first = (head * groups + group) * self.slots;
        &self.values[(first + slot) * SLOTS..(first + self.slots) * SLOTS]
    }
}

/// The keys and values of one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyValues {
    pub(super) keys: ByDimension,
    pub(super) values: BySlot,
}

impl KeyValues {
    /// Makes room for `slots` slots, of which nothing is known.
    pub fn resize(&mut self, shape: HeadShape, slots: usize) {
        self.keys.resize(shape, slots);
        self.values.resize(shape, slots);
    }

    /// Stores row i of `k` and `v: [_, kv_heads, head_dim]` in slot `slots[i]`.
    ///
    /// # Panics
    /// If a slot does not exist or rows are missing.
    pub fn store(&mut self, shape: HeadShape, slots: &[usize], k: &[f32], v: &[f32]) {
        self.keys.store(shape, slots, k);
        self.values.store(shape, slots, v);
    }

    /// Slots that there is room for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.keys.slots
    }
}
