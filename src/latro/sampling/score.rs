//! Scoring behind a sampled branch: how likely other tokens are in place of its last ones, from the keys
//! and values that sampling has left in the cache.

use std::ops::Range;

use crate::latro::sampling::generate::Generated;
use crate::ops::attention_plan::{AttentionPlan, Segment};

/// Tokens whose log-probabilities are asked for behind the first tokens of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// How many tokens of the branch stand before them; with 0 they follow the prompt.
    pub keep: usize,
    /// At least one.
    pub ids: Vec<u32>,
}

/// A branch that has ended and what is still to be scored behind it.
pub(super) struct Ended {
    pub prompt: usize,
    pub number: usize,
    /// The prompt's keys and values.
    pub seen: Range<usize>,
    /// Its own first slot.
    pub own: usize,
    pub generated: Generated,
    /// The next one last.
    pub waiting: Vec<Continuation>,
}

impl Ended {
    /// Adds the rows of the next continuation: the token before it, and all of it but the last.
    pub fn feed(
        &self,
        prompt: &[u32],
        tokens: &mut Vec<u32>,
        positions: &mut Vec<u32>,
        plan: &mut AttentionPlan,
    ) {
        let Some(Continuation { keep, ids }) = self.waiting.last() else { return };
        // Behind the prompt itself its last token is computed anew, among the branch's own slots.
        let mut seen = self.seen.clone();
        let before = match keep.checked_sub(1) {
            Some(last) => self.generated.tokens.get(last),
            None => {
                seen.end -= 1;
                prompt.last()
            }
        };
        let past = keep.saturating_sub(1);
        let first = seen.len() + past;
        let seen = if seen.is_empty() { Vec::new() } else { vec![seen] };
        tokens.extend(before.into_iter().chain(ids).take(ids.len()));
        positions.extend((first..first + ids.len()).map(|position| position as u32));
        plan.segments.push(Segment { rows: ids.len(), seen, own: self.own, past });
    }

    /// The tokens of the next continuation.
    pub fn targets(&self) -> &[u32] {
        self.waiting.last().map_or(&[], |next| &next.ids)
    }

    /// Takes the scores of the next continuation from the front of `log_p`.
    pub fn take(&mut self, log_p: &mut &[f32]) {
        let Some(next) = self.waiting.pop() else { return };
        let (own, rest) = log_p.split_at(next.ids.len());
        self.generated.scores.push(own.to_vec());
        *log_p = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::Engine;
    use crate::engine::device::DeviceKind;
    use crate::engine::interrupt::Interrupt;
    use crate::engine::with_engine;
    use crate::gguf::GgufFile;
    use crate::kernels::Compute;
    use crate::latro::log_prob::score;
    use crate::latro::sampling::generate::{Limits, Policy, Stop, generate_scored};
    use crate::latro::sampling::sampler::{Pick, stream};
    use crate::latro::tree::{Branch, Tree};

    /// Ends a branch after so many tokens and asks for three scores.
    struct Asking(usize);

    const OTHER: [u32; 3] = [40, 41, 42];

    impl Stop for Asking {
        fn push(&mut self, _: u32) -> bool {
            self.0 -= 1;
            self.0 == 0
        }

        fn continuations(&self, tokens: &[u32]) -> Vec<Continuation> {
            let behind = |keep, ids: &[u32]| Continuation { keep, ids: ids.to_vec() };
            vec![behind(tokens.len(), &[9]), behind(2, &OTHER), behind(0, &OTHER[..2])]
        }
    }

    fn check<E: Engine>(device: DeviceKind) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let model = E::load(&GgufFile::open(&path).unwrap(), Compute::Exact, device).unwrap();
        let interrupt = Interrupt::new();
        let policy = Policy { model: &model, lora: None, interrupt: &interrupt };
        let prompts = [vec![5, 6, 7], (9..50).collect(), vec![8]];
        let rng = |task: usize, branch: usize| stream(1, 2, task as u64, branch as u64);
        for batch in [1, 3, 64] {
            let pick = Pick::Sample { temperature: 1.0 };
            let limits = Limits { branches: 4, max_new_tokens: 8, batch, continuation: 3, pick };
            let stop = |prompt, branch| Asking(3 + prompt + branch % 2);
            let all = generate_scored(policy, &prompts, limits, rng, stop, |_| {}).unwrap();
            for (prompt, branches) in prompts.iter().zip(all) {
                for Generated { tokens, scores } in branches {
                    let asked = [(tokens.len(), &[9][..]), (2, &OTHER), (0, &OTHER[..2])];
                    assert_eq!(scores.len(), asked.len());
                    for ((keep, answer), scores) in asked.into_iter().zip(scores) {
                        let rationale = &tokens[..keep];
                        let tree = Tree::new(prompt, [Branch { rationale, stop: None, answer }]);
                        let expected = score(&model, None, &tree, &interrupt).unwrap().log_p;
                        let expected = &expected[tree.branches[0].answer.clone()];
                        for (score, expected) in scores.iter().zip(expected) {
                            assert!((score - expected).abs() < 1e-3, "{score} {expected}");
                        }
                        assert_eq!(scores.len(), expected.len());
                    }
                }
            }
        }
    }

    #[test]
    fn scores_behind_branches_are_those_of_a_pass_of_their_own() {
        for device in [DeviceKind::Cpu, DeviceKind::Candle] {
            with_engine!(device, E => check::<E>(device));
        }
    }

    #[test]
    fn what_is_longer_than_there_is_room_for_is_not_scored() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        let model =
            crate::engine::cpu::CpuEngine::load(&file, Compute::Fast, DeviceKind::Cpu).unwrap();
        let interrupt = Interrupt::new();
        let policy = Policy { model: &model, lora: None, interrupt: &interrupt };
        let pick = Pick::Greedy;
        let limits = Limits { branches: 2, max_new_tokens: 8, batch: 2, continuation: 2, pick };
        let rng = |_, _| stream(0, 0, 0, 0);
        let all = generate_scored(policy, &[vec![5, 6]], limits, rng, |_, _| Asking(3), |_| {});

        assert!(all.unwrap()[0].iter().all(|b| b.tokens.len() == 3 && b.scores.is_empty()));
    }
}
