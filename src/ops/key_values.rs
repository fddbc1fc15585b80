//! Keys and values in the order in which attention reads them.
//!
//! A token's keys and values are stored in a slot. Scores of queries against 32 keys at a time need the
//! keys as `[head_dim][32 slots]`; sums of values over many slots need the values as `[slots][32 of
//! head_dim]`. Both are panels of the same product (`kernels::multiply_panel`).

use std::ops::Range;

use half::f16;

use super::attention::HeadShape;
use crate::kernels::threads::for_each;
use crate::kernels::{Floats, PANEL_ROWS, Panel, float_bytes};

/// Slots that are stored together; sequences begin at multiples of it.
pub const SLOTS: usize = PANEL_ROWS;

/// The cost of storing a value, in multiplications: most touch a separate cache line.
const STORE_MACS: usize = 100;

/// The next multiple of [`SLOTS`].
#[must_use]
pub const fn aligned(slots: usize) -> usize {
    slots.next_multiple_of(SLOTS)
}

/// The type of a stored key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvDtype {
    /// Single precision.
    F32,
    /// IEEE 754 half precision: the cache takes half the memory, and half as much is read for each
    /// token. Values beyond ±65504 are clamped.
    F16,
}

impl KvDtype {
    /// Bytes of an array of these dimensions.
    fn bytes(self, dims: &[usize]) -> u64 {
        let whole = float_bytes(dims);
        match self {
            Self::F32 => whole,
            Self::F16 => whole / 2,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Store {
    All(Floats),
    Half(Vec<u16>),
}

impl Store {
    fn new(dtype: KvDtype) -> Self {
        match dtype {
            KvDtype::F32 => Self::All(Floats::default()),
            KvDtype::F16 => Self::Half(Vec::new()),
        }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Self::All(values) => values.resize(len),
            Self::Half(values) => values.resize(len, 0),
        }
    }

    /// The values of each head, apart.
    fn heads(&mut self, heads: usize) -> Vec<HeadMut<'_>> {
        match self {
            Self::All(values) => {
                let size = values.len() / heads;
                values.chunks_exact_mut(size).map(HeadMut::All).collect()
            }
            Self::Half(values) => {
                let size = values.len() / heads;
                values.chunks_exact_mut(size).map(HeadMut::Half).collect()
            }
        }
    }

    fn panel(&self, range: Range<usize>) -> Panel<'_> {
        match self {
            Self::All(values) => Panel::Whole(&values[range]),
            Self::Half(values) => Panel::Half(&values[range]),
        }
    }
}

/// What is stored of one head.
enum HeadMut<'a> {
    All(&'a mut [f32]),
    Half(&'a mut [u16]),
}

impl HeadMut<'_> {
    /// Stores `head`'s part of each of `rows: [_, kv_heads, head_dim]`; `place(row, i)` says where
    /// dimension i goes.
    fn store(
        &mut self,
        shape: HeadShape,
        head: usize,
        rows: &[f32],
        place: impl Fn(usize, usize) -> usize,
    ) {
        let d = shape.head_dim;
        let most = f16::MAX.to_f32();
        for (r, row) in rows.chunks_exact(shape.kv_width()).enumerate() {
            for (i, &value) in row[head * d..(head + 1) * d].iter().enumerate() {
                match self {
                    Self::All(values) => values[place(r, i)] = value,
                    Self::Half(values) => {
                        values[place(r, i)] = f16::from_f32(value.clamp(-most, most)).to_bits();
                    }
                }
            }
        }
    }
}

/// Vectors `[kv_heads, head_dim]` in slots, ready to be multiplied with queries:
/// `[kv_heads][slots / 32][head_dim][32]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ByDimension {
    values: Store,
    slots: usize,
}

/// Vectors `[kv_heads, head_dim]` in slots, ready to be summed over slots:
/// `[kv_heads][head_dim / 32][slots][32]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BySlot {
    values: Store,
    slots: usize,
}

impl ByDimension {
    /// Without room for any slot.
    #[must_use]
    pub fn new(dtype: KvDtype) -> Self {
        Self { values: Store::new(dtype), slots: 0 }
    }

    /// Bytes that `slots` slots take.
    #[must_use]
    pub fn bytes(shape: HeadShape, slots: usize, dtype: KvDtype) -> u64 {
        dtype.bytes(&[shape.kv_width(), aligned(slots)])
    }

