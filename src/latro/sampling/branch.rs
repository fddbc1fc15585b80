//! A branch: what is sampled from a prompt, and then, from the keys and values that this has left in the
//! cache, how likely other tokens are in place of its last ones, and what is said behind these.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;

use crate::ops::attention_plan::{AttentionPlan, Segment};

/// Looks at a branch's tokens as they come and says when it is over.
pub trait Stop: Send {
    /// Takes the next token; true if it ends the branch.
    fn push(&mut self, token: u32) -> bool;

    /// What is to be scored behind the branch, which has ended with these tokens: first what keeps the
    /// most of them, since each writes over what stands behind. If one is longer than there is room
    /// for, there is none.
    fn continuations(&self, _tokens: &[u32]) -> Vec<Continuation> {
        Vec::new()
    }
}

/// Tokens whose log-probabilities are asked for behind the first tokens of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// How many tokens of the branch stand before them; with 0 they follow the prompt.
    pub keep: usize,
    /// At least one.
    pub ids: Vec<u32>,
    /// The most tokens that are generated behind them: a reply. 0: none is.
    pub room: usize,
}

impl Continuation {
    /// One that is scored and no more.
    #[must_use]
    pub const fn scored(keep: usize, ids: Vec<u32>) -> Self {
        Self { keep, ids, room: 0 }
    }

    /// Whether it fits into so many slots behind the branch.
    const fn fits(&self, slots: usize) -> bool {
        !self.ids.is_empty() && self.ids.len() + self.room <= slots
    }
}

/// What has come of a branch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Generated {
    /// The token that ended it included.
    pub tokens: Vec<u32>,
    /// log p of the tokens of each of its continuations, nats.
    pub scores: Vec<Vec<f32>>,
    /// What was said behind those continuations that have room for it.
    pub replies: Vec<Vec<u32>>,
}

/// Where a branch comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub prompt: usize,
    /// Which of its prompt's branches it is.
    pub number: usize,
    /// The prompt's keys and values.
    pub home: Range<usize>,
    /// The branch's own first slot.
    pub own: usize,
}

/// A branch, while it is sampled and while it is scored.
pub(super) struct Branch<S> {
    pub origin: Origin,
    /// Tokens whose keys and values stand in its slots, or will.
    tokens: Vec<u32>,
    /// Where what it says itself begins among them: a reply follows others.
    from: usize,
    /// Tokens at which it is cut off.
    most: usize,
    /// Whether the first of `tokens` is the prompt's last, which was computed anew.
    behind_prompt: bool,
    rng: ChaCha8Rng,
    stop: S,
    /// Nothing more is sampled.
    pub done: bool,
    /// Once it has been sampled.
    generated: Option<Generated>,
    /// What is still to be scored, the next one last.
    waiting: Vec<Continuation>,
}

impl<S: Stop> Branch<S> {
    pub fn new(origin: Origin, most: usize, rng: ChaCha8Rng, stop: S) -> Self {
        Self {
            origin,
            tokens: Vec::with_capacity(most),
            from: 0,
            most,
            behind_prompt: false,
            rng,
            stop,
            done: false,
            generated: None,
            waiting: Vec::new(),
        }
    }

    /// Adds the row of its last token.
    pub fn feed(&self, rows: &mut Rows) {
        let past = self.tokens.len() - 1;
        rows.push(self.seen(self.behind_prompt), self.origin.own, past, [self.tokens[past]]);
    }

    /// Adds the token that `pick` chooses; false if it finds none.
    pub fn grow(&mut self, pick: impl FnOnce(&mut ChaCha8Rng) -> Option<u32>) -> bool {
        let Some(token) = pick(&mut self.rng) else { return false };
        self.tokens.push(token);
        self.done = self.stop.push(token) || self.tokens.len() >= self.most;
        true
    }

    /// Takes note of what it has said, when it is done. There are so many `slots` for a continuation.
    pub fn rest(&mut self, slots: usize) {
        let said = self.tokens.split_off(self.from);
        match &mut self.generated {
            Some(generated) => generated.replies.push(said),
            None => {
                self.waiting = self.stop.continuations(&said);
                // All or none, so that scores are known by their order.
                if !self.waiting.iter().all(|next| next.fits(slots)) {
                    self.waiting.clear();
                }
                self.waiting.reverse();
                self.generated = Some(Generated { tokens: said, ..Generated::default() });
            }
        }
    }

    /// Adds the rows of the next continuation: the token before it, and all of it but the last.
    pub fn feed_next(&self, prompt: &[u32], rows: &mut Rows) {
        let Some(Continuation { keep, ids, .. }) = self.waiting.last() else { return };
        let before = self.kept(*keep, prompt).last().copied();
        let tokens = before.into_iter().chain(ids.iter().copied()).take(ids.len());
        rows.push(self.seen(*keep == 0), self.origin.own, keep.saturating_sub(1), tokens);
    }

    /// The tokens of the next continuation.
    pub fn targets(&self) -> &[u32] {
        self.waiting.last().map_or(&[], |next| &next.ids)
    }

