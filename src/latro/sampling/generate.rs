//! Generation: several branches from each of several prompts, all in one batch.
//!
//! A prompt's keys and values are computed and stored once for all its branches. A finished branch
//! leaves the batch and a waiting one takes its place; new prompts are computed in the same pass as
//! the next tokens of the others. Before it leaves, its keys and values serve once more if its caller
//! wants to know how likely other tokens are in place of its last ones, or what is said behind these
//! (`branch`). This module knows tokens only; what ends a branch is its caller's `Stop`.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;

use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, Input, ModelError, Predictions};
use crate::kernels::Floats;
use crate::kernels::threads::for_each;
use crate::latro::sampling::branch::{Branch, Generated, Origin, Rows, Stop};
use crate::latro::sampling::sampler::{Pick, pick};
use crate::ops::head::logits_macs;
use crate::ops::key_values::aligned;

/// The most tokens of prompts that are computed in one pass, unless a single prompt has more: what
/// bounds the memory of that pass. Fixed, because what is computed together must not depend on the
/// machine.
const PREFILL_TOKENS: usize = 2048;

/// Rows that are scored in one pass, unless a single continuation has more: each takes a row of logits.
const SCORED_ROWS: usize = 32;

/// What to generate from each prompt.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Branches of each prompt.
    pub branches: usize,
    /// Tokens after which a branch is cut off.
    pub max_new_tokens: usize,
    /// Branches that are computed together, over all prompts; at least one.
    pub batch: usize,
    /// The most tokens of a continuation, its reply included. 0: there is none.
    pub continuation: usize,
    pub pick: Pick,
}

/// What a batch has room for in its cache, in numbers that its memory follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Prompts whose keys and values are there at the same time.
    pub prompts: usize,
    /// Slots of each.
    pub prompt_slots: usize,
    /// Branches that are computed together.
    pub branches: usize,
    /// Slots of each.
    pub branch_slots: usize,
    /// The most rows that one pass scores behind branches.
    pub scored_rows: usize,
}

impl Places {
    /// For `prompts` prompts of at most `longest` tokens.
    #[must_use]
    pub fn new(prompts: usize, longest: usize, limits: &Limits) -> Self {
        let total = prompts.saturating_mul(limits.branches);
        let branches = limits.batch.max(1).min(total);
        // Enough prompts to fill the batch while the last branches of others go on.
        let open = branches.div_ceil(limits.branches.max(1)) + 1;
        Self {
            prompts: open.min(prompts),
            prompt_slots: aligned(longest),
            branches,
            branch_slots: aligned(limits.max_new_tokens + limits.continuation),
            scored_rows: match limits.continuation {
                0 => 0,
                longest => SCORED_ROWS.max(longest),
            },
        }
    }

    /// All slots of the cache.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.prompts * self.prompt_slots + self.branches * self.branch_slots
    }

    /// The most rows that one pass computes.
    #[must_use]
    pub fn rows(&self, longest: usize) -> usize {
        let prompts = self.prompts.saturating_mul(longest).min(PREFILL_TOKENS.max(longest));
        self.branches + self.scored_rows + prompts
    }
}

/// The policy: a model, perhaps with an adapter.
pub struct Policy<'a, E: Engine> {
    pub model: &'a E,
    pub lora: Option<&'a E::Adapter>,
    pub interrupt: &'a Interrupt,
}

impl<E: Engine> Clone for Policy<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for Policy<'_, E> {}

/// [`generate_scored`] where nothing is scored: `[prompt][branch][token]`.
///
/// # Errors
/// As [`generate_scored`].
pub fn generate<E: Engine, S: Stop>(
    policy: Policy<'_, E>,
    prompts: &[Vec<u32>],
    limits: Limits,
    rng: impl Fn(usize, usize) -> ChaCha8Rng,
    stop: impl Fn(usize) -> S,
    progress: impl FnMut(usize),
) -> Result<Vec<Vec<Vec<u32>>>, ModelError> {
    let stop = |prompt, _| stop(prompt);
    let all = generate_scored(policy, prompts, limits, rng, stop, progress)?;
    let tokens = |branches: Vec<Generated>| branches.into_iter().map(|b| b.tokens).collect();
    Ok(all.into_iter().map(tokens).collect())
}

