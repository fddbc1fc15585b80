//! Generation: several branches from each of several prompts, all in one batch.
//!
//! A prompt's keys and values are computed and stored once for all its branches. A finished branch
//! leaves the batch. This module knows tokens only; what ends a branch is its caller's `Stop`.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::sampler::{Pick, pick};
use crate::model::ModelError;
use crate::model::interrupt::Interrupt;
use crate::model::kv_cache::KvCache;
use crate::model::transformer::{BlockLora, Keys, Transformer};
use crate::ops::attention::{AttentionPlan, Segment};
use crate::ops::with_values;

/// The most tokens of prompts that are computed in one pass, unless a single prompt has more: what
/// bounds the memory of that pass. Fixed, because what is computed together must not depend on the
/// machine.
const PREFILL_TOKENS: usize = 8192;

/// Looks at a branch's tokens as they come and says when it is over.
pub trait Stop: Send {
    /// Takes the next token; true if it ends the branch.
    fn push(&mut self, token: u32) -> bool;
}

/// What to generate from each prompt.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Branches of each prompt.
    pub branches: usize,
    /// Tokens after which a branch is cut off.
    pub max_new_tokens: usize,
    /// Branches that are computed together, over all prompts. All branches of a prompt are always
    /// computed together, even where they are more than this.
    pub batch: usize,
    pub pick: Pick,
}

/// The policy: a model, perhaps with an adapter.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    pub model: &'a Transformer,
    pub lora: Option<&'a [BlockLora]>,
    pub interrupt: &'a Interrupt,
}

struct Branch<S> {
    prompt: usize,
    start: usize,
    tokens: Vec<u32>,
    rng: ChaCha8Rng,
    stop: S,
    done: bool,
}