    /// Takes the scores of the next continuation from the front of `log_p`, and goes on behind it if
    /// there is to be a reply.
    pub fn take(&mut self, prompt: &[u32], log_p: &mut &[f32]) {
        let Some(Continuation { keep, ids, room }) = self.waiting.pop() else { return };
        let (own, rest) = log_p.split_at(ids.len());
        *log_p = rest;
        if let Some(generated) = &mut self.generated {
            generated.scores.push(own.to_vec());
        }
        if room > 0 {
            self.tokens = [self.kept(keep, prompt), &ids].concat();
            self.behind_prompt = keep == 0;
            self.from = self.tokens.len();
            self.most = self.from + room;
            self.done = false;
        }
    }

    /// What has come of it, if nothing more will.
    pub fn over(&mut self) -> Option<Generated> {
        self.generated.take_if(|_| self.done && self.waiting.is_empty())
    }

    /// The slots before its own that it sees. Behind the prompt itself the prompt's last token is
    /// computed anew, among the branch's own slots.
    fn seen(&self, behind_prompt: bool) -> Range<usize> {
        let Range { start, end } = self.origin.home;
        start..end - usize::from(behind_prompt)
    }

    /// The tokens in its slots before a continuation that keeps so many.
    fn kept<'a>(&'a self, keep: usize, prompt: &'a [u32]) -> &'a [u32] {
        let said = self.generated.as_ref().map_or(&[][..], |generated| &generated.tokens);
        match keep {
            0 => &prompt[prompt.len().saturating_sub(1)..],
            _ => &said[..keep],
        }
    }
}

/// Rows that are computed in one pass.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub tokens: Vec<u32>,
    pub positions: Vec<u32>,
    pub plan: AttentionPlan,
}

impl Rows {
    /// Adds tokens that see `seen` and, from slot `own` on, `past` others and themselves.
    pub fn push(
        &mut self,
        seen: Range<usize>,
        own: usize,
        past: usize,
        tokens: impl IntoIterator<Item = u32>,
    ) {
        let before = self.tokens.len();
        self.tokens.extend(tokens);
        let (rows, first) = (self.tokens.len() - before, seen.len() + past);
        self.positions.extend((first..first + rows).map(|position| position as u32));
        let seen = if seen.is_empty() { Vec::new() } else { vec![seen] };
        self.plan.segments.push(Segment { rows, seen, own, past });
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
    use crate::latro::sampling::generate::{Limits, Policy, generate, generate_scored};
    use crate::latro::sampling::sampler::{Pick, stream};
    use crate::latro::tree::{self, Tree};

    /// Ends a branch after so many tokens and asks for three scores; ends no reply.
    struct Asking(usize);

    const OTHER: [u32; 3] = [40, 41, 42];
    /// What the replies behind them have room for.
    const ROOM: [usize; 3] = [0, 5, 3];

    impl Stop for Asking {
        fn push(&mut self, _: u32) -> bool {
            let last = self.0 == 1;
            self.0 = self.0.saturating_sub(1);
            last
        }

        fn continuations(&self, tokens: &[u32]) -> Vec<Continuation> {
            let asked = [(tokens.len(), &[9][..]), (2, &OTHER), (0, &OTHER[..2])];
            let asked = asked.into_iter().zip(ROOM);
            asked.map(|((keep, ids), room)| Continuation { keep, ids: ids.into(), room }).collect()
        }
    }

    /// What is said behind a prompt that is computed as a whole.
    fn said<E: Engine>(policy: Policy<'_, E>, prompt: Vec<u32>, tokens: usize) -> Vec<u32> {
        let limits = Limits {
            branches: 1,
            max_new_tokens: tokens,
            batch: 1,
            continuation: 0,
            pick: Pick::Greedy,
        };
        let rng = |_, _| stream(0, 0, 0, 0);
        let all = generate(policy, &[prompt], limits, rng, |_| Asking(0), |_| {}).unwrap();
        all.concat().concat()
    }

    fn check<E: Engine>(device: DeviceKind) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let model = E::load(&GgufFile::open(&path).unwrap(), Compute::Exact, device).unwrap();
        let interrupt = Interrupt::new();
        let policy = Policy { model: &model, lora: None, interrupt: &interrupt };
        let prompts = [vec![5, 6, 7], (9..50).collect(), vec![8]];
        let rng = |task: usize, branch: usize| stream(1, 2, task as u64, branch as u64);
        for batch in [1, 3, 64] {
            let pick = Pick::Greedy;
            let limits = Limits { branches: 4, max_new_tokens: 8, batch, continuation: 8, pick };
            let stop = |prompt, branch| Asking(3 + prompt + branch % 2);
            let all = generate_scored(policy, &prompts, limits, rng, stop, |_| {}).unwrap();
            for (prompt, branches) in prompts.iter().zip(all) {
                for Generated { tokens, scores, replies } in branches {
                    let asked = [(tokens.len(), &[9][..]), (2, &OTHER), (0, &OTHER[..2])];
                    assert_eq!((scores.len(), replies.len()), (asked.len(), 2));
                    for ((keep, lead), reply) in asked[1..].iter().zip(replies) {
                        let asked = [prompt, &tokens[..*keep], lead].concat();
                        assert_eq!(reply, said(policy, asked, reply.len()));
                        assert_eq!(reply.len(), if *keep == 0 { ROOM[2] } else { ROOM[1] });
                    }
                    for ((keep, answer), scores) in asked.into_iter().zip(scores) {
                        let rationale = &tokens[..keep];
                        let tree =
                            Tree::new(prompt, [tree::Branch { rationale, stop: None, answer }]);
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
