//! Seam `phrase`: a rationale ends with the turn or where the model begins "the answer is", and our own
//! words follow.

use super::Prompter;

/// Where a rationale ends, in any case.
pub const PHRASE: &[u8] = b"the answer is";

/// How a rationale came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// The model began to state the answer.
    Announced,
    /// The limit of tokens was reached first.
    Truncated,
}

/// The rationale in generated ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many of the ids belong to the rationale.
    pub len: usize,
    /// Why it ends there.
    pub finish: Finish,
}

impl Prompter {
    /// The rationale in generated ids: what precedes the end of the turn and the phrase "the answer
    /// is" in any case. Ends at a token's border, so a token with the beginning of the phrase goes.
    #[must_use]
    pub fn cut(&self, generated: &[u32]) -> Cut {
        let stop = generated.iter().position(|id| self.turn_ends.contains(id));
        let ids = &generated[..stop.unwrap_or(generated.len())];
        let Some(phrase) = find_phrase(&self.tokenizer.decode(ids, true)) else {
            let finish = if stop.is_some() { Finish::EndOfTurn } else { Finish::Truncated };
            return Cut { len: ids.len(), finish };
        };
        let mut bytes = 0;
        let fits = |id: &&u32| {
            bytes += self.bytes(**id).len();
            bytes <= phrase
        };
        Cut { len: ids.iter().take_while(fits).count(), finish: Finish::Announced }
    }

    /// Watches one branch while it is sampled.
    #[must_use]
    pub const fn watch(&self) -> StopWatch<'_> {
        StopWatch { prompter: self, tail: Vec::new() }
    }
}

/// Says after each sampled token whether the rationale ended; agrees with [`Prompter::cut`].
#[derive(Debug, Clone)]
pub struct StopWatch<'p> {
    prompter: &'p Prompter,
    /// The last bytes, one less than the phrase has.
    tail: Vec<u8>,
}

impl StopWatch<'_> {
    /// Takes the next token; says how the rationale ended if it did.
    pub fn push(&mut self, id: u32) -> Option<Finish> {
        if self.prompter.turn_ends.contains(&id) {
            return Some(Finish::EndOfTurn);
        }
        self.tail.extend_from_slice(self.prompter.bytes(id));
        if find_phrase(&self.tail).is_some() {
            return Some(Finish::Announced);
        }
        let spare = self.tail.len().saturating_sub(PHRASE.len() - 1);
        self.tail.drain(..spare);
        None
    }
}

/// Where the phrase begins.
fn find_phrase(text: &[u8]) -> Option<usize> {
    text.windows(PHRASE.len()).position(|window| window.eq_ignore_ascii_case(PHRASE))
}
