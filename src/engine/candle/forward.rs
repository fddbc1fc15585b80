//! The forward pass on a device: the steps of each block, carried out on tensors.

use std::ops::Index;

use candle_core::{Device, Result, Tensor};

use super::CandleEngine;
use crate::arch::block::{Step, Value, Vector};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::arch::spec::ModelSpec;
use crate::engine::candle::ops::attention::{KeyValues, attend};
use crate::engine::candle::ops::attention_plan::Plan;
use crate::engine::candle::ops::linear::{Factors, Layer};
use crate::engine::candle::ops::norm::RmsNorm;
use crate::engine::candle::ops::rope::Rotation;
use crate::engine::candle::ops::swiglu::swiglu;
use crate::engine::candle::ops::tensor::matrix;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Input, ModelError};
use crate::kernels::Compute;
use crate::ops::attention::HeadShape;
use crate::ops::rope;

/// The LoRA factors of one block, by target.
pub(super) type BlockFactors = [Option<Factors>; Target::ALL.len()];

/// An adapter's factors, block by block.
#[derive(Debug)]
pub struct Adapter {
    pub(super) blocks: Vec<BlockFactors>,
}

impl Adapter {
    /// Brings an adapter's factors to a device; `scale` is alpha / rank.
    pub(super) fn new(
        tensors: &LoraTensors,
        spec: &ModelSpec,
        scale: f32,
        device: &Device,
    ) -> Result<Self> {
        let factors = |layer, target| -> Result<Option<Factors>> {
            let get = |factor| tensors.get(&LoraKey { layer, target, factor });
            let (Some(a), Some(b)) = (get(Factor::A), get(Factor::B)) else { return Ok(None) };
            let a = matrix(&a.data, a.rows, device)?;
            let b = (matrix(&b.data, b.rows, device)? * f64::from(scale))?;
            Ok(Some(Factors { a, b, scale }))
        };
        let block = |layer| -> Result<BlockFactors> {
            let all = Target::ALL.iter().map(|t| factors(layer, *t)).collect::<Result<Vec<_>>>()?;
            Ok(all.try_into().expect("one entry a target"))
        };
        Ok(Self { blocks: (0..spec.layers).map(block).collect::<Result<_>>()? })
    }
}

/// What a pass over some rows needs beside their hidden states.
#[derive(Debug)]
pub(super) struct Rows {
    pub rotation: Rotation,
    pub plan: Plan,
}

/// The values of a block that have been computed so far; `[rows, heads, head_dim]` for queries, keys
/// and values, `[rows, width]` for all others.
#[derive(Debug, Clone, Default)]
pub(super) struct Values([Option<Tensor>; Value::ALL.len()]);

impl Index<Value> for Values {
    type Output = Tensor;

    fn index(&self, value: Value) -> &Tensor {
        self.0[value as usize].as_ref().expect("steps compute what later ones read")
    }
}

impl Values {
    pub fn set(&mut self, value: Value, tensor: Tensor) {
        self.0[value as usize] = Some(tensor);
    }

    /// Of the rows from `first` on.
    pub fn rows(&self, value: Value, first: usize, n: usize) -> Result<Self> {
        let mut part = Self::default();
        part.set(value, self[value].narrow(0, first, n)?);
        Ok(part)
    }
}

/// The block that steps belong to, and with what it is computed.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub index: usize,
    pub rotation: &'a Rotation,
    pub lora: Option<&'a BlockFactors>,
}

impl CandleEngine {
    /// What a pass over `input` needs to know of its rows.
    pub(super) fn rows(&self, input: &Input<'_>) -> Result<Rows> {
        let style = self.spec.family.rope;
        let rotation = rope::Rotation::new(style, &self.frequencies, input.positions);
        Ok(Rows {
            rotation: Rotation::new(&rotation, input.positions.len(), &self.device)?,
            plan: Plan::new(&input.plan, self.spec.heads, &self.device)?,
        })
    }

