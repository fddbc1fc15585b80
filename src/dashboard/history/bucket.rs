//! Numbers in few bytes. A row of any resolution is a list of numbers, in the order of names:
//!
//! ```text
//! number = varint(name << 2 | shape) body
//! shape 0  one message, a number that is a float:  f32
//!       1  one message, any other number:          f64
//!       2  many messages, all with the same:       varint(count) f32
//!       3  many messages:                          varint(count) f32 min, max, mean, last
//! ```
//!
//! Varints are LEB128, floats are little-endian.

use std::collections::BTreeMap;

use super::HistoryError;

/// A row: its numbers by the ids of their names.
pub(super) type Numbers = BTreeMap<u16, Bucket>;

/// The values that one number had in some time; always finite, and at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) count: u32,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    pub(super) last: f64,
}

impl Bucket {
    pub(super) fn of(value: f64) -> Self {
        Self { count: 1, min: value, max: value, mean: value, last: value }
    }

    /// Adds what came later.
    pub(super) fn append(&mut self, later: &Self) {
        let (before, after) = (f64::from(self.count), f64::from(later.count));
        // Weights first: a sum could overflow.
        let mean =
            self.mean * (before / (before + after)) + later.mean * (after / (before + after));
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.mean = mean.max(self.min).min(self.max);
        self.last = later.last;
        self.count = self.count.saturating_add(later.count);
    }

    fn is_valid(&self) -> bool {
        let within = |value: f64| self.min <= value && value <= self.max;
        self.count > 0
            && self.min.is_finite()
            && self.max.is_finite()
            && within(self.mean)
            && within(self.last)
    }

    fn encode(&self, name: u16, bytes: &mut Vec<u8>) {
        let head = u64::from(name) << 2;
        let single = narrow(self.last);
        if self.count == 1 && f64::from(single) == self.last {
            put_varint(bytes, head);
            bytes.extend(single.to_le_bytes());
        } else if self.count == 1 {
            put_varint(bytes, head | 1);
            bytes.extend(self.last.to_le_bytes());
        } else if narrow(self.min) == narrow(self.max) {
            put_varint(bytes, head | 2);
            put_varint(bytes, self.count.into());
            bytes.extend(single.to_le_bytes());
        } else {
            put_varint(bytes, head | 3);
            put_varint(bytes, self.count.into());
            for value in [self.min, self.max, self.mean, self.last] {
                bytes.extend(narrow(value).to_le_bytes());
            }
        }
    }
}

/// Adds what came later to a row.
pub(super) fn append(row: &mut Numbers, name: u16, later: &Bucket) {
    row.entry(name).and_modify(|bucket| bucket.append(later)).or_insert(*later);
}

/// A row as it is kept. Single values are kept exactly, with `exact`; all others as floats.
pub(super) fn encode(row: &Numbers, exact: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(row.len() * 18);
    for (name, bucket) in row {
        if exact || bucket.count > 1 {
            bucket.encode(*name, &mut bytes);
        } else {
            Bucket::of(narrow(bucket.last).into()).encode(*name, &mut bytes);
        }
    }
    bytes
}

/// The numbers of a kept row, in the order of names.
pub(super) fn decode(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<(u16, Bucket), HistoryError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let number = take_number(&mut bytes);
        if number.is_none() {
            bytes = &[];
        }
        Some(number.ok_or(HistoryError::Damaged { what: "a row of numbers makes no sense" }))
    })
}

fn take_number(bytes: &mut &[u8]) -> Option<(u16, Bucket)> {
    let head = take_varint(bytes)?;
    let name = u16::try_from(head >> 2).ok()?;
    let float = |bytes: &mut &[u8]| take(bytes).map(|four| f64::from(f32::from_le_bytes(four)));
    let bucket = match head & 3 {
        0 => Bucket::of(float(bytes)?),
        1 => Bucket::of(f64::from_le_bytes(take(bytes)?)),
        2 => {
            let count = u32::try_from(take_varint(bytes)?).ok()?;
            Bucket { count, ..Bucket::of(float(bytes)?) }
        }
        _ => Bucket {
            count: u32::try_from(take_varint(bytes)?).ok()?,
            min: float(bytes)?,
            max: float(bytes)?,
            mean: float(bytes)?,
            last: float(bytes)?,
        },
    };
    bucket.is_valid().then_some((name, bucket))
}

/// The nearest float that is finite.
fn narrow(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