/// Generates `limits.branches` continuations of each prompt: `[prompt][branch][token]`, the token
/// that ended a branch included.
///
/// `rng(prompt, branch)` and `stop(prompt)` make each branch's own random stream and stop;
/// `progress` is told the number of tokens of every step.
///
/// # Errors
/// [`ModelError::Context`] if a prompt and its new tokens don't fit the model's context;
/// [`ModelError::NonFinite`] if the model computes no numbers; [`ModelError::Interrupted`].
pub fn generate<S: Stop>(
    policy: Policy<'_>,
    prompts: &[Vec<u32>],
    limits: Limits,
    rng: impl Fn(usize, usize) -> ChaCha8Rng,
    stop: impl Fn(usize) -> S,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<Vec<u32>>>, ModelError> {
    check_context(policy.model, prompts, limits.max_new_tokens)?;
    let mut results = Vec::with_capacity(prompts.len());
    let prompts_at_once = (limits.batch / limits.branches.max(1)).max(1);
    for Range { start: first, end } in waves(prompts, prompts_at_once) {
        let prompts = &prompts[first..end];
        let (mut batch, mut logits) =
            Batch::prefill(policy, prompts, limits, |p, b| (rng(first + p, b), stop(first + p)))?;
        batch.sample(&mut logits, limits, true)?;
        while batch.branches.iter().any(|b| !b.done) {
            policy.interrupt.check()?;
            progress(batch.branches.iter().filter(|b| !b.done).count());
            batch.decode(policy, &mut logits)?;
            batch.sample(&mut logits, limits, false)?;
        }
        let mut wave: Vec<Vec<Vec<u32>>> = vec![Vec::new(); prompts.len()];
        for branch in batch.branches {
            wave[branch.prompt].push(branch.tokens);
        }
        results.extend(wave);
    }
    Ok(results)
}

/// The prompts in their order, in groups of at most `prompts_at_once` prompts and
/// [`PREFILL_TOKENS`] tokens of prompts, or of one prompt.
fn waves(prompts: &[Vec<u32>], prompts_at_once: usize) -> Vec<Range<usize>> {
    let mut waves: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (i, prompt) in prompts.iter().enumerate() {
        tokens += prompt.len();
        match waves.last_mut() {
            Some(wave) if wave.len() < prompts_at_once && tokens <= PREFILL_TOKENS => {
                wave.end = i + 1;
            }
            _ => {
                tokens = prompt.len();
                waves.push(i..i + 1);
            }
        }
    }
    waves
}

fn check_context(
    model: &Transformer,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
) -> Result<(), ModelError> {
    let context = model.spec.context_length;
    for prompt in prompts {
        let tokens = prompt.len() + max_new_tokens;
        if tokens > context {
            let what = format!("a prompt of {} tokens with its continuation", prompt.len());
            return Err(ModelError::Context { what, tokens, context });
        }
    }
    Ok(())
}

/// Branches that are computed together, and what has been computed of them.
struct Batch<S> {
    cache: KvCache,
    /// Where each prompt's tokens stand in the cache.
    prompts: Vec<Range<usize>>,
    branches: Vec<Branch<S>>,
}

impl<S: Stop> Batch<S> {
    /// Computes the prompts; returns the logits behind each of them.
    fn prefill(
        policy: Policy<'_>,
        prompts: &[Vec<u32>],
        limits: Limits,
        make: impl Fn(usize, usize) -> (ChaCha8Rng, S),
    ) -> Result<(Self, Vec<f32>), ModelError> {
        let model = policy.model;
        let tokens: Vec<u32> = prompts.iter().flatten().copied().collect();
        let slots = tokens.len() + prompts.len() * limits.branches * limits.max_new_tokens;
        let mut cache = KvCache::new(model.depth(), model.head_shape().kv_width(), slots);

        let mut ranges = Vec::with_capacity(prompts.len());
        let mut plan = AttentionPlan::default();
        let mut positions = Vec::with_capacity(tokens.len());
        for prompt in prompts {
            let start = positions.len();
            positions.extend(0..prompt.len() as u32);
            ranges.push(start..positions.len());
            plan.segments.push(Segment { rows: prompt.len(), seen: vec![], own: Some(start) });
        }
        let slots: Vec<usize> = (0..tokens.len()).collect();
        let keys = Keys::Cache { cache: &mut cache, slots: &slots };
        let rows = model.rows(&positions, plan);
        let hidden = model.hidden(&tokens, &rows, keys, policy.lora, policy.interrupt)?;
        let last: Vec<usize> = ranges.iter().map(|r| r.end - 1).collect();
        let mut logits = Vec::new();
        with_values(&hidden, |hidden| head(model, hidden, &last, &mut logits))?;

        let count = prompts.len() * limits.branches;
        let branches = (0..count)
            .map(|i| {
                let (prompt, branch) = (i / limits.branches, i % limits.branches);
                let (rng, stop) = make(prompt, branch);
                let start = tokens.len() + i * limits.max_new_tokens;
                Branch { prompt, start, tokens: Vec::new(), rng, stop, done: false }
            })
            .collect();
        Ok((Self { cache, prompts: ranges, branches }, logits))
    }

    /// Feeds each live branch's last token; leaves the logits behind it in `logits`.
    fn decode(&mut self, policy: Policy<'_>, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        let model = policy.model;
        let (mut tokens, mut positions, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let mut plan = AttentionPlan::default();
        for branch in self.branches.iter().filter(|b| !b.done) {
            let prompt = &self.prompts[branch.prompt];
            let last = branch.tokens.len() - 1;
            tokens.push(branch.tokens[last]);
            positions.push((prompt.len() + last) as u32);
            slots.push(branch.start + last);
            let own = branch.start..branch.start + branch.tokens.len();
            let seen = vec![prompt.clone(), own];
            plan.segments.push(Segment { rows: 1, seen, own: None });
        }
        let keys = Keys::Cache { cache: &mut self.cache, slots: &slots };
        let rows = model.rows(&positions, plan);
        let hidden = model.hidden(&tokens, &rows, keys, policy.lora, policy.interrupt)?;
        let all: Vec<usize> = (0..tokens.len()).collect();
        Ok(with_values(&hidden, |hidden| head(model, hidden, &all, logits))?)
    }

    /// Adds a token to each live branch. `logits` has a row for each live branch or, at the
    /// `first` token, for each prompt.
    fn sample(
        &mut self,
        logits: &mut Vec<f32>,
        limits: Limits,
        first: bool,
    ) -> Result<(), ModelError> {
        let vocabulary = logits.len() / self.rows(first).max(1);
        if first {
            let per_branch = self.branches.iter().map(|b| b.prompt * vocabulary);
            *logits = per_branch.flat_map(|at| logits[at..at + vocabulary].to_vec()).collect();
        }
        let live: Vec<&mut Branch<S>> = self.branches.iter_mut().filter(|b| !b.done).collect();
        let sound = logits
            .par_chunks_exact_mut(vocabulary)
            .zip(live)
            .map(|(logits, branch)| {
                let Some(token) = pick(logits, limits.pick, &mut branch.rng) else { return false };
                branch.tokens.push(token);
                branch.done =
                    branch.stop.push(token) || branch.tokens.len() >= limits.max_new_tokens;
                true
            })
            .reduce(|| true, |a, b| a && b);
        if sound { Ok(()) } else { Err(ModelError::NonFinite { what: "logits" }) }
    }

    fn rows(&self, first: bool) -> usize {
        match first {
            true => self.prompts.len(),
            false => self.branches.iter().filter(|b| !b.done).count(),
        }
    }
}

/// Logits of some rows of hidden states, into `logits: [rows, vocabulary]`.
fn head(model: &Transformer, hidden: &[f32], rows: &[usize], logits: &mut Vec<f32>) {
    let (weight, width) = (model.head(), model.spec.hidden);
    let chosen: Vec<f32> =
        rows.iter().flat_map(|r| &hidden[r * width..(r + 1) * width]).copied().collect();
    logits.clear();
    logits.resize(rows.len() * weight.rows(), 0.0);
    weight.matmul(model.compute, &chosen, rows.len(), logits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves_of(lengths: &[usize], at_once: usize) -> Vec<Range<usize>> {
        waves(&lengths.iter().map(|n| vec![0; *n]).collect::<Vec<_>>(), at_once)
    }

    #[test]
    fn a_wave_holds_so_many_prompts() {
        assert_eq!(waves_of(&[5; 5], 2), [0..2, 2..4, 4..5]);
        assert!(waves_of(&[], 2).is_empty());
    }

    #[test]
    fn a_wave_holds_so_many_tokens_but_at_least_one_prompt() {
        let half = PREFILL_TOKENS / 2;

        assert_eq!(waves_of(&[half, half, 1, half], 8), [0..2, 2..4]);
        assert_eq!(waves_of(&[1, 2 * PREFILL_TOKENS, 1, 1], 8), [0..1, 1..2, 2..4]);
    }
}
