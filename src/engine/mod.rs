//! Engines: a loaded model that computes, on the CPU or on another device.
//!
//! [`Engine`] is what learning and evaluation are written against. [`cpu`] has this program's own
//! kernels, `candle` the same model in candle's tensors. What an engine makes (adapters, caches,
//! hidden states, traces) has a type of its own, so that engines cannot be mixed.

#[cfg(any(test, feature = "candle"))] // tests have candle anyway
pub mod candle;
pub mod cpu;
pub mod device;
mod error;
pub mod input;
pub mod interrupt;
pub mod row_chunks;
#[cfg(test)]
mod tests;
pub mod weights;

use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::gguf::GgufFile;
use crate::kernels::{Compute, Floats};
use crate::ops::head::TokenScores;
use device::DeviceKind;
pub use error::ModelError;
pub use input::{Input, Predictions};
use interrupt::Interrupt;
use row_chunks::RowChunks;

/// A model on a device.
pub trait Engine: std::fmt::Debug + Sized {
    /// An adapter, ready to compute with.
    type Adapter: std::fmt::Debug;
    /// Keys and values of tokens that have been computed, with memory for the next pass.
    type Cache: std::fmt::Debug;
    /// Hidden states behind the output norm, `[rows, hidden]`.
    type Hidden: std::fmt::Debug;
    /// A forward pass whose gradient can be taken.
    type Trace: std::fmt::Debug;

    /// Loads a model; its linear weights stay quantized in memory.
    ///
    /// # Errors
    /// If the architecture or a tensor is not supported, the file cannot be read, or there is no such
    /// device.
    fn load(file: &GgufFile, compute: Compute, device: DeviceKind) -> Result<Self, ModelError>;

    /// The model in numbers.
    fn spec(&self) -> &ModelSpec;

    /// How products with the frozen weights are computed.
    fn compute(&self) -> Compute;

    /// Where it computes.
    fn device(&self) -> DeviceKind;

    /// Bytes that the weights occupy in the device's memory.
    fn resident_bytes(&self) -> usize;

    /// Cuts rows into these chunks, where the device's memory is planned.
    fn set_row_chunks(&mut self, row_chunks: RowChunks);

    /// Makes an adapter ready to compute with; `scale` is alpha / rank. A layer is adapted if both of
    /// its factors are there.
    ///
    /// # Errors
    /// If the device has no memory for it.
    fn adapter(&self, tensors: &LoraTensors, scale: f32) -> Result<Self::Adapter, ModelError>;

    /// A cache of at least `slots` tokens; in half precision for [`Compute::Fast`].
    ///
    /// # Errors
    /// If the device has no memory for it.
    fn cache(&self, slots: usize) -> Result<Self::Cache, ModelError>;

    /// The hidden states of `input`'s rows. They see those of a cache, in which they are stored first,
    /// or those of the pass alone.
    ///
    /// # Errors
    /// [`ModelError::Token`] on tokens outside the vocabulary; [`ModelError::Interrupted`] between
    /// blocks; a failing device.
    fn hidden(
        &self,
        input: Input<'_>,
        cache: Option<&mut Self::Cache>,
        lora: Option<&Self::Adapter>,
        interrupt: &Interrupt,
    ) -> Result<Self::Hidden, ModelError>;

    /// The logits of some rows of hidden states into `logits: [rows, vocabulary]`.
    ///
    /// # Errors
    /// A failing device.
    ///
    /// # Panics
    /// If a row does not exist.
    fn logits(
        &self,
        hidden: &Self::Hidden,
        rows: &[usize],
        logits: &mut Floats,
    ) -> Result<(), ModelError>;

    /// What the model says of the predicted tokens. The gradient is by the hidden states times their
    /// scales.
    ///
    /// # Errors
    /// A target outside the vocabulary; a failing device.
    ///
    /// # Panics
    /// If a row does not exist, or if there is not one row and one scale for each target.
    fn token_scores(
        &self,
        hidden: &Self::Hidden,
        predicted: Predictions<'_>,
        with_gradient: bool,
    ) -> Result<TokenScores, ModelError>;

    /// Runs a policy over `input` and keeps what its gradient needs; rows see those of the pass alone.
    ///
    /// # Errors
    /// As [`Self::hidden`].
    fn trace(
        &self,
        input: Input<'_>,
        adapter: &Self::Adapter,
        interrupt: &Interrupt,
    ) -> Result<Self::Trace, ModelError>;

    /// The hidden states behind a traced pass.
    ///
    /// # Errors
    /// A failing device.
    fn traced(&self, trace: &Self::Trace) -> Result<Self::Hidden, ModelError>;

    /// From `g: [rows, hidden]`, the gradient of [`Self::traced`], to those of the LoRA factors,
    /// which are added to `sums`.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] between blocks; a failing device.
    ///
    /// # Panics
    /// If shapes don't fit together.
    fn backward(
        &self,
        trace: Self::Trace,
        g: Vec<f32>,
        adapter: &Self::Adapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError>;
}

/// Refuses tokens outside the vocabulary.
fn check_tokens(spec: &ModelSpec, tokens: &[u32]) -> Result<(), ModelError> {
    let vocabulary = spec.vocab;
    match tokens.iter().find(|id| **id as usize >= vocabulary) {
        Some(&id) => Err(ModelError::Token { id, vocabulary }),
        None => Ok(()),
    }
}

/// Evaluates an expression with `$engine` as the type of engine that computes on a device. Where
/// this program was built without engines for other devices, loading one says so.
#[cfg(any(test, feature = "candle"))]
#[macro_export]
macro_rules! with_engine {
    ($device:expr, $engine:ident => $body:expr) => {
        match $device {
            $crate::engine::device::DeviceKind::Cpu => {
                type $engine = $crate::engine::cpu::CpuEngine;
                $body
            }
            _ => {
                type $engine = $crate::engine::candle::CandleEngine;
                $body
            }
        }
    };
}
#[cfg(not(any(test, feature = "candle")))]
#[macro_export]
macro_rules! with_engine {
    ($device:expr, $engine:ident => $body:expr) => {{
        type $engine = $crate::engine::cpu::CpuEngine;
        $body
    }};
}
pub use with_engine;