/// Generates `limits.branches` branches from each prompt, `[prompt][branch]`, and scores what their
/// [`Stop`]s ask for.
///
/// `rng(prompt, branch)` and `stop(prompt, branch)` make each branch's own random stream and stop;
/// `progress` is told the number of tokens of every step.
///
/// # Errors
/// [`ModelError::Context`] if a prompt and its new tokens don't fit the model's context;
/// [`ModelError::NonFinite`] if the model computes no numbers; [`ModelError::Interrupted`]; a failing
/// device.
pub fn generate_scored<E: Engine, S: Stop>(
    policy: Policy<'_, E>,
    prompts: &[Vec<u32>],
    limits: Limits,
    rng: impl Fn(usize, usize) -> ChaCha8Rng,
    stop: impl Fn(usize, usize) -> S,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<Generated>>, ModelError> {
    check_context(policy.model, prompts, limits.max_new_tokens)?;
    let mut batch = Batch::new(policy.model, prompts, limits)?;
    let mut results = vec![vec![Generated::default(); limits.branches]; prompts.len()];
    loop {
        policy.interrupt.check()?;
        let admitted = batch.admit();
        if !batch.is_idle() || !admitted.is_empty() {
            batch.compute(policy, &admitted)?;
        } else if !batch.is_waiting() {
            return Ok(results);
        }
        batch.begin(&rng, &stop);
        progress(batch.live.len());
        batch.sample()?;
        batch.retire();
        batch.release(|origin, generated| results[origin.prompt][origin.number] = generated);
    }
}

fn check_context(
    model: &impl Engine,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
) -> Result<(), ModelError> {
    let context = model.spec().context_length;
    for prompt in prompts {
        let tokens = prompt.len() + max_new_tokens;
        if tokens > context {
            let what = format!("a prompt of {} tokens with its continuation", prompt.len());
            return Err(ModelError::Context { what, tokens, context });
        }
    }
    Ok(())
}

/// A prompt whose keys and values are in the cache.
struct OpenPrompt {
    prompt: usize,
    slots: Range<usize>,
    /// The logits behind it, until all of its branches have begun.
    logits: Vec<f32>,
    begun: usize,
    ended: usize,
}

/// Branches that are computed together, what waits for them, and what has been computed.
struct Batch<'a, E: Engine, S> {
    prompts: &'a [Vec<u32>],
    limits: Limits,
    vocabulary: usize,
    /// Prompts that have been admitted so far; they come in their order.
    admitted: usize,
    open: Vec<OpenPrompt>,
    /// Those that are sampled, in the order of prompts but for replies, so that those that see the same
    /// stand together.
    live: Vec<Branch<S>>,
    /// Those that are scored.
    scored: Vec<Branch<S>>,
    cache: E::Cache,
    /// First slots of places that nobody uses.
    free_prompts: Vec<usize>,
    free_branches: Vec<usize>,
    /// `[live, vocabulary]`
    logits: Floats,
}

impl<'a, E: Engine, S: Stop> Batch<'a, E, S> {
    fn new(model: &E, prompts: &'a [Vec<u32>], limits: Limits) -> Result<Self, ModelError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let places = Places::new(prompts.len(), longest, &limits);
        let home = |i: usize| i * places.prompt_slots;
        let own = |i: usize| home(places.prompts) + i * places.branch_slots;
        Ok(Self {
            prompts,
            limits,
            vocabulary: model.spec().vocab,
            admitted: 0,
            open: Vec::with_capacity(places.prompts),
            live: Vec::with_capacity(places.branches),
            scored: Vec::new(),
            cache: model.cache(places.slots())?,
            free_prompts: (0..places.prompts).rev().map(home).collect(),
            free_branches: (0..places.branches).rev().map(own).collect(),
            // All rows at once: growing would copy them.
            logits: Floats::zeroed(places.branches * model.spec().vocab),
        })
    }

