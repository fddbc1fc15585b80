//! Ends branches that say the same over and over: they won't come to an answer, and the longest branches
//! decide how long sampling takes.

use crate::latro::sampling::branch::{Continuation, Stop};

/// The longest text, in tokens, whose repetitions are noticed.
const LONGEST: usize = 64;
/// How often it must stand there.
const TIMES: usize = 4;
/// How many tokens all of that must be at least: digits and dashes repeat in sound texts, too.
const LEAST: usize = 64;

/// Notices repetition while tokens come.
#[derive(Debug, Clone)]
pub struct Repetition {
    /// The last [`LONGEST`] tokens, the token `i` at `i % LONGEST`.
    last: [u32; LONGEST],
    /// How many of the last tokens are those so many places before them; by the distance less one.
    runs: [usize; LONGEST],
    tokens: usize,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { last: [0; LONGEST], runs: [0; LONGEST], tokens: 0 }
    }
}

impl Repetition {
    /// Takes the next token; true if the branch now ends with four times the same text, of 64 tokens or
    /// more in all.
    pub fn push(&mut self, token: u32) -> bool {
        let mut repeats = false;
        for distance in 1..=LONGEST.min(self.tokens) {
            let run = &mut self.runs[distance - 1];
            let before = self.last[(self.tokens - distance) % LONGEST];
            *run = if before == token { *run + 1 } else { 0 };
            repeats |= *run + distance >= LEAST.max(TIMES * distance);
        }
        self.last[self.tokens % LONGEST] = token;
        self.tokens += 1;
        repeats
    }
}

/// Ends a branch when another stop does, or when it repeats itself.
pub struct UnlessRepeating<S> {
    pub stop: S,
    /// Without it repetition is not looked for.
    pub repetition: Option<Repetition>,
}

impl<S: Stop> Stop for UnlessRepeating<S> {
    fn push(&mut self, token: u32) -> bool {
        let repeats = self.repetition.as_mut().is_some_and(|repetition| repetition.push(token));
        self.stop.push(token) || repeats
    }

    fn continuations(&self, tokens: &[u32]) -> Vec<Continuation> {
        self.stop.continuations(tokens)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// After how many tokens it is noticed.
    fn noticed(tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut repetition = Repetition::default();
        tokens.into_iter().position(|token| repetition.push(token)).map(|at| at + 1)
    }

    #[test]
    fn the_same_four_times_is_a_repetition() {
        let sentence = |n: u32| (0..n).cycle().map(|token| token + 7);

        assert_eq!(noticed(sentence(1).take(200)), Some(64));
        assert_eq!(noticed(sentence(5).take(200)), Some(64));
        assert_eq!(noticed(sentence(30).take(200)), Some(120));
        assert_eq!(noticed(sentence(64).take(300)), Some(256));
        assert_eq!(noticed(sentence(65).take(400)), None, "longer than what is looked for");
        assert_eq!(noticed((100..150).chain(sentence(30)).take(300)), Some(170));
    }

    #[test]
    fn sound_texts_repeat_a_little() {
        // A table whose rows differ in one number each, and a line of dashes.
        let table = (0..40).flat_map(|row| [1, 2, 3, 1000 + row, 4, 5]);

        assert_eq!(noticed(table.chain([9; 60])), None);
    }

    proptest! {
        /// Compared with the definition.
        #[test]
        fn it_notices_what_it_should(tokens in prop::collection::vec(0u32..2, 0..150)) {
            let ends = |n: usize| (1..=LONGEST).any(|period| {
                let all = LEAST.max(TIMES * period);
                n >= all && (n - all + period..n).all(|i| tokens[i] == tokens[i - period])
            });
            let expected = (1..=tokens.len()).find(|n| ends(*n));

            prop_assert_eq!(noticed(tokens.iter().copied()), expected);
        }
    }
}
