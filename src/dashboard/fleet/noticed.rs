//! Something that is noticed again and again, and is over once it has not been for an hour.

/// Time after which it is over, in milliseconds.
const OVER_MS: u64 = 3_600_000;

/// When it was noticed, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    /// The first and the last time, and how often, since it was last over.
    last: Option<(u64, u64, u64)>,
}

impl Noticed {
    /// It is noticed now.
    pub fn add(&mut self, at_ms: u64) {
        let (first, count) = (self.since_ms(at_ms).unwrap_or(at_ms), self.count(at_ms) + 1);
        self.last = Some((first, at_ms, count));
    }

    /// Since when, if it is not over.
    #[must_use]
    pub fn since_ms(&self, now_ms: u64) -> Option<u64> {
        let (first, last, _) = self.last?;
        (now_ms.saturating_sub(last) < OVER_MS).then_some(first)
    }

    /// How often since then; 0 if it is over.
    #[must_use]
    pub fn count(&self, now_ms: u64) -> u64 {
        let count = self.last.map_or(0, |(_, _, count)| count);
        if self.since_ms(now_ms).is_some() { count } else { 0 }
    }
}
