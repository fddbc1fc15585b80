//! All weights of a model on a device.

use candle_core::{Device, Tensor};

use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::engine::ModelError;
use crate::engine::candle::matrix::Matrix;
use crate::engine::candle::norm::RmsNorm;
use crate::engine::cpu::weights::{find, vector};
use crate::gguf::GgufFile;

/// The weights of one transformer block.
#[derive(Debug)]
pub struct BlockWeights {
    pub attention_norm: RmsNorm,
    pub ffn_norm: RmsNorm,
    linear: [Matrix; Target::ALL.len()],
}

impl BlockWeights {
    /// The weight of a linear layer, `[out, in]`.
    #[must_use]
    pub fn linear(&self, target: Target) -> &Matrix {
        &self.linear[target as usize]
    }
}

/// All weights of a model.
#[derive(Debug)]
pub struct Weights {
    /// `[vocabulary, hidden]`
    pub embedding: Matrix,
    pub blocks: Vec<BlockWeights>,
    pub output_norm: RmsNorm,
    /// `[vocabulary, hidden]`; the embedding itself where the file ties them.
    pub head: Matrix,
}

impl Weights {
    /// Reads every tensor that `spec` asks for to the device.
    ///
    /// # Errors
    /// If a tensor is missing or cannot be read, or the device has no memory for it.
    pub fn load(file: &GgufFile, spec: &ModelSpec, device: &Device) -> Result<Self, ModelError> {
        let loader = Loader {
            file,
            eps: spec.rms_eps,
            numbers: Tensor::arange(0, spec.vocab.max(spec.ffn).max(spec.hidden) as u32, device)?,
        };
        let embedding = loader.matrix("token_embd.weight")?;
        let head = match spec.tied_embeddings {
            true => embedding.clone(),
            false => loader.matrix("output.weight")?,
        };
        let blocks = (0..spec.layers).map(|i| loader.block(i)).collect::<Result<_, _>>()?;
        Ok(Self { embedding, blocks, output_norm: loader.norm("output_norm.weight")?, head })
    }

    /// Bytes that the matrices take on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let head = if self.head.is(&self.embedding) { 0 } else { self.head.bytes() };
        let blocks = self.blocks.iter().flat_map(|b| &b.linear).map(Matrix::bytes).sum::<usize>();
        self.embedding.bytes() + head + blocks
    }
}

/// Reads tensors of a file to a device.
struct Loader<'a> {
    file: &'a GgufFile,
    eps: f32,
    /// Counts the rows of the largest matrix.
    numbers: Tensor,
}

impl Loader<'_> {
    fn matrix(&self, name: &str) -> Result<Matrix, ModelError> {
        let info = find(self.file, name)?;
        let bytes = self.file.read_tensor(info)?;
        Ok(Matrix::new(info.ggml_type, (info.rows(), info.cols()), bytes, &self.numbers)?)
    }

    fn norm(&self, name: &str) -> Result<RmsNorm, ModelError> {
        let weight = vector(self.file, name)?;
        let weight = Tensor::from_slice(&weight, weight.len(), self.numbers.device())?;
        Ok(RmsNorm { weight, eps: self.eps })
    }

    fn block(&self, layer: usize) -> Result<BlockWeights, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let linear = Target::ALL
            .iter()
            .map(|t| self.matrix(&name(t.gguf_name())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(BlockWeights {
            attention_norm: self.norm(&name("attn_norm"))?,
            ffn_norm: self.norm(&name("ffn_norm"))?,
            linear: linear.try_into().expect("one weight a target"),
        })
    }
}
