//! Random numbers that follow from a seed: the same seed, the same lives.

/// A stream of random numbers (`SplitMix64`), small enough for every device to have its own.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of one device out of many that share a seed.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Self {
        let mut mixed = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        Self(mixed.bits())
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from `low` to below `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// A whole number from `low` to `high`, both included.
    pub fn whole(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high.saturating_sub(low) + 1)
    }

    /// Whether something happens that does so with probability `share`.
    pub fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// A number that scatters around 0 with standard deviation 1, at most 3.5 away.
    pub fn noise(&mut self) -> f64 {
        (self.share() + self.share() + self.share() + self.share() - 2.0) * 3.0_f64.sqrt()
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let at = self.whole(0, others.len() as u64) as usize;
        at.checked_sub(1).and_then(|at| others.get(at)).copied().unwrap_or(first)
    }

    /// A SHA-256 as it could be: 64 hex digits.
    pub fn sha256(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.bits())).collect()
    }
}
