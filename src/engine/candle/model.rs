//! The transformer on a device: forward passes, as `model::transformer`.

use candle_core::{Device, Result, Tensor};

use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::arch::spec::ModelSpec;
use crate::engine::candle::attention::{KeyValues, attend};
use crate::engine::candle::attention_plan::Plan;
use crate::engine::candle::head::token_scores;
use crate::engine::candle::linear::{Factors, Layer};
use crate::engine::candle::rope::Rotation;
use crate::engine::candle::swiglu::swiglu;
use crate::engine::candle::tensor::{matrix, numbers, values};
use crate::engine::candle::weights::Weights;
use crate::engine::cpu::scratch::RowChunks;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Input, ModelError};
use crate::gguf::GgufFile;
use crate::kernels::Compute;
use crate::ops::attention::HeadShape;
use crate::ops::head::TokenScores;
use crate::ops::rope;

/// How rows are cut: a device has more memory than a cache, and decodes weights for each piece.
const PIECES: RowChunks = RowChunks { rows: 2048, head_rows: 256 };

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    pub spec: ModelSpec,
    /// How products with the frozen weights are computed.
    pub compute: Compute,
    pub row_chunks: RowChunks,
    pub(super) device: Device,
    pub(super) weights: Weights,
    /// Radians a position, `[rope_dim / 2]`.
    frequencies: Vec<f32>,
}

/// The LoRA factors of one block, by target.
pub type BlockFactors = [Option<Factors>; Target::ALL.len()];

/// An adapter's factors, block by block.
#[derive(Debug)]
pub struct Adapter {
    pub(super) blocks: Vec<BlockFactors>,
}

/// Keys and values of tokens that have been computed, layer by layer.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<KeyValues>,
}

/// What a pass over some rows needs beside their hidden states.
#[derive(Debug)]
pub struct Rows {
    pub rotation: Rotation,
    pub plan: Plan,
}

/// What a block's attention works on, `[rows, heads, head_dim]` but for the first.
pub(super) struct Attention {
    /// `[rows, hidden]`
    pub normed: Tensor,
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

impl Model {
    /// Loads a model to a device; its weights stay quantized.
    ///
    /// # Errors
    /// If the architecture or a tensor is not supported, the file cannot be read, or the device has
    /// no memory for it.
    pub fn load(
        file: &GgufFile,
        compute: Compute,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let spec = ModelSpec::from_gguf(file)?;
        let weights = Weights::load(file, &spec, device)?;
        let factors = crate::engine::cpu::weights::rope_factors(file)?;
        let frequencies = spec.rope.frequencies(factors.as_deref());
        Ok(Self { spec, compute, row_chunks: PIECES, device: device.clone(), weights, frequencies })
    }

    /// Brings an adapter's factors to the device; `scale` is alpha / rank.
    ///
    /// # Errors
    /// If the device has no memory for them.
    ///
    /// # Panics
    /// Never: there is an entry for each target.
    pub fn adapter(&self, tensors: &LoraTensors, scale: f32) -> Result<Adapter> {
        let factors = |layer, target| -> Result<Option<Factors>> {
            let get = |factor| tensors.get(&LoraKey { layer, target, factor });
            let (Some(a), Some(b)) = (get(Factor::A), get(Factor::B)) else { return Ok(None) };
            let a = matrix(&a.data, a.rows, &self.device)?;
            let b = (matrix(&b.data, b.rows, &self.device)? * f64::from(scale))?;
            Ok(Some(Factors { a, b, scale }))
        };
        let block = |layer| -> Result<BlockFactors> {
            let all = Target::ALL.iter().map(|t| factors(layer, *t)).collect::<Result<Vec<_>>>()?;
            Ok(all.try_into().expect("one entry a target"))
        };
        Ok(Adapter { blocks: (0..self.spec.layers).map(block).collect::<Result<_>>()? })
    }

    /// A cache of `slots` tokens; in half precision for [`Compute::Fast`].
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn cache(&self, slots: usize) -> Result<Cache> {
        let half = self.compute == Compute::Fast;
        let layer = |_| KeyValues::new(self.head_shape(), slots, half, &self.device);
        Ok(Cache { layers: (0..self.spec.layers).map(layer).collect::<Result<_>>()? })
    }

    /// What a pass over `input` needs to know of its rows.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn rows(&self, input: &Input<'_>) -> Result<Rows> {
        let rotation =
            rope::Rotation::new(self.spec.rope.style, &self.frequencies, input.positions);
        Ok(Rows {
            rotation: Rotation::new(&rotation, input.positions.len(), &self.device)?,
            plan: Plan::new(&input.plan, self.spec.heads, &self.device)?,
        })
    }

