//! How much memory training will take, predicted from a file's header before anything is loaded, and
//! the settings with which it fits into a limit.
//!
//! Sums over the sizes that the parts themselves state for their buffers; it allocates nothing and
//! asks the machine nothing. `benches/memory.rs` compares it with what a process takes.

use serde::Serialize;

use super::error::mib;
use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::engine::cpu::Trace;
use crate::engine::cpu::adapter::PackedAdapter;
use crate::engine::cpu::kv_cache::KvCache;
use crate::engine::cpu::scratch::PassSize;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::kernels::{Compute, float_bytes};
use crate::latro::sampling::generate::{Limits, Places};
use crate::latro::sampling::rollouts::longest_continuation;
use crate::latro::sampling::sampler::Pick;
use crate::latro::settings::{Method, TrainSettings};
use crate::ops::attention::HeadShape;
use crate::ops::key_values::aligned;

/// The settings that decide how much memory training takes.
#[derive(Debug, Clone)]
pub struct MemorySettings {
    /// Rank of the adapter.
    pub rank: usize,
    /// The layers it adapts.
    pub targets: Vec<Target>,
    /// Rationales per prompt.
    pub num_generations: usize,
    /// Prompts in a step. Training takes one at a time.
    pub prompts_per_step: usize,
    /// Rationales that are sampled together, over all prompts; 0 if none are sampled.
    pub batch: usize,
    /// Held-out questions that are asked together, one rationale each; 0 if none are.
    pub questions: usize,
    /// Length of a prompt, tokens.
    pub prompt_tokens: usize,
    /// Longest rationale or response to a question, tokens.
    pub new_tokens: usize,
    /// Length of an answer with its phrase, tokens.
    pub answer_tokens: usize,
    /// How rows are cut.
    pub row_chunks: RowChunks,
    /// Threads that compute.
    pub threads: usize,
    pub compute: Compute,
}

/// The predicted memory, in bytes by use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryPlan {
    /// The program itself, its threads, tokenizer and tasks.
    pub program: u64,
    /// The frozen weights, packed.
    pub weights: u64,
    /// While loading: the tensor that is being packed, as far as later weights take less.
    pub loading: u64,
    /// The LoRA factors, f32, and a packed copy.
    pub adapter: u64,
    /// The optimizer's two moments, f32.
    pub optimizer: u64,
    /// Sampling: keys and values of prompts and rationales.
    pub kv_cache: u64,
    /// Sampling: a row of logits for each rationale, and the values of a pass.
    pub sampling_pass: u64,
    /// Training: the gradient of the LoRA factors, f32.
    pub gradients: u64,
    /// Training: the input of every block.
    pub activations: u64,
    /// Training: the values of one block and their gradients.
    pub block: u64,
    /// Training: some rows of logits, and what the head adds to the gradient. Takes turns with
    /// `block`.
    pub head: u64,
    /// The peak: what is always there, and the largest of sampling and training, which take turns.
    pub total: u64,
}

/// The program, its libraries and allocator, measured.
const PROGRAM: u64 = 8 << 20;
/// A token of the vocabulary in header and tokenizer, measured: names, merges, hash tables.
const TOKEN: u64 = 520;
/// A thread's stack and the buffers of kernels and of attention, forwards and backwards.
const THREAD: u64 = 4 << 20;
/// Nobody has room for so many branches, tokens or ranks: no sum below goes beyond 64 bits.
const MOST: usize = 1 << 24;

impl MemoryPlan {
    /// Predicts the peak of training a model with these weights.
    #[must_use]
    pub fn predict(spec: &ModelSpec, weights: &WeightBytes, settings: &MemorySettings) -> Self {
        let s = &settings.bounded();
        let per_rank: usize =
            s.targets.iter().map(|&t| spec.target_dims(t)).map(|(o, i)| o + i).sum();
        let factors = float_bytes(&[spec.layers, s.rank, per_rank]);
        let (kv_cache, sampling_pass) = sampling(spec, s);
        let Training { activations, block, head } = training(spec, s);
        let plan = Self {
            program: sum([PROGRAM, TOKEN * spec.vocab as u64, THREAD * s.threads as u64]),
            weights: weights.resident,
            loading: weights.loading.saturating_sub(weights.resident),
            adapter: sum([factors, PackedAdapter::bytes(spec, s.rank, &s.targets)]),
            optimizer: sum([factors, factors]),
            kv_cache,
            sampling_pass,
            gradients: factors,
            activations,
            block,
            head,
            total: 0,
        };
        let learned = sum([plan.adapter, plan.optimizer]);
        let most = plan.loading.max(sum([learned, plan.sampling().max(plan.training())]));
        Self { total: sum([plan.program, plan.weights, most]), ..plan }
    }

