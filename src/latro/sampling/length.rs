//! How long a rationale may get: the longest ones decide how long sampling takes, and those that run
//! far beyond all that have earned anything come to nothing.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Rationales that are remembered.
const REMEMBERED: usize = 128;
/// With fewer nothing is said.
const ENOUGH: usize = 32;
/// The least limit, in tokens.
const LEAST: usize = 64;

/// Lengths of the last rationales that have earned something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lengths(VecDeque<usize>);

impl Lengths {
    /// Takes note of a rationale of so many tokens that has earned something.
    pub fn note(&mut self, tokens: usize) {
        self.0.push_back(tokens);
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// Tokens after which a rationale is cut off, `most` at most: one and a half times the longest that
    /// is remembered, so that rationales can still grow.
    #[must_use]
    pub fn limit(&self, most: usize) -> usize {
        let longest = self.0.iter().max().filter(|_| self.0.len() >= ENOUGH);
        longest.map_or(most, |longest| (longest.saturating_mul(3) / 2).max(LEAST).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(lengths: impl IntoIterator<Item = usize>) -> Lengths {
        let mut known = Lengths::default();
        lengths.into_iter().for_each(|tokens| known.note(tokens));
        known
    }

    #[test]
    fn the_limit_leaves_room_above_the_longest_that_has_earned_something() {
        assert_eq!(noted((0..31).map(|_| 80)).limit(400), 400, "too few to say");
        assert_eq!(noted((0..32).map(|n| 80 + n)).limit(400), 166);
        assert_eq!(noted([5; 40]).limit(400), LEAST);
        assert_eq!(noted([390; 40]).limit(400), 400);
        assert_eq!(noted([5; 40]).limit(20), 20);
    }

    #[test]
    fn what_grows_is_followed_and_what_is_long_ago_is_forgotten() {
        let mut known = noted([100; 40]);
        for _ in 0..20 {
            known.note(known.limit(4000));
        }
        assert_eq!(known.limit(4000), 4000, "each may be half as long again");

        (0..REMEMBERED).for_each(|_| known.note(100));
        assert_eq!(known.limit(4000), 150);
    }
}