    /// The embeddings of `tokens`, `[tokens, hidden]`.
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.weights.embedding.select(&Tensor::from_slice(tokens, tokens.len(), &self.device)?)
    }

    /// All blocks and the output norm on `input`'s embeddings: `[tokens, hidden]`.
    pub(super) fn all_blocks(
        &self,
        input: &Input<'_>,
        cache: Option<&[KeyValues]>,
        lora: Option<&Adapter>,
        interrupt: &Interrupt,
    ) -> std::result::Result<Tensor, ModelError> {
        let rows = self.rows(input)?;
        let mut x = self.embed(input.tokens)?;
        for index in 0..self.spec.layers {
            interrupt.check()?;
            let kv = cache.map(|layers| &layers[index]);
            x = self.block(index, &x, &rows, kv, lora.map(|l| &l.blocks[index]))?;
        }
        Ok(self.output_norm().forward(&x)?)
    }

    /// Applies block `index` to `x: [rows, hidden]`, with LoRA if given.
    pub(super) fn block(
        &self,
        index: usize,
        x: &Tensor,
        rows: &Rows,
        kv: Option<&KeyValues>,
        lora: Option<&BlockFactors>,
    ) -> Result<Tensor> {
        let at = At { index, rotation: &rows.rotation, lora };
        let mut values = Values::default();
        self.run(&self.block.before, at, &mut x.clone(), &mut values)?;
        let (q, k, v) = (&values[Value::Q], &values[Value::K], &values[Value::V]);
        let of_pass;
        let kv = match kv {
            Some(kv) => {
                kv.store(k, v, &rows.plan)?;
                kv
            }
            None => {
                of_pass = KeyValues::of_pass(k, v, &rows.plan)?;
                &of_pass
            }
        };
        let attended = attend(q, kv, self.head_shape(), &rows.plan)?;
        values.set(Value::Attended, attended);
        let chunks = self.row_chunks.of(x.dim(0)?).map(|chunk| {
            let mut x = x.narrow(0, chunk.start, chunk.len())?;
            let mut values = values.rows(Value::Attended, chunk.start, chunk.len())?;
            self.run(&self.block.after, at, &mut x, &mut values)?;
            Ok(x)
        });
        joined(&chunks.collect::<Result<Vec<_>>>()?)
    }

    /// Carries out steps on some rows, whose residual stream is `x: [rows, hidden]`.
    pub(super) fn run(
        &self,
        steps: &[Step],
        at: At<'_>,
        x: &mut Tensor,
        values: &mut Values,
    ) -> Result<()> {
        for step in steps {
            match *step {
                Step::Norm { weight, from, to } => {
                    let y = self.norm(at.index, weight).forward(input(from, x, values))?;
                    values.set(to, y);
                }
                Step::Linear { layers, from, to, .. } => {
                    for (target, value) in layers.iter().zip(to) {
                        let layer = self.layer(at.index, *target, at.lora);
                        let y = layer.forward(input(from, x, values))?;
                        values.set(*value, self.by_head(*value, y)?);
                    }
                }
                Step::Bias { weight, value } => {
                    let bias = self.by_head(value, self.vector(at.index, weight).unsqueeze(0)?)?;
                    values.set(value, values[value].broadcast_add(&bias)?);
                }
                Step::Rope { value } => {
                    values.set(value, at.rotation.forward(&values[value])?);
                }
                Step::Gate => {
                    let gated = swiglu(&values[Value::Gate], &values[Value::Up])?;
                    values.set(Value::Gated, gated);
                }
                Step::Add { from } => *x = (&*x + &values[from])?,
            }
        }
        Ok(())
    }

    /// A row of queries, keys or values as heads; any other as it is.
    fn by_head(&self, value: Value, y: Tensor) -> Result<Tensor> {
        match value {
            Value::Q | Value::K | Value::V => {
                let head_dim = self.spec.head_dim;
                y.reshape(((), self.spec.width(value) / head_dim, head_dim))
            }
            _ => Ok(y),
        }
    }

    /// A linear layer. K and V are exact, as on the CPU: few weights with many readers.
    pub(super) fn layer<'a>(
        &'a self,
        index: usize,
        target: Target,
        lora: Option<&'a BlockFactors>,
    ) -> Layer<'a> {
        let compute = if target.is_exact() { Compute::Exact } else { self.compute };
        let lora = lora.and_then(|l| l[target as usize].as_ref());
        Layer { weight: self.weights.blocks[index].linear(target), compute, lora }
    }

    pub(super) fn norm(&self, index: usize, weight: Vector) -> RmsNorm<'_> {
        RmsNorm { weight: self.vector(index, weight), eps: self.spec.rms_eps }
    }

    pub(super) fn output_norm(&self) -> RmsNorm<'_> {
        RmsNorm { weight: &self.weights.output_norm, eps: self.spec.rms_eps }
    }

    fn vector(&self, index: usize, vector: Vector) -> &Tensor {
        self.weights.blocks[index].vector(vector)
    }

    pub(super) fn head_shape(&self) -> HeadShape {
        HeadShape::from(&self.spec)
    }
}

/// What a step reads.
pub(super) fn input<'a>(value: Value, x: &'a Tensor, values: &'a Values) -> &'a Tensor {
    match value {
        Value::Residual => x,
        value => &values[value],
    }
}

/// Chunks of rows, one below the other.
pub(super) fn joined(chunks: &[Tensor]) -> Result<Tensor> {
    match chunks {
        [whole] => Ok(whole.clone()),
        chunks => Tensor::cat(chunks, 0),
    }
}