    /// What memory will be used for, where `batch` rationales are sampled together.
    #[must_use]
    pub fn sentence(&self, batch: usize, row_chunks: RowChunks) -> String {
        let RowChunks { rows, head_rows } = row_chunks;
        format!(
            "memory: {} MiB at most (weights {}, sampling {}, training {}); {batch} rationales \
             together, pieces of {rows} rows, {head_rows} of logits",
            mib(self.total),
            mib(self.weights),
            mib(self.sampling()),
            mib(self.training()),
        )
    }

    /// What sampling takes beside what is always there.
    #[must_use]
    pub fn sampling(&self) -> u64 {
        sum([self.kv_cache, self.sampling_pass])
    }

    /// What training takes beside what is always there.
    #[must_use]
    pub fn training(&self) -> u64 {
        sum([self.gradients, self.activations, self.block.max(self.head)])
    }
}

impl MemorySettings {
    /// For a run with these settings that samples `batch` rationales together, on questions of at most
    /// so many tokens.
    #[must_use]
    pub fn of_run(
        s: &TrainSettings,
        batch: usize,
        (prompt_tokens, answer_tokens): (usize, usize),
        (threads, compute): (usize, Compute),
    ) -> Self {
        let latro = s.method.samples();
        Self {
            rank: s.rank,
            targets: s.target_modules.clone(),
            num_generations: if latro { s.num_generations } else { 1 },
            prompts_per_step: s.prompts_per_step,
            batch: if latro { batch } else { 0 },
            questions: 0,
            prompt_tokens,
            new_tokens: s.max_new_tokens,
            answer_tokens: match s.method {
                Method::SftRationale => answer_tokens.saturating_add(s.max_new_tokens),
                _ => answer_tokens,
            },
            row_chunks: RowChunks::default(),
            threads,
            compute,
        }
    }

    fn bounded(&self) -> Self {
        let n = |x: usize| x.min(MOST);
        Self {
            rank: n(self.rank),
            targets: self.targets.clone(),
            num_generations: n(self.num_generations),
            prompts_per_step: n(self.prompts_per_step),
            batch: n(self.batch),
            questions: n(self.questions),
            prompt_tokens: n(self.prompt_tokens),
            new_tokens: n(self.new_tokens),
            answer_tokens: n(self.answer_tokens),
            row_chunks: self.row_chunks,
            threads: n(self.threads),
            compute: self.compute,
        }
    }

    /// The most ranks of layers that share their input.
    fn ranks(&self, spec: &ModelSpec) -> usize {
        let adapted = |group: &[Target]| group.iter().filter(|t| self.targets.contains(t)).count();
        spec.block().groups().map(adapted).max().unwrap_or(0) * self.rank
    }
}

/// The larger of sampling for a step and of asking questions: cache, and the rest.
fn sampling(spec: &ModelSpec, s: &MemorySettings) -> (u64, u64) {
    let longest = s.prompt_tokens;
    let of = |prompts: usize, branches: usize, batch: usize, continuation: usize| {
        let pick = Pick::Greedy;
        let limits = Limits { branches, max_new_tokens: s.new_tokens, batch, continuation, pick };
        let places = Places::new(prompts, longest, &limits);
        let rows = places.rows(longest);
        let scored = places.scored_rows.min(s.row_chunks.head_rows);
        let pass = PassSize { rows, slots: 0, ranks: s.ranks(spec), row_chunks: s.row_chunks };
        // Two hidden states a row, before and behind the output norm, and the logits of open prompts.
        let rest = sum([
            pass.forward_bytes(spec),
            float_bytes(&[2, rows, spec.hidden]),
            float_bytes(&[places.branches + places.prompts + scored, spec.vocab]),
        ]);
        (KvCache::bytes(spec.layers, HeadShape::from(spec), places.slots(), s.compute), rest)
    };
    let continuation = longest_continuation(s.answer_tokens);
    let steps =
        (s.batch > 0).then(|| of(s.prompts_per_step, s.num_generations, s.batch, continuation));
    let asked = (s.questions > 0).then(|| of(s.questions, 1, s.questions, continuation));
    [steps, asked]
        .into_iter()
        .flatten()
        .max_by_key(|(kv, rest)| sum([*kv, *rest]))
        .unwrap_or((0, 0))
}

struct Training {
    activations: u64,
    block: u64,
    head: u64,
}

