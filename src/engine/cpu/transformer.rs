//! The transformer: one implementation for sampling, scoring and training.
//!
//! It computes hidden states block by block and leaves the order of blocks to its callers, because
//! training runs them backwards (`backward`). It knows nothing of prompts, rationales or rewards.

use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::engine::ModelError;
use crate::engine::cpu::adapter::{BlockLora, PackedAdapter};
use crate::engine::cpu::kv_cache::KvCache;
use crate::engine::cpu::scratch::{ForwardScratch, RowChunks, Scratch, sized, span};
use crate::engine::cpu::weights::{BlockWeights, Weights};
use crate::engine::interrupt::Interrupt;
use crate::gguf::GgufFile;
use crate::kernels::elementwise::add;
use crate::kernels::threads::in_rows;
use crate::kernels::{Compute, Floats, PackedMatrix, fast_is_close};
use crate::ops::attention::{HeadShape, attend};
use crate::ops::attention_plan::AttentionPlan;
use crate::ops::key_values::KeyValues;
use crate::ops::linear;
use crate::ops::linear::Layer;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::Rotation;
use crate::ops::swiglu::swiglu;

/// A loaded model.
#[derive(Debug)]
pub struct Transformer {
    pub spec: ModelSpec,
    /// How products with the frozen weights are computed.
    pub compute: Compute,
    /// How rows are cut for memory's sake.
    pub row_chunks: RowChunks,
    pub(super) weights: Weights,
    /// Radians a position, `[rope_dim / 2]`.
    frequencies: Vec<f32>,
}

/// What a pass over some rows needs beside their hidden states.
#[derive(Debug, Clone)]
pub struct Rows {
    pub rotation: Rotation,
    pub plan: AttentionPlan,
    /// The slot in which each row's keys and values are kept.
    pub slots: Vec<usize>,
}

impl Rows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// Where the keys and values that rows attend to come from.
pub enum Keys<'a> {
    /// From the rows of this pass alone.
    Pass,
    /// From a cache, in which the rows of this pass are stored first, each in its slot.
    Cache(&'a mut KvCache),
}

impl Transformer {
    /// Loads a model; its linear weights stay quantized in memory.
    ///
    /// # Errors
    /// If the architecture or a tensor is not supported, or the file cannot be read.
    pub fn load(file: &GgufFile, compute: Compute) -> Result<Self, ModelError> {
        let spec = ModelSpec::from_gguf(file)?;
        let weights = Weights::load(file, &spec)?;
        let frequencies = spec.rope.frequencies(weights.rope_factors.as_deref());
        Ok(Self { spec, compute, row_chunks: RowChunks::default(), weights, frequencies })
    }

