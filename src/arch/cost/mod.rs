//! What a pass costs at least: multiply-adds by kind, and bytes that must be read.
//!
//! Pure formulas over plain numbers, for judging measured times: a time below [`Cost::seconds`] is
//! impossible, and one far above says that there is something to gain. Norms, rotations, softmax,
//! sampling and the optimizer are left out; beside the products they are nothing.

use serde::Serialize;

use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::gguf::GgufFile;
use crate::kernels::Compute;

/// Bytes of a key's or value's number in the cache: f32.
pub const KV_NUMBER_BYTES: u64 = 4;

/// The parts of a model that its passes cost: numbers from [`ModelSpec`], bytes from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostModel {
    layers: u64,
    /// Frozen weights of one block that `Compute::Fast` multiplies in int8.
    projections: u64,
    /// Frozen weights of one block's K and V, which are always multiplied exactly.
    keys_values: u64,
    /// LoRA parameters of one block.
    lora: u64,
    /// Width of a row of queries.
    q_width: u64,
    /// Width of a row of keys.
    kv_width: u64,
    /// Weights of the head.
    head: u64,
    bytes: WeightBytes,
}

/// Bytes of the weights as packed, which is as in the file to within a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WeightBytes {
    /// The linear weights of all blocks.
    pub blocks: u64,
    /// The head's weight.
    pub head: u64,
}

impl WeightBytes {
    /// Adds up a file's tensors; one of unknown size counts nothing.
    #[must_use]
    pub fn of(file: &GgufFile, spec: &ModelSpec) -> Self {
        let head = if spec.tied_embeddings { "token_embd.weight" } else { "output.weight" };
        let bytes = |wanted: &dyn Fn(&str) -> bool| {
            let tensors = file.tensors().iter().filter(|t| wanted(&t.name));
            tensors.filter_map(crate::gguf::TensorInfo::bytes).sum()
        };
        Self {
            blocks: bytes(&|name| name.starts_with("blk.") && !name.contains("norm")),
            head: bytes(&|name| name == head),
        }
    }
}

/// The adapter that passes carry along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostAdapter<'a> {
    pub rank: usize,
    pub targets: &'a [Target],
}

/// The lengths of a tree: a prompt and its branches (`latro::tree`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TreeSize {
    /// Tokens of the prompt.
    pub prompt: usize,
    pub branches: usize,
    /// Tokens of each rationale.
    pub new: usize,
    /// Tokens of the answer.
    pub answer: usize,
}

impl TreeSize {
    /// Rows of one branch: its last token is predicted but not fed.
    const fn branch(self) -> u64 {
        (self.new + self.answer).saturating_sub(1) as u64
    }

    /// Rows of the whole tree.
    #[must_use]
    pub const fn rows(self) -> u64 {
        self.prompt as u64 + self.branches as u64 * self.branch()
    }

    /// Predicted tokens, each a row of the head.
    #[must_use]
    pub const fn predictions(self) -> u64 {
        (self.branches * (self.new + self.answer)) as u64
    }

    /// How many (row, key) pairs see each other.
    const fn pairs(self) -> u64 {
        let (prompt, branch) = (self.prompt as u64, self.branch());
        triangle(prompt) + self.branches as u64 * (branch * prompt + triangle(branch))
    }
}

/// Multiply-adds by what they belong to, and bytes read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// With the blocks' frozen weights, K and V aside: int8 in `Compute::Fast`.
    pub projections: u64,
    /// With K's and V's frozen weights, never rounded.
    pub keys_values: u64,
    /// With the transposed frozen weights, for gradients; never rounded.
    pub input_gradients: u64,
    /// With LoRA's factors, and for their gradients.
    pub lora: u64,
    /// Scores and weighted sums of attention, and their gradients.
    pub attention: u64,
    /// Logits: int8 in `Compute::Fast`.
    pub head: u64,
    /// With the transposed head, for the gradient of the hidden states; never rounded.
    pub head_gradients: u64,
    /// Packed weights read.
    pub weight_bytes: u64,
    /// Keys and values read from the cache, or written to it.
    pub kv_bytes: u64,
}

/// What a machine can do, in 1e9 a second with all threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MachineRates {
    /// Operations in f32, two a multiply-add.
    pub float: f64,
    /// Operations in int8.
    pub int8: f64,
    /// Bytes read from the last-level cache.
    pub cache: f64,
    /// Bytes read from main memory.
    pub memory: f64,
    /// What the cache holds from pass to pass at best, in bytes (not billions).
    pub cache_bytes: f64,
}

impl Cost {
    /// Multiply-adds in int8 and in f32.
    #[must_use]
    pub const fn products(&self, compute: Compute) -> (u64, u64) {
        let exact = self.keys_values
            + self.input_gradients
            + self.lora
            + self.attention
            + self.head_gradients;
        let either = self.projections + self.head;
        match compute {
            Compute::Exact => (0, exact + either),
            Compute::Fast => (either, exact),
        }
    }