fn training(spec: &ModelSpec, s: &MemorySettings) -> Training {
    let written = if s.batch > 0 { s.new_tokens } else { 0 };
    let targets = s.num_generations * (written + s.answer_tokens);
    let inputs = (written + s.answer_tokens).saturating_sub(1);
    let rows = s.prompt_tokens + s.num_generations * inputs;
    let slots = aligned(s.prompt_tokens) + s.num_generations * aligned(inputs);
    let policy = PassSize { rows, slots, ranks: s.ranks(spec), row_chunks: s.row_chunks };
    let reference = PassSize { ranks: 0, ..policy };
    let states = |n: usize| float_bytes(&[n, rows, spec.hidden]);
    let at_targets = |n: usize| float_bytes(&[n, targets, spec.hidden]);
    let logits = float_bytes(&[s.row_chunks.head_rows.min(targets), spec.vocab]);
    // The reference runs while the policy's pass waits with its inputs and its gradient at the head:
    // two hidden states a row beside the pass, then one beside the predicting rows and the logits.
    let passing = sum([at_targets(1), states(2), reference.forward_bytes(spec)]);
    let scoring = sum([states(1), at_targets(2), logits]);
    Training {
        activations: Trace::bytes(spec, rows, s.compute),
        block: passing.max(sum([policy.forward_bytes(spec), policy.backward_bytes(spec)])),
        head: scoring,
    }
}