    /// Makes room for `slots` slots, whose contents are unspecified.
    pub fn resize(&mut self, shape: HeadShape, slots: usize) {
        self.slots = aligned(slots);
        self.values.resize(shape.kv_heads * shape.head_dim * self.slots);
    }

    /// Stores row i of `rows: [_, kv_heads, head_dim]` in slot `slots[i]`.
    ///
    /// # Panics
    /// If a slot does not exist or rows are missing.
    pub fn store(&mut self, shape: HeadShape, slots: &[usize], rows: &[f32]) {
        let (d, rows) = (shape.head_dim, &rows[..slots.len() * shape.kv_width()]);
        let mut heads: Vec<_> = self.values.heads(shape.kv_heads).into_iter().enumerate().collect();
        for_each(&mut heads, STORE_MACS * rows.len(), |(head, values)| {
            let place = |r: usize, i| (slots[r] / SLOTS * d + i) * SLOTS + slots[r] % SLOTS;
            values.store(shape, *head, rows, place);
        });
    }

    /// The panel of a head whose first slot is `slot`, a multiple of [`SLOTS`]: `[head_dim][32]`.
    pub(super) fn panel(&self, shape: HeadShape, head: usize, slot: usize) -> Panel<'_> {
        let size = shape.head_dim * SLOTS;
        let at = head * (self.slots / SLOTS) + slot / SLOTS;
        self.values.panel(at * size..(at + 1) * size)
    }
}

impl BySlot {
    /// Without room for any slot.
    #[must_use]
    pub fn new(dtype: KvDtype) -> Self {
        Self { values: Store::new(dtype), slots: 0 }
    }

    /// Bytes that `slots` slots take.
    #[must_use]
    pub fn bytes(shape: HeadShape, slots: usize, dtype: KvDtype) -> u64 {
        dtype.bytes(&[shape.kv_heads, aligned(shape.head_dim), aligned(slots)])
    }

    /// Makes room for `slots` slots, whose contents are unspecified.
    pub fn resize(&mut self, shape: HeadShape, slots: usize) {
        self.slots = aligned(slots);
        let groups = shape.head_dim.div_ceil(SLOTS);
        self.values.resize(shape.kv_heads * groups * self.slots * SLOTS);
    }

    /// As [`ByDimension::store`].
    ///
    /// # Panics
    /// If a slot does not exist or rows are missing.
    pub fn store(&mut self, shape: HeadShape, slots: &[usize], rows: &[f32]) {
        let (total, rows) = (self.slots, &rows[..slots.len() * shape.kv_width()]);
        let mut heads: Vec<_> = self.values.heads(shape.kv_heads).into_iter().enumerate().collect();
        for_each(&mut heads, STORE_MACS * rows.len(), |(head, values)| {
            let place = |r: usize, i| (i / SLOTS * total + slots[r]) * SLOTS + i % SLOTS;
            values.store(shape, *head, rows, place);
        });
    }

    /// Dimensions `32 group ..` of a head in some slots: `[slots][32]`.
    pub(super) fn panel(
        &self,
        shape: HeadShape,
        (head, group): (usize, usize),
        slots: &Range<usize>,
    ) -> Panel<'_> {
        let first = (head * shape.head_dim.div_ceil(SLOTS) + group) * self.slots;
        self.values.panel((first + slots.start) * SLOTS..(first + slots.end) * SLOTS)
    }
}

/// The keys and values of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValues {
    pub(super) keys: ByDimension,
    pub(super) values: BySlot,
}

impl Default for KeyValues {
    fn default() -> Self {
        Self::new(KvDtype::F32)
    }
}

impl KeyValues {
    /// Without room for any slot.
    #[must_use]
    pub fn new(dtype: KvDtype) -> Self {
        Self { keys: ByDimension::new(dtype), values: BySlot::new(dtype) }
    }

    /// Bytes that `slots` slots take.
    #[must_use]
    pub fn bytes(shape: HeadShape, slots: usize, dtype: KvDtype) -> u64 {
        let keys = ByDimension::bytes(shape, slots, dtype);
        keys.saturating_add(BySlot::bytes(shape, slots, dtype))
    }

    /// Makes room for `slots` slots, whose contents are unspecified.
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

    /// How many slots there is room for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.keys.slots
    }
}