    /// The embeddings of `tokens`, into `x: [tokens, hidden]`.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn embed(&self, tokens: &[u32], x: &mut Floats) -> Result<(), ModelError> {
        let (vocabulary, hidden) = (self.spec.vocab, self.spec.hidden);
        if let Some(&id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ModelError::Token { id, vocabulary });
        }
        let x = sized(x, tokens.len() * hidden);
        let macs = 8 * x.len();
        in_rows(x, hidden, macs, |first, x| {
            for (row, &id) in x.chunks_exact_mut(hidden).zip(&tokens[first..]) {
                self.weights.embedding.decode_row(id as usize, row);
            }
        });
        Ok(())
    }

    /// What a pass needs to know of rows at `positions` that see each other by `plan`.
    #[must_use]
    pub fn rows(&self, positions: &[u32], plan: AttentionPlan) -> Rows {
        let rotation = Rotation::new(self.spec.rope.style, &self.frequencies, positions);
        Rows { rotation, slots: plan.own_slots(), plan }
    }

    /// The number of blocks.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.weights.blocks.len()
    }

    /// Applies block `index` to `x: [rows, hidden]` in place, with LoRA if given.
    ///
    /// # Panics
    /// If the shapes of `x`, `rows` and `lora` don't fit together.
    pub fn block(
        &self,
        index: usize,
        x: &mut [f32],
        rows: &Rows,
        keys: &mut Keys<'_>,
        lora: Option<&BlockLora>,
        scratch: &mut Scratch,
    ) {
        let s = &mut scratch.forward;
        self.queries_keys_values(index, x, rows, lora, s);
        let shape = self.head_shape();
        let kv: &KeyValues = match keys {
            Keys::Pass => {
                s.kv.resize(shape, rows.plan.slots());
                s.kv.store(shape, &rows.slots, &s.k, &s.v);
                &s.kv
            }
            Keys::Cache(cache) => {
                let kv = cache.layer(index);
                kv.store(shape, &rows.slots, &s.k, &s.v);
                kv
            }
        };
        let attended = sized(&mut s.attended, rows.len() * shape.q_width());
        attend(&s.q, kv, shape, &rows.plan, (&mut s.by_head, attended));
        for piece in self.row_chunks.of(rows.len()) {
            let x = &mut x[span(&piece, self.spec.hidden)];
            self.add_attended(index, x, &piece, lora, s);
            self.add_feed_forward(index, x, lora, s);
        }
    }

    /// Writes a block's rotated queries and keys, and its values, to the scratch memory.
    pub(super) fn queries_keys_values(
        &self,
        index: usize,
        x: &[f32],
        rows: &Rows,
        lora: Option<&BlockLora>,
        s: &mut ForwardScratch,
    ) {
        let HeadShape { heads, kv_heads, head_dim } = self.head_shape();
        let (hidden, width) = (self.spec.hidden, self.head_shape().kv_width());
        let weights = &self.weights.blocks[index];
        sized(&mut s.q, rows.len() * heads * head_dim);
        sized(&mut s.k, rows.len() * width);
        sized(&mut s.v, rows.len() * width);
        for piece in self.row_chunks.of(rows.len()) {
            let normed = sized(&mut s.normed, piece.len() * hidden);
            self.norm(&weights.attention_norm).forward(&x[span(&piece, hidden)], normed);
            let q = &mut s.q[span(&piece, heads * head_dim)];
            let k = &mut s.k[span(&piece, width)];
            let v = &mut s.v[span(&piece, width)];
            linear::forward(
                self.qkv(index, piece.len()),
                lora.and_then(|l| l.qkv.as_ref()),
                (normed, piece.len()),
                &mut s.h,
                [&mut *q, &mut *k, v],
            );
            rows.rotation.forward(piece.start, q, heads, head_dim);
            rows.rotation.forward(piece.start, k, kv_heads, head_dim);
        }
    }

    /// Adds attention's projection to `x`, the rows of a piece.
    pub(super) fn add_attended(
        &self,
        index: usize,
        x: &mut [f32],
        piece: &std::ops::Range<usize>,
        lora: Option<&BlockLora>,
        s: &mut ForwardScratch,
    ) {
        let attended = &s.attended[span(piece, self.head_shape().q_width())];
        let out = sized(&mut s.out, x.len());
        let lora = lora.and_then(|l| l.o.as_ref());
        linear::forward([self.o(index)], lora, (attended, piece.len()), &mut s.h, [&mut *out]);
        self.add(out, x);
    }

    /// Adds the feed-forward layer to `x: [_, hidden]`.
    fn add_feed_forward(
        &self,
        index: usize,
        x: &mut [f32],
        lora: Option<&BlockLora>,
        s: &mut ForwardScratch,
    ) {
        let (ffn, rows) = (self.spec.ffn, x.len() / self.spec.hidden);
        let normed = sized(&mut s.normed, x.len());
        self.norm(&self.weights.blocks[index].ffn_norm).forward(x, normed);
        let (gate, up) = (sized(&mut s.gate, rows * ffn), sized(&mut s.up, rows * ffn));
        let (layers, group) = (self.gate_up(index), lora.and_then(|l| l.gate_up.as_ref()));
        linear::forward(layers, group, (normed, rows), &mut s.h, [&mut *gate, &mut *up]);
        swiglu(gate, up);
        let (out, group) = (sized(&mut s.out, x.len()), lora.and_then(|l| l.down.as_ref()));
        linear::forward([self.down(index)], group, (gate, rows), &mut s.h, [&mut *out]);
        self.add(out, x);
    }

    /// `x += out`, both `[_, hidden]`.
    fn add(&self, out: &[f32], x: &mut [f32]) {
        let (hidden, macs) = (self.spec.hidden, x.len());
        in_rows(x, hidden, macs, |first, x| add(&out[first * hidden..], x));
    }

    pub(super) fn norm<'a>(&self, weight: &'a [f32]) -> RmsNorm<'a> {
        RmsNorm { weight, eps: self.spec.rms_eps }
    }

    /// The projections that `rows` rows of a pass go through together.
    pub(super) fn qkv(&self, index: usize, rows: usize) -> [Layer<'_>; 3] {
        let [q, k, v] = [Target::Q, Target::K, Target::V].map(|t| self.layer(index, t));
        // Few weights, many readers: on SmolLM2 these two cause 40 % of the error of int8 with 6 % of
        // a block's products.
        let compute = if fast_is_close(rows) { self.compute } else { Compute::Exact };
        [q, (k.0, compute), (v.0, compute)]
    }

    pub(super) fn o(&self, index: usize) -> Layer<'_> {
        self.layer(index, Target::O)
    }

    pub(super) fn gate_up(&self, index: usize) -> [Layer<'_>; 2] {
        [Target::Gate, Target::Up].map(|t| self.layer(index, t))
    }

    pub(super) fn down(&self, index: usize) -> Layer<'_> {
        self.layer(index, Target::Down)
    }

    fn layer(&self, index: usize, target: Target) -> Layer<'_> {
        let weights: &BlockWeights = &self.weights.blocks[index];
        (weights.linear(target), self.compute)
    }

    /// The heads of each block's attention.
    #[must_use]
    pub fn head_shape(&self) -> HeadShape {
        HeadShape::from(&self.spec)
    }

    /// The norm in front of the head, on `x: [rows, hidden]`.
    #[must_use]
    pub fn output_norm(&self, x: &[f32]) -> Floats {
        let mut normed = Floats::zeroed(x.len());
        self.norm(&self.weights.output_norm).forward(x, &mut normed);
        normed
    }

    /// The gradient of [`Self::output_norm`]'s input `x` from `g` of its output.
    #[must_use]
    pub fn output_norm_backward(&self, x: &[f32], g: &[f32]) -> Floats {
        let mut dx = Floats::zeroed(x.len());
        self.norm(&self.weights.output_norm).backward(x, g, &mut dx);
        dx
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

    /// Embedding, all blocks and the output norm: `[tokens, hidden]`.
    ///
    /// # Errors
    /// As [`Self::embed`]; [`ModelError::Interrupted`] between blocks.
    pub fn hidden(
        &self,
        tokens: &[u32],
        rows: &Rows,
        mut keys: Keys<'_>,
        lora: Option<&PackedAdapter>,
        scratch: &mut Scratch,
        interrupt: &Interrupt,
    ) -> Result<Floats, ModelError> {
        let mut x = Floats::default();
        self.embed(tokens, &mut x)?;
        for index in 0..self.depth() {
            interrupt.check()?;
            let lora = lora.map(|l| l.block(index));
            self.block(index, &mut x, rows, &mut keys, lora, scratch);
        }
        Ok(self.output_norm(&x))
    }
}