    /// Opens prompts whose branches have places; their numbers in `open`.
    fn admit(&mut self) -> Range<usize> {
        let first = self.open.len();
        let mut tokens = 0;
        let waiting = |open: &OpenPrompt| self.limits.branches - open.begun;
        let mut room =
            self.free_branches.len().saturating_sub(self.open.iter().map(waiting).sum::<usize>());
        while room > 0 && self.admitted < self.prompts.len() {
            let prompt = self.admitted;
            let len = self.prompts[prompt].len();
            tokens += len;
            if tokens > PREFILL_TOKENS && tokens > len {
                break;
            }
            let Some(home) = self.free_prompts.pop() else { break };
            let slots = home..home + len;
            self.open.push(OpenPrompt { prompt, slots, logits: Vec::new(), begun: 0, ended: 0 });
            self.admitted += 1;
            room = room.saturating_sub(self.limits.branches);
        }
        first..self.open.len()
    }

    /// How many of those that wait for it are scored in one pass.
    fn scorable(&self) -> usize {
        let mut rows = 0;
        let fits = |branch: &&Branch<S>| {
            let first = rows == 0;
            rows += branch.targets().len();
            first || rows <= SCORED_ROWS
        };
        self.scored.iter().take_while(fits).count()
    }

    /// Whether there is nothing to compute.
    fn is_idle(&self) -> bool {
        self.live.is_empty() && self.scored.is_empty()
    }

    /// Whether branches of open prompts have not begun: all that were computed may end together.
    fn is_waiting(&self) -> bool {
        self.open.iter().any(|open| open.begun < self.limits.branches)
    }

    /// Feeds each live branch's last token and the admitted prompts; leaves the logits behind them.
    fn compute(
        &mut self,
        policy: Policy<'_, E>,
        admitted: &Range<usize>,
    ) -> Result<(), ModelError> {
        let model = policy.model;
        let mut rows = Rows::default();
        self.live.iter().for_each(|branch| branch.feed(&mut rows));
        let mut ends: Vec<usize> = (0..rows.tokens.len()).collect();
        for open in &self.open[admitted.clone()] {
            let prompt = self.prompts[open.prompt].iter().copied();
            rows.push(0..0, open.slots.start, 0, prompt);
            ends.push(rows.tokens.len() - 1);
        }
        let first = rows.tokens.len();
        let scorable = self.scorable();
        for branch in &self.scored[..scorable] {
            branch.feed_next(&self.prompts[branch.origin.prompt], &mut rows);
        }
        let scored: Vec<usize> = (first..rows.tokens.len()).collect();
        let Rows { tokens, positions, plan } = rows;
        let input = Input { tokens: &tokens, positions: &positions, plan };
        let cache = Some(&mut self.cache);
        let hidden = model.hidden(input, cache, policy.lora, policy.interrupt)?;
        let logits = &mut self.logits;
        if !ends.is_empty() {
            model.logits(&hidden, &ends, logits)?;
        }
        let behind = logits[self.live.len() * self.vocabulary..].chunks_exact(self.vocabulary);
        for (open, logits) in self.open[admitted.clone()].iter_mut().zip(behind) {
            open.logits.extend_from_slice(logits);
        }
        if !scored.is_empty() {
            let targets: Vec<u32> =
                self.scored[..scorable].iter().flat_map(Branch::targets).copied().collect();
            let scales = vec![1.0; targets.len()];
            let predicted = Predictions { rows: &scored, targets: &targets, scales: &scales };
            let scores = model.token_scores(&hidden, predicted, false)?;
            let mut log_p = scores.log_p.as_slice();
            for branch in &mut self.scored[..scorable] {
                branch.take(&self.prompts[branch.origin.prompt], &mut log_p);
            }
        }
        Ok(())
    }

    /// Begins branches of open prompts where there are places.
    fn begin(
        &mut self,
        rng: impl Fn(usize, usize) -> ChaCha8Rng,
        stop: impl Fn(usize, usize) -> S,
    ) {
        for open in &mut self.open {
            while open.begun < self.limits.branches {
                let Some(own) = self.free_branches.pop() else { return };
                let (prompt, number) = (open.prompt, open.begun);
                let origin = Origin { prompt, number, home: open.slots.clone(), own };
                let most = self.limits.max_new_tokens;
                let (rng, stop) = (rng(prompt, number), stop(prompt, number));
                self.live.push(Branch::new(origin, most, rng, stop));
                let from = (self.live.len() - 1) * self.vocabulary;
                self.logits.resize(from + self.vocabulary);
                self.logits[from..].copy_from_slice(&open.logits);
                open.begun += 1;
            }
            open.logits = Vec::new();
        }
    }

