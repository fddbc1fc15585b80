//! The engine of other devices, made of candle's tensors.
//!
//! Every operation of `ops` has its twin here, forwards and backwards, in plain tensor operations
//! that run on CUDA and Metal. None of it uses candle's own gradients: the kernels that are fast have
//! none, and say so by leaving gradients out. Tests compare each twin with the fused operation, on
//! candle's CPU device.

mod backward;
mod forward;
mod ops;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};

use crate::arch::Block;
use crate::arch::block::{Step, recomputed};
use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::{Upload, Weights};
use crate::engine::{Engine, Input, ModelError, Predictions, check_tokens};
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{Compute, Floats};
use crate::ops::head::TokenScores;
use backward::Trace;
use forward::Adapter;
use ops::attention::KeyValues;
use ops::head;
use ops::matrix::Matrix;
use ops::tensor::{numbers, values};

/// How rows are cut: a device has more memory than a cache, and decodes weights for each chunk.
const ROW_CHUNKS: RowChunks = RowChunks { rows: 2048, head_rows: 256 };

/// A model on a device.
#[derive(Debug)]
pub struct CandleEngine {
    spec: ModelSpec,
    compute: Compute,
    kind: DeviceKind,
    device: Device,
    row_chunks: RowChunks,
    weights: Weights<Matrix, Tensor>,
    block: Block,
    /// The steps behind attention that the backward pass computes again; those in front of it keep
    /// their values.
    again: Vec<Step>,
    /// Radians a position, `[rope_dim / 2]`.
    frequencies: Vec<f32>,
}

/// Keys and values of tokens that have been computed, layer by layer.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<KeyValues>,
}

/// Brings tensors to a device.
struct ToDevice {
    /// Counts the rows of the largest matrix.
    numbers: Tensor,
}

impl Upload for ToDevice {
    type Matrix = Matrix;
    type Vector = Tensor;

    fn matrix(&self, info: &TensorInfo, bytes: Vec<u8>) -> Result<Matrix, ModelError> {
        Ok(Matrix::new(info.ggml_type, (info.rows(), info.cols()), bytes, &self.numbers)?)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, ModelError> {
        let n = values.len();
        Ok(Tensor::from_vec(values, n, self.numbers.device())?)
    }
}

/// Opens a device.
fn open(kind: DeviceKind, compute: Compute) -> Result<Device, ModelError> {
    if let Some(sentence) = kind.why_not() {
        return Err(ModelError::NoDevice(sentence));
    }
    let device = match kind {
        DeviceKind::Cpu | DeviceKind::Candle => return Ok(Device::Cpu),
        DeviceKind::Cuda => Device::new_cuda(0),
        DeviceKind::Metal => Device::new_metal(0),
    };
    // f32 products on tensor cores keep 11 bits of each factor: near enough for `fast`.
    candle_core::cuda::set_gemm_reduced_precision_f32(compute == Compute::Fast);
    device.map_err(|error| {
        let (name, reason) = (kind.name(), ModelError::from(error));
        ModelError::NoDevice(format!(
            "{name} cannot be used here: {reason}; check the driver, or compute on the cpu"
        ))
    })
}

impl CandleEngine {
    fn pick(&self, hidden: &Tensor, rows: &[usize]) -> candle_core::Result<Tensor> {
        hidden.index_select(&numbers(rows.iter().copied(), &self.device)?, 0)
    }
}

impl Engine for CandleEngine {
    type Adapter = Adapter;
    type Cache = Cache;
    type Hidden = Tensor;
    type Trace = Trace;

    fn load(file: &GgufFile, compute: Compute, kind: DeviceKind) -> Result<Self, ModelError> {
        let device = open(kind, compute)?;
        let spec = ModelSpec::from_gguf(file)?;
        let most_rows = spec.vocab.max(spec.ffn).max(spec.hidden).max(spec.heads * spec.head_dim);
        let upload = ToDevice { numbers: Tensor::arange(0, most_rows as u32, &device)? };
        let weights = Weights::load(file, &spec, &upload)?;
        let frequencies = spec.rope.frequencies(weights.rope_factors.as_deref());
        let block = spec.block();
        let again = recomputed(&block.after);
        let row_chunks = ROW_CHUNKS;
        Ok(Self { spec, compute, kind, device, row_chunks, weights, block, again, frequencies })
    }

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn compute(&self) -> Compute {
        self.compute
    }

    fn device(&self) -> DeviceKind {
        self.kind
    }

    fn resident_bytes(&self) -> usize {
        self.weights.matrices().map(Matrix::bytes).sum()
    }

    /// Its memory is not planned: it has chunks of its own.
    fn set_row_chunks(&mut self, _: RowChunks) {}

    fn adapter(&self, tensors: &LoraTensors, scale: f32) -> Result<Adapter, ModelError> {
        Ok(Adapter::new(tensors, &self.spec, scale, &self.device)?)
    }

    fn cache(&self, slots: usize) -> Result<Cache, ModelError> {
        let half = self.compute == Compute::Fast;
        let layer = |_| KeyValues::new(self.head_shape(), slots, half, &self.device);
        Ok(Cache { layers: (0..self.spec.layers).map(layer).collect::<candle_core::Result<_>>()? })
    }

    fn hidden(
        &self,
        input: Input<'_>,
        cache: Option<&mut Cache>,
        lora: Option<&Adapter>,
        interrupt: &Interrupt,
    ) -> Result<Tensor, ModelError> {
        check_tokens(&self.spec, input.tokens)?;
        self.all_blocks(&input, cache.map(|cache| &cache.layers[..]), lora, interrupt)
    }

    fn logits(
        &self,
        hidden: &Tensor,
        rows: &[usize],
        logits: &mut Floats,
    ) -> Result<(), ModelError> {
        let x = self.pick(hidden, rows)?;
        logits.copy_from(&values(&self.weights.head.forward(&x, self.compute)?)?);
        Ok(())
    }

    fn token_scores(
        &self,
        hidden: &Tensor,
        predicted: Predictions<'_>,
        with_gradient: bool,
    ) -> Result<TokenScores, ModelError> {
        let Predictions { rows, targets, scales } = predicted;
        check_tokens(&self.spec, targets)?;
        let scales = Tensor::from_slice(scales, (scales.len(), 1), &self.device)?;
        let (x, head) = (self.pick(hidden, rows)?.broadcast_mul(&scales)?, &self.weights.head);
        let most = self.row_chunks.head_rows;
        Ok(head::token_scores(&x, targets, head, self.compute, most, with_gradient)?)
    }

    fn trace(
        &self,
        input: Input<'_>,
        adapter: &Adapter,
        interrupt: &Interrupt,
    ) -> Result<Trace, ModelError> {
        check_tokens(&self.spec, input.tokens)?;
        self.trace_blocks(&input, adapter, interrupt)
    }

    fn traced(&self, trace: &Trace) -> Result<Tensor, ModelError> {
        Ok(self.output_norm().forward(trace.top())?)
    }

    fn backward(
        &self,
        trace: Trace,
        g: Vec<f32>,
        adapter: &Adapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        self.blocks_backward(trace, &g, adapter, sums, interrupt)
    }
}
