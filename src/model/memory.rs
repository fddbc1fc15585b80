//! How much memory training will take, predicted from a file's header before anything is loaded.
//!
//! A plain formula over plain numbers; it allocates nothing and asks the machine nothing.

use serde::Serialize;

use super::lora::Target;
use super::spec::ModelSpec;

/// The settings that decide how much memory training takes.
#[derive(Debug, Clone)]
pub struct MemorySettings {
    /// Rank of the adapter.
    pub rank: usize,
    /// The layers it adapts.
    pub targets: Vec<Target>,
    /// Rationales per prompt.
    pub k: usize,
    /// Prompts whose rationales are sampled together. Training takes one prompt at a time.
    pub prompts: usize,
    /// Length of a prompt, tokens.
    pub prompt_tokens: usize,
    /// Longest rationale, tokens.
    pub new_tokens: usize,
    /// Length of an answer, tokens.
    pub answer_tokens: usize,
}

/// The predicted memory, in bytes by use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The program itself, its threads' stacks, tokenizer and tasks.
    pub program: u64,
    /// The frozen weights, packed.
    pub weights: u64,
    /// The LoRA factors, f32.
    pub adapter: u64,
    /// Their gradient and the optimiser's two moments, f32.
    pub optimizer: u64,
    /// Sampling: keys and values of prompts and rationales, f32.
    pub kv_cache: u64,
    /// Sampling: one row of logits per branch.
    pub sampling_logits: u64,
    /// Training: the input of every block, and the graph of one block.
    pub activations: u64,
    /// Training: one chunk of rows of logits and their gradient.
    pub head: u64,
    /// The peak: what is always there, and the larger of sampling and training, which take turns.
    pub total: u64,
}

const F32: u128 = 4;
/// Program, allocator and tokenizer, measured on small models.
const PROGRAM: u128 = 48 << 20;
/// Packed weights against the tensors in the file, in percent.
const PACKED_PERCENT: u128 = 105;
/// Intermediate results that live beside a block's graph while it is run backwards, in percent.
const GRAPH_PERCENT: u128 = 150;
/// Rows whose logits exist at the same time in training.
const HEAD_ROWS: u128 = 128;

impl MemoryPlan {
    /// Predicts the peak of training a model whose tensors take `tensor_bytes` in its file.
    #[must_use]
    pub fn predict(spec: &ModelSpec, tensor_bytes: u64, settings: &MemorySettings) -> Self {
        // Nobody has room for 2^28 branches, tokens or ranks. With that bound, and those that
        // ModelSpec keeps, no product reaches 2^128.
        let n = |x: usize| (x as u128).min(1 << 28);
        let (layers, hidden, ffn, vocab) =
            (n(spec.layers), n(spec.hidden), n(spec.ffn), n(spec.vocab));
        let (heads, kv_heads, head_dim) = (n(spec.heads), n(spec.kv_heads), n(spec.head_dim));
        let (k, prompts) = (n(settings.k), n(settings.prompts));
        let (prompt, new) = (n(settings.prompt_tokens), n(settings.new_tokens));

        let per_layer: u128 = settings
            .targets
            .iter()
            .map(|&t| spec.target_dims(t))
            .map(|(out, input)| n(settings.rank) * (n(out) + n(input)))
            .sum();
        let adapter = layers * per_layer * F32;
        let slots = prompts * (prompt + k * new);
        let tree = prompt + k * (new + n(settings.answer_tokens));
        let graph = tree * (8 * hidden + 6 * ffn + 4 * (heads + 2 * kv_heads) * head_dim) * F32;

        let plan = Self {
            program: bytes(PROGRAM),
            weights: bytes(u128::from(tensor_bytes) * PACKED_PERCENT / 100),
            adapter: bytes(adapter),
            optimizer: bytes(3 * adapter),
            kv_cache: bytes(layers * 2 * kv_heads * head_dim * F32 * slots),
            sampling_logits: bytes(prompts * k * vocab * F32),
            activations: bytes(layers * tree * hidden * F32 + graph * GRAPH_PERCENT / 100),
            head: bytes(2 * HEAD_ROWS.min(tree) * vocab * F32),
            total: 0,
        };
        Self { total: plan.peak(), ..plan }
    }