    /// Adds a token to each live branch.
    fn sample(&mut self) -> Result<(), ModelError> {
        let limits = self.limits;
        let macs = logits_macs(self.live.len(), self.vocabulary);
        let rows = self.logits.chunks_exact(self.vocabulary).zip(&mut self.live);
        let mut rows: Vec<_> = rows.map(|row| (row, true)).collect();
        for_each(&mut rows, macs, |((logits, branch), sound)| {
            *sound = branch.grow(|rng| pick(logits, limits.pick, rng));
        });
        match rows.iter().all(|(_, sound)| *sound) {
            true => Ok(()),
            false => Err(ModelError::NonFinite { what: "logits" }),
        }
    }

    /// Takes finished branches out of those that are sampled.
    fn retire(&mut self) {
        let slots = self.limits.continuation;
        for mut branch in self.live.extract_if(.., |branch| branch.done) {
            branch.rest(slots);
            self.scored.push(branch);
        }
    }

    /// Hands out branches of which nothing more is to come, and gives their places free; those that
    /// reply are sampled again.
    fn release(&mut self, mut take: impl FnMut(Origin, Generated)) {
        let mut waiting = Vec::with_capacity(self.scored.len());
        for mut branch in self.scored.drain(..) {
            if !branch.done {
                self.live.push(branch);
            } else if let Some(generated) = branch.over() {
                self.free_branches.push(branch.origin.own);
                let mut open = self.open.iter_mut();
                let open = open.find(|open| open.prompt == branch.origin.prompt);
                open.expect("its prompt is open").ended += 1;
                take(branch.origin, generated);
            } else {
                waiting.push(branch);
            }
        }
        self.scored = waiting;
        for open in self.open.extract_if(.., |open| open.ended == self.limits.branches) {
            self.free_prompts.push(open.slots.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::device::DeviceKind;
    use crate::engine::with_engine;
    use crate::gguf::GgufFile;
    use crate::kernels::Compute;
    use crate::latro::sampling::sampler::stream;

    /// Ends a branch after so many tokens.
    struct After(usize);

    impl Stop for After {
        fn push(&mut self, _: u32) -> bool {
            self.0 -= 1;
            self.0 == 0
        }
    }

    /// Prompts of different lengths, whose branches end after 3, 4 and 5 tokens.
    fn sampled(batch: usize, device: DeviceKind) -> Vec<Vec<Vec<u32>>> {
        with_engine!(device, E => sampled_by::<E>(batch, device))
    }

    fn sampled_by<E: Engine>(batch: usize, device: DeviceKind) -> Vec<Vec<Vec<u32>>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        let model = E::load(&file, Compute::Exact, device).unwrap();
        let interrupt = Interrupt::new();
        let policy = Policy { model: &model, lora: None, interrupt: &interrupt };
        let prompts = [vec![5, 6, 7], (9..50).collect(), vec![8]];
        let pick = Pick::Sample { temperature: 1.0 };
        let limits = Limits { branches: 5, max_new_tokens: 8, batch, continuation: 0, pick };
        let rng = |task: usize, branch: usize| stream(1, 2, task as u64, branch as u64);
        let mut tokens = 0;
        let stop = |prompt| After(3 + prompt);
        let all = generate(policy, &prompts, limits, rng, stop, |n| tokens += n).unwrap();
        assert_eq!(tokens, all.iter().flatten().map(Vec::len).sum::<usize>());
        all
    }

    /// Also where all branches that have a place end together while others wait.
    #[test]
    fn what_is_sampled_does_not_depend_on_what_is_sampled_with_it() {
        let all = sampled(64, DeviceKind::Cpu);
        for (prompt, branches) in all.iter().enumerate() {
            assert!(branches.iter().all(|b| b.len() == 3 + prompt), "{prompt}: {branches:?}");
        }
        for batch in [1, 2, 3, 5, 7] {
            assert_eq!(sampled(batch, DeviceKind::Cpu), all, "batch {batch}");
        }
    }

    #[test]
    fn what_is_sampled_does_not_depend_on_the_device() {
        let all = sampled(64, DeviceKind::Cpu);
        for batch in [2, 64] {
            assert_eq!(sampled(batch, DeviceKind::Candle), all, "batch {batch}");
        }
    }
}