    /// The embeddings of `tokens`, `[tokens, hidden]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.weights.embedding.select(&Tensor::from_slice(tokens, tokens.len(), &self.device)?)
    }

    /// Embedding, all blocks and the output norm: `[tokens, hidden]`. Rows see those of the pass
    /// alone, or of a cache, in which they are stored first.
    ///
    /// # Errors
    /// If the device fails; [`ModelError::Interrupted`] between blocks.
    pub fn hidden(
        &self,
        input: &Input<'_>,
        cache: Option<&Cache>,
        lora: Option<&Adapter>,
        interrupt: &Interrupt,
    ) -> std::result::Result<Tensor, ModelError> {
        let rows = self.rows(input)?;
        let mut x = self.embed(input.tokens)?;
        for index in 0..self.spec.layers {
            interrupt.check()?;
            let kv = cache.map(|cache| &cache.layers[index]);
            x = self.block(index, &x, &rows, kv, lora.map(|l| &l.blocks[index]))?;
        }
        Ok(self.weights.output_norm.forward(&x)?)
    }

    /// The logits of some rows of [`Self::hidden`], one row after the other.
    ///
    /// # Errors
    /// If the device fails.
    pub fn logits(&self, hidden: &Tensor, rows: &[usize]) -> Result<Vec<f32>> {
        let x = self.pick(hidden, rows)?;
        values(&self.weights.head.forward(&x, self.compute)?)
    }

    /// What the head says of `targets[i]` in row `rows[i]` of [`Self::hidden`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn token_scores(
        &self,
        hidden: &Tensor,
        rows: &[usize],
        targets: &[u32],
        with_gradient: bool,
    ) -> Result<TokenScores> {
        let (x, head) = (self.pick(hidden, rows)?, &self.weights.head);
        token_scores(&x, targets, head, self.compute, self.row_chunks.head_rows, with_gradient)
    }

    fn pick(&self, hidden: &Tensor, rows: &[usize]) -> Result<Tensor> {
        hidden.index_select(&numbers(rows.iter().copied(), &self.device)?, 0)
    }

    /// Applies block `index` to `x: [rows, hidden]`, with LoRA if given.
    ///
    /// # Errors
    /// If the device fails.
    pub fn block(
        &self,
        index: usize,
        x: &Tensor,
        rows: &Rows,
        kv: Option<&KeyValues>,
        lora: Option<&BlockFactors>,
    ) -> Result<Tensor> {
        let Attention { q, k, v, .. } = self.attention(index, x, rows, lora)?;
        let of_pass;
        let kv = match kv {
            Some(kv) => {
                kv.store(&k, &v, &rows.plan)?;
                kv
            }
            None => {
                of_pass = KeyValues::of_pass(&k, &v, &rows.plan)?;
                &of_pass
            }
        };
        let attended = attend(&q, kv, self.head_shape(), &rows.plan)?;
        let middle = (x + self.layer(index, Target::O, lora).forward(&attended)?)?;
        let row_chunks = self.row_chunks.of(middle.dim(0)?).map(|piece| {
            let x = middle.narrow(0, piece.start, piece.len())?;
            let normed = self.weights.blocks[index].ffn_norm.forward(&x)?;
            let [gate, up] = [Target::Gate, Target::Up].map(|t| self.layer(index, t, lora));
            let gated = swiglu(&gate.forward(&normed)?, &up.forward(&normed)?)?;
            x + self.layer(index, Target::Down, lora).forward(&gated)?
        });
        joined(&row_chunks.collect::<Result<Vec<_>>>()?)
    }

    /// A block's rotated queries and keys, and its values.
    pub(super) fn attention(
        &self,
        index: usize,
        x: &Tensor,
        rows: &Rows,
        lora: Option<&BlockFactors>,
    ) -> Result<Attention> {
        let HeadShape { heads, kv_heads, head_dim } = self.head_shape();
        let normed = self.weights.blocks[index].attention_norm.forward(x)?;
        let project = |target, heads| {
            self.layer(index, target, lora).forward(&normed)?.reshape(((), heads, head_dim))
        };
        let q = rows.rotation.forward(&project(Target::Q, heads)?)?;
        let k = rows.rotation.forward(&project(Target::K, kv_heads)?)?;
        let v = project(Target::V, kv_heads)?;
        Ok(Attention { normed, q, k, v })
    }

    /// A linear layer. K and V are exact, as on the CPU: few weights with many readers.
    pub(super) fn layer<'a>(
        &'a self,
        index: usize,
        target: Target,
        lora: Option<&'a BlockFactors>,
    ) -> Layer<'a> {
        let compute = match target {
            Target::K | Target::V => Compute::Exact,
            _ => self.compute,
        };
        let lora = lora.and_then(|l| l[target as usize].as_ref());
        Layer { weight: self.weights.blocks[index].linear(target), compute, lora }
    }

    pub(super) fn head_shape(&self) -> HeadShape {
        HeadShape::from(&self.spec)
    }

    /// Bytes that the weights take on the device.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.weights.bytes()
    }
}

/// RowChunks of rows, one below the other.
pub(super) fn joined(row_chunks: &[Tensor]) -> Result<Tensor> {
    match row_chunks {
        [whole] => Ok(whole.clone()),
        row_chunks => Tensor::cat(row_chunks, 0),
    }
}