    /// The time, in seconds, that the pass cannot be faster than: that of its operations or that of
    /// its bytes, whichever is longer, as if nothing else took time and both overlapped fully.
    #[must_use]
    pub fn seconds(&self, compute: Compute, rates: &MachineRates) -> f64 {
        let (int8, float) = self.products(compute);
        let products = 2.0 * (int8 as f64 / rates.int8 + float as f64 / rates.float);
        let bytes = (self.weight_bytes + self.kv_bytes) as f64;
        let bandwidth = if bytes <= rates.cache_bytes { rates.cache } else { rates.memory };
        products.max(bytes / bandwidth) * 1e-9
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            projections: self.projections + other.projections,
            keys_values: self.keys_values + other.keys_values,
            input_gradients: self.input_gradients + other.input_gradients,
            lora: self.lora + other.lora,
            attention: self.attention + other.attention,
            head: self.head + other.head,
            head_gradients: self.head_gradients + other.head_gradients,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
        }
    }
}

impl CostModel {
    /// The model `spec` whose weights take `bytes`, with an `adapter` or without.
    #[must_use]
    pub fn new(spec: &ModelSpec, bytes: WeightBytes, adapter: Option<CostAdapter<'_>>) -> Self {
        let n = |x: usize| x as u64;
        let weights = |wanted: &dyn Fn(Target) -> bool| -> u64 {
            let dims = spec.targets().filter(|t| wanted(*t)).map(|t| spec.target_dims(t));
            dims.map(|(out, input)| n(out) * n(input)).sum()
        };
        let keys_values = weights(&Target::is_exact);
        let lora = adapter.map_or(0, |adapter| {
            let dims = adapter.targets.iter().map(|&t| spec.target_dims(t));
            dims.map(|(out, input)| n(adapter.rank) * (n(out) + n(input))).sum()
        });
        Self {
            layers: n(spec.layers),
            projections: weights(&|target| !target.is_exact()),
            keys_values,
            lora,
            q_width: n(spec.heads) * n(spec.head_dim),
            kv_width: n(spec.kv_heads) * n(spec.head_dim),
            head: n(spec.vocab) * n(spec.hidden),
            bytes,
        }
    }

    /// One step of decoding: each of some branches feeds a token, which sees a `prompt` that all
    /// share and `own` tokens of its branch, itself among them; and gives its logits.
    #[must_use]
    pub fn decode(&self, branches: usize, prompt: usize, own: usize) -> Cost {
        let (rows, prompt, own) = (branches as u64, prompt as u64, own as u64);
        let kv_bytes = self.kv_bytes(prompt + rows * own);
        let pairs = rows * (prompt + own);
        Cost { kv_bytes, ..self.forward(rows, pairs) } + self.head(rows, false)
    }

    /// A prompt of `n` tokens from nothing, its keys and values kept, and the logits after it.
    #[must_use]
    pub fn prefill(&self, n: usize) -> Cost {
        let n = n as u64;
        Cost { kv_bytes: self.kv_bytes(n), ..self.forward(n, triangle(n)) } + self.head(1, false)
    }

    /// Sampling: the prompt, then a step for each further token of the branches, one by one; their
    /// costs stay apart because each step has its own least time. The last token is never fed.
    pub fn rollout(&self, size: TreeSize) -> impl Iterator<Item = Cost> {
        let steps = 1..size.new;
        let decode = move |own| self.decode(size.branches, size.prompt, own);
        std::iter::once(self.prefill(size.prompt)).chain(steps.map(decode))
    }

    /// All blocks over a tree, forward; the head is apart ([`Self::head`]).
    #[must_use]
    pub fn tree_forward(&self, size: TreeSize) -> Cost {
        self.forward(size.rows(), size.pairs())
    }

    /// All blocks over a tree, backward, from the inputs of the blocks: each is computed again, then
    /// come the gradients of its LoRA factors and of its input (of the lowest block's input too).
    ///
    /// Attention's gradients are four products of the size of its two: of V, of the weights, of Q
    /// and of K. LoRA's are twice its forward products: of both factors, and through both.
    #[must_use]
    pub fn tree_backward(&self, size: TreeSize) -> Cost {
        let again = self.tree_forward(size);
        Cost {
            input_gradients: again.projections + again.keys_values,
            lora: 3 * again.lora,
            attention: 3 * again.attention,
            weight_bytes: 2 * again.weight_bytes,
            ..again
        }
    }

    /// Logits of `rows` rows and, if asked for, the gradient of their hidden states.
    #[must_use]
    pub fn head(&self, rows: u64, with_gradient: bool) -> Cost {
        let passes = 1 + u64::from(with_gradient);
        Cost {
            head: rows * self.head,
            head_gradients: (passes - 1) * rows * self.head,
            weight_bytes: passes * self.bytes.head,
            ..Cost::default()
        }
    }

    /// All blocks on `rows` rows in which `pairs` (row, key) pairs see each other.
    fn forward(&self, rows: u64, pairs: u64) -> Cost {
        let rows = self.layers * rows;
        Cost {
            projections: rows * self.projections,
            keys_values: rows * self.keys_values,
            lora: rows * self.lora,
            attention: self.layers * 2 * pairs * self.q_width,
            weight_bytes: self.bytes.blocks,
            ..Cost::default()
        }
    }

    /// Bytes of so many tokens' keys and values in all layers.
    const fn kv_bytes(&self, tokens: u64) -> u64 {
        self.layers * 2 * self.kv_width * tokens * KV_NUMBER_BYTES
    }
}

/// 1 + 2 + … + n: the pairs of a sequence in which each token sees itself and those before.
const fn triangle(n: u64) -> u64 {
    n * (n + 1) / 2
}

#[cfg(test)]
mod tests;
