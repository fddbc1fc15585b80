//! The transformer: one implementation for sampling, scoring and training.
//!
//! It computes hidden states block by block and leaves the order of blocks to its callers, because
//! training runs them backwards. It knows nothing of prompts, rationales or rewards.

use std::sync::Arc;

use candle_core::Tensor;

use super::interrupt::Interrupt;
use super::kv_cache::KvCache;
use super::lora::Target;
use super::spec::ModelSpec;
use super::weights::{BlockWeights, Weights};
use super::{ModelError, gguf::GgufFile};
use crate::kernels::{Compute, PackedMatrix};
use crate::ops::attention::{AttentionPlan, HeadShape, attend, attention};
use crate::ops::linear::{LoraFactors, linear};
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::{Rotation, rope};
use crate::ops::swiglu::swiglu;
use crate::ops::{tensor, with_values};

/// The LoRA factors of one block, by target.
pub type BlockLora = [Option<LoraFactors>; Target::ALL.len()];

/// A loaded model.
#[derive(Debug)]
pub struct Transformer {
    pub spec: ModelSpec,
    /// How products with the frozen weights are computed.
    pub compute: Compute,
    weights: Weights,
    /// Radians a position, `[rope_dim / 2]`.
    frequencies: Vec<f32>,
}

/// What a pass over some rows needs beside their hidden states.
#[derive(Debug, Clone)]
pub struct Rows {
    pub rotation: Arc<Rotation>,
    pub plan: Arc<AttentionPlan>,
}

/// Where the keys and values that rows attend to come from.
pub enum Keys<'a> {
    /// From the rows of this pass alone; gradients flow through them.
    Pass,
    /// From a cache, in which the rows of this pass are stored first, each in its slot.
    Cache { cache: &'a mut KvCache, slots: &'a [usize] },
}

impl Transformer {
    /// Loads a model; its linear weights stay quantised in memory.
    ///
    /// # Errors
    /// If the architecture or a tensor is not supported, or the file cannot be read.
    pub fn load(file: &GgufFile, compute: Compute) -> Result<Self, ModelError> {
        let spec = ModelSpec::from_gguf(file)?;
        let weights = Weights::load(file, &spec)?;
        let frequencies = spec.rope.frequencies(weights.rope_factors.as_deref());
        Ok(Self { spec, compute, weights, frequencies })
    }

    /// The embeddings of `tokens`: `[tokens, hidden]`.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor, ModelError> {
        let (vocabulary, hidden) = (self.spec.vocab, self.spec.hidden);
        let mut out = vec![0.0; tokens.len() * hidden];
        for (&id, row) in tokens.iter().zip(out.chunks_exact_mut(hidden)) {
            if id as usize >= vocabulary {
                return Err(ModelError::Token { id, vocabulary });
            }
            self.weights.embedding.decode_row(id as usize, row);
        }
        Ok(tensor(out, (tokens.len(), hidden))?)
    }

    /// What a pass needs to know of rows at `positions` that see each other by `plan`.
    #[must_use]
    pub fn rows(&self, positions: &[u32], plan: AttentionPlan) -> Rows {
        let rotation = Rotation::new(self.spec.rope.style, &self.frequencies, positions);
        Rows { rotation: Arc::new(rotation), plan: Arc::new(plan) }
    }

    /// The number of blocks.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.weights.blocks.len()
    }

    /// Block `index` applied to `x: [rows, hidden]`, with LoRA if given.
    ///
    /// # Errors
    /// If the shapes of `x`, `rows` and `lora` don't fit together.
    pub fn block(
        &self,
        index: usize,
        x: &Tensor,
        rows: &Rows,
        keys: &mut Keys<'_>,
        lora: Option<&BlockLora>,
    ) -> Result<Tensor, ModelError> {
        let weights = &self.weights.blocks[index];
        let project = |x: &Tensor, target: Target| self.project(weights, x, target, lora);

        let h = rms_norm(x, &weights.attention_norm, self.spec.rms_eps)?;
        let a = self.attend(index, &h, weights, rows, keys, lora)?;
        let x = (x + project(&a, Target::O)?)?;

        let h = rms_norm(&x, &weights.ffn_norm, self.spec.rms_eps)?;
        let gated = swiglu(&project(&h, Target::Gate)?, &project(&h, Target::Up)?)?;
        Ok((&x + project(&gated, Target::Down)?)?)
    }

    fn project(
        &self,
        weights: &BlockWeights,
        x: &Tensor,
        target: Target,
        lora: Option<&BlockLora>,
    ) -> candle_core::Result<Tensor> {
        let lora = lora.and_then(|l| l[target as usize].as_ref());
        let compute = match target {
            // Few weights, many readers: on SmolLM2 these two cause 40 % of the error of `Fast` with
            // 6 % of a block's products.
            Target::K | Target::V => Compute::Exact,
            _ => self.compute,
        };
        linear(x, weights.linear(target), compute, lora)
    }

    fn attend(
        &self,
        index: usize,
        h: &Tensor,
        weights: &BlockWeights,
        rows: &Rows,
        keys: &mut Keys<'_>,
        lora: Option<&BlockLora>,
    ) -> Result<Tensor, ModelError> {
        let n = h.dim(0)?;
        let shape = self.head_shape();
        let HeadShape { heads, kv_heads, head_dim } = shape;
        let project = |target| self.project(weights, h, target, lora);
        let q = rope(&project(Target::Q)?.reshape((n, heads, head_dim))?, &rows.rotation)?;
        let k = rope(&project(Target::K)?.reshape((n, kv_heads, head_dim))?, &rows.rotation)?;
        let v = project(Target::V)?.reshape((n, kv_heads, head_dim))?;
        let out = match keys {
            Keys::Pass => attention(&q, &k, &v, &rows.plan)?,
            Keys::Cache { cache, slots } => {
                cache.store(index, slots, &k, &v)?;
                let (k, v) = cache.layer(index);
                let mut out = vec![0.0; q.elem_count()];
                with_values(&q, |q| attend(q, k, v, shape, &rows.plan, &mut out))?;
                tensor(out, (n, heads, head_dim))?
            }
        };
        Ok(out.reshape((n, heads * head_dim))?)
    }

    /// The heads of each block's attention.
    #[must_use]
    pub fn head_shape(&self) -> HeadShape {
        let ModelSpec { heads, kv_heads, head_dim, .. } = self.spec;
        HeadShape { heads, kv_heads, head_dim }
    }

    /// The norm in front of the head, on `x: [rows, hidden]`.
    ///
    /// # Errors
    /// If `x` has another width.
    pub fn output_norm(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(rms_norm(x, &self.weights.output_norm, self.spec.rms_eps)?)
    }

    /// The head's weight, `[vocabulary, hidden]`.
    #[must_use]
    pub fn head(&self) -> &PackedMatrix {
        &self.weights.head
    }

    /// Bytes that the weights occupy in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.weights.resident_bytes()
    }

    /// Embedding, all blocks and the output norm: `[tokens, hidden]`, without gradients.
    ///
    /// # Errors
    /// As [`Self::embed`] and [`Self::block`]; [`ModelError::Interrupted`] between blocks.
    pub fn hidden(
        &self,
        tokens: &[u32],
        rows: &Rows,
        mut keys: Keys<'_>,
        lora: Option<&[BlockLora]>,
        interrupt: &Interrupt,
    ) -> Result<Tensor, ModelError> {
        let mut x = self.embed(tokens)?;
        for index in 0..self.depth() {
            interrupt.check()?;
            x = self.block(index, &x, rows, &mut keys, lora.map(|l| &l[index]))?;
        }
        self.output_norm(&x)
    }
}