    fn peak(&self) -> u64 {
        let sampling = self.kv_cache.saturating_add(self.sampling_logits);
        let training = self.activations.saturating_add(self.head);
        [self.program, self.weights, self.adapter, self.optimizer]
            .into_iter()
            .fold(sampling.max(training), u64::saturating_add)
    }
}

fn bytes(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::{Architecture, Rope, RopeStyle};
    use super::*;

    /// The numbers of SmolLM2-135M.
    fn smollm2() -> ModelSpec {
        ModelSpec {
            architecture: Architecture::Llama,
            layers: 30,
            hidden: 576,
            ffn: 1536,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            vocab: 49152,
            context_length: 8192,
            rms_eps: 1e-5,
            rope: Rope {
                style: RopeStyle::Interleaved,
                base: 1e5,
                dim: 64,
                linear_factor: 1.0,
                has_factors: false,
            },
            tied_embeddings: true,
            permuted_qk: true,
        }
    }

    fn settings() -> MemorySettings {
        MemorySettings {
            rank: 16,
            targets: Target::ALL.to_vec(),
            k: 8,
            prompts: 2,
            prompt_tokens: 76,
            new_tokens: 128,
            answer_tokens: 10,
        }
    }

    #[test]
    fn each_part_is_what_one_counts_by_hand() {
        let plan = MemoryPlan::predict(&smollm2(), 96_000_000, &settings());

        assert_eq!(plan.weights, 100_800_000);
        // Per layer and rank: q and o 576+576 each, k and v 192+576 each, the FFN's three 576+1536.
        let parameters = 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112);
        assert_eq!(plan.adapter, parameters * 4);
        assert_eq!(plan.optimizer, parameters * 4 * 3);
        // k and v of 30 layers, 192 wide, for two prompts of 76 and their 8 branches of 128.
        assert_eq!(plan.kv_cache, 30 * 2 * 192 * 4 * 2 * (76 + 8 * 128));
        assert_eq!(plan.sampling_logits, 16 * 49152 * 4);
        assert_eq!(plan.head, 2 * 128 * 49152 * 4);
        let rest = plan.activations + plan.head;
        assert_eq!(plan.total, plan.program + plan.weights + plan.adapter + plan.optimizer + rest);
        assert!(plan.total < 1 << 30, "SmolLM2 trains in less than 1 GiB: {}", plan.total);
    }

    #[test]
    fn fewer_targets_take_a_smaller_adapter() {
        let few = MemorySettings { targets: vec![Target::Q, Target::V], ..settings() };
        let (few, all) = (
            MemoryPlan::predict(&smollm2(), 0, &few),
            MemoryPlan::predict(&smollm2(), 0, &settings()),
        );
        assert_eq!(few.adapter, 30 * 16 * (1152 + 768) * 4);
        assert!(few.total < all.total);
    }

    proptest! {
        /// Every setting counts, and none can make the sum wrap around.
        #[test]
        fn more_of_anything_never_takes_less(
            a in prop::array::uniform6(any::<usize>()),
            b in prop::array::uniform6(any::<usize>()),
        ) {
            let plan = |v: [usize; 6]| {
                let [rank, k, prompts, prompt_tokens, new_tokens, answer_tokens] = v;
                let targets = Target::ALL.to_vec();
                let settings = MemorySettings {
                    rank, targets, k, prompts, prompt_tokens, new_tokens, answer_tokens,
                };
                MemoryPlan::predict(&smollm2(), 1 << 40, &settings)
            };
            let larger = std::array::from_fn(|i| a[i].max(b[i]));
            prop_assert!(plan(a).total <= plan(larger).total);
            prop_assert!(plan(a).total >= 1 << 40);
        }
    }
}