fn sum<const N: usize>(bytes: [u64; N]) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arch::FAMILIES;
    use crate::arch::spec::Rope;

    const F32: u64 = 4;

    /// The numbers of SmolLM2-135M.
    fn smollm2() -> ModelSpec {
        ModelSpec {
            family: FAMILIES[0],
            layers: 30,
            hidden: 576,
            ffn: 1536,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            vocab: 49152,
            context_length: 8192,
            rms_eps: 1e-5,
            rope: Rope { base: 1e5, dim: 64, linear_factor: 1.0, has_factors: false },
            tied_embeddings: true,
        }
    }

    fn weights() -> WeightBytes {
        WeightBytes { resident: 96_000_000, loading: 97_000_000 }
    }

    /// One prompt of 76 tokens with 8 rationales of 128.
    fn settings() -> MemorySettings {
        let run = TrainSettings {
            rank: 16,
            num_generations: 8,
            prompts_per_step: 1,
            max_new_tokens: 128,
            target_modules: Target::ALL.to_vec(),
            ..TrainSettings::edge()
        };
        MemorySettings::of_run(&run, 64, (76, 10), (2, Compute::Exact))
    }

    #[test]
    fn what_is_always_there_is_what_one_counts_by_hand() {
        let plan = MemoryPlan::predict(&smollm2(), &weights(), &settings());

        // Per layer and rank: q and o 576+576 each, k and v 192+576 each, the FFN's three 576+1536.
        let factors = 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112) * F32;
        // Packed: A of q, k and v together has 48 rows, filled up to 64, the others' 32, as do their
        // 32 or 16; B as it is, since all outputs are multiples of 32.
        let a = 64 * 576 + 32 * 576 + 32 * 576 + 32 * 1536;
        let b = 16 * (3 * 576 + 2 * 192 + 2 * 1536);
        assert_eq!(plan.adapter, factors + 30 * (a + b) * F32);
        assert_eq!((plan.optimizer, plan.gradients), (2 * factors, factors));
        assert_eq!((plan.weights, plan.loading), (96_000_000, 1_000_000));
        let always = plan.program + plan.weights + plan.adapter + plan.optimizer;
        assert_eq!(plan.total, always + plan.sampling().max(plan.training()));
        assert!(plan.total < 1 << 29, "SmolLM2 trains in less than 512 MiB: {}", plan.total);
    }

    #[test]
    fn sampling_is_what_one_counts_by_hand() {
        let plan = MemoryPlan::predict(&smollm2(), &weights(), &settings());

        // Keys and values of 30 layers, 192 wide, for the prompt, filled up to 96, and 8 of 128 and the
        // 26 of an answer, filled up to 160.
        assert_eq!(plan.kv_cache, 30 * 2 * 192 * (96 + 8 * 160) * F32);
        // 8 + 76 rows and 32 of answers: q and its result, twice, 576, k and v 192, 64 of the rotation, two
        // hidden states; and in their one piece two of the width 576, two of 1536, 48 of x·Aᵀ. 8 + 1 rows
        // of logits, and those of the answers.
        let pass = 116 * (3 * 576 + 2 * 192 + 64 + 2 * 576) + 116 * (2 * 576 + 2 * 1536 + 48);
        assert_eq!(plan.sampling_pass, (pass + (9 + 32) * 49152) * F32);

        let one = MemorySettings { batch: 1, ..settings() };
        let one = MemoryPlan::predict(&smollm2(), &weights(), &one);
        assert_eq!(one.kv_cache, 30 * 2 * 192 * (96 + 160) * F32);
    }

    #[test]
    fn training_is_what_one_counts_by_hand() {
        let plan = MemoryPlan::predict(&smollm2(), &weights(), &settings());

        // The prompt, and 8 branches of 128 + 10 tokens whose last is only predicted: 1172 rows in 5
        // pieces of at most 235, 8 * 138 targets; slots are filled up to 96 and 160.
        let (rows, targets, slots, piece) = (76 + 8 * 137, 8 * 138, 96 + 8 * 160, 235);
        assert_eq!(plan.activations, 31 * rows * 576 * F32);
        let forward =
            rows * (3 * 576 + 2 * 192 + 64) + piece * (2 * 576 + 2 * 1536 + 48) + 2 * 192 * slots;
        // Gradients of attention's result, keys and values; of a piece the residual stream and the
        // gradients of normed rows and of the gated value; keys and values in both orders; four copies
        // of their gradients.
        let backward =
            rows * (576 + 2 * 192) + piece * (576 + 576 + 1536 + 2 * 48) + (4 + 8) * 192 * slots;
        assert_eq!(plan.block, (forward + backward) * F32);
        assert_eq!(plan.head, (rows * 576 + 2 * targets * 576 + 128 * 49152) * F32);
    }

    #[test]
    fn fast_training_keeps_inputs_of_blocks_in_half_precision() {
        let settings = MemorySettings { compute: Compute::Fast, ..settings() };
        let plan = MemoryPlan::predict(&smollm2(), &weights(), &settings);

        let rows = 76 + 8 * 137;
        assert_eq!(plan.activations, rows * 576 * (30 * 2 + F32));
    }

    #[test]
    fn smaller_pieces_and_fewer_targets_take_less() {
        let all = MemoryPlan::predict(&smollm2(), &weights(), &settings());
        let row_chunks = RowChunks { rows: 64, head_rows: 16 };
        let small = MemorySettings { row_chunks, ..settings() };
        let small = MemoryPlan::predict(&smollm2(), &weights(), &small);
        let few = MemorySettings { targets: vec![Target::Q, Target::V], ..settings() };
        let few = MemoryPlan::predict(&smollm2(), &weights(), &few);

        assert_eq!(all.head - small.head, (128 - 16) * 49152 * F32);
        assert!(small.block < all.block);
        assert_eq!(few.gradients, 30 * 16 * (1152 + 768) * F32);
        assert!(few.total < all.total);
    }

    #[test]
    fn training_on_answers_alone_samples_nothing() {
        let run = TrainSettings { method: Method::Sft, ..TrainSettings::edge() };
        let settings = MemorySettings::of_run(&run, 64, (76, 10), (2, Compute::Exact));
        let asking = MemorySettings { questions: 5, ..settings.clone() };

        assert_eq!(MemoryPlan::predict(&smollm2(), &weights(), &settings).sampling(), 0);
        // 5 questions of 76 tokens, and as many responses of 400 with an answer behind them.
        let asked = MemoryPlan::predict(&smollm2(), &weights(), &asking).kv_cache;
        assert_eq!(asked, 30 * 2 * 192 * (5 * 96 + 5 * 448) * F32);
    }

    #[test]
    fn a_fast_cache_takes_half() {
        let plan = |compute| {
            MemoryPlan::predict(&smollm2(), &weights(), &MemorySettings { compute, ..settings() })
        };
        assert_eq!(plan(Compute::Fast).kv_cache * 2, plan(Compute::Exact).kv_cache);
    }

    proptest! {
        /// Every setting counts, and none can make the sum wrap around.
        #[test]
        fn more_of_anything_never_takes_less(
            a in prop::array::uniform7(any::<usize>()),
            b in prop::array::uniform7(any::<usize>()),
        ) {
            let plan = |v: [usize; 7]| {
                let [rank, num_generations, batch, prompts_per_step, prompt_tokens, new_tokens, answer_tokens] = v;
                let settings = MemorySettings {
                    rank, num_generations, prompts_per_step, batch, prompt_tokens, new_tokens, answer_tokens, ..settings()
                };
                MemoryPlan::predict(&smollm2(), &weights(), &settings)
            };
            let larger = std::array::from_fn(|i| a[i].max(b[i]));
            prop_assert!(plan(a).total <= plan(larger).total);
            prop_assert!(plan(a).total >= weights().resident);
        }
    }
}
