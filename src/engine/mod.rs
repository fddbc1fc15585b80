//! A model that computes, wherever it does: the one place that knows there are several devices.
//!
//! On the CPU that is the transformer of this program's own kernels; elsewhere the same model in
//! candle's tensors (`crate::engine::candle`), if the program was built for it. What an engine makes
//! (adapters, caches, hidden states, traces) is for that engine alone.

#[cfg(any(test, feature = "candle"))] // tests have candle anyway
pub mod candle;
pub mod cpu;
pub mod device;
mod error;
pub mod interrupt;

use std::borrow::Cow;

use crate::arch::lora::LoraTensors;
use crate::arch::spec::ModelSpec;
use crate::engine::cpu::adapter::PackedAdapter;
use crate::engine::cpu::kv_cache::KvCache;
use crate::engine::cpu::scratch::{RowChunks, Scratch};
use crate::engine::cpu::trace;
use crate::engine::cpu::transformer::{Keys, Transformer};
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::gguf::GgufFile;
use crate::kernels::{Compute, Floats};
use crate::ops::attention_plan::AttentionPlan;
use crate::ops::head::{TokenScores, token_scores};
pub use error::ModelError;

/// Rows of tokens that are computed in one pass.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    pub tokens: &'a [u32],
    /// The position of each token.
    pub positions: &'a [u32],
    /// Which token sees which.
    pub plan: AttentionPlan,
}

impl<'a> Input<'a> {
    /// Tokens of which each sees itself and those before it; `positions` count from 0.
    #[must_use]
    pub fn causal(tokens: &'a [u32], positions: &'a [u32]) -> Self {
        Self { tokens, positions, plan: AttentionPlan::causal(tokens.len()) }
    }
}

/// A loaded model on a device.
#[derive(Debug)]
pub struct Engine {
    pub spec: ModelSpec,
    /// How products with the frozen weights are computed.
    pub compute: Compute,
    /// Where it computes.
    pub device: DeviceKind,
    model: Model,
}

#[derive(Debug)]
enum Model {
    Cpu(Transformer),
    #[cfg(any(test, feature = "candle"))]
    Device(candle::Model),
}

/// Declares what an engine makes: one type on the CPU, one on other devices.
macro_rules! made_by_an_engine {
    ($(#[$doc:meta])* $name:ident, $cpu:ty, $device:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {
            Cpu($cpu),
            #[cfg(any(test, feature = "candle"))]
            Device($device),
        }

        impl $name {
            fn cpu(&self) -> &$cpu {
                match self {
                    Self::Cpu(made) => made,
                    #[cfg(any(test, feature = "candle"))]
                    Self::Device(_) => panic!("made by an engine on another device"),
                }
            }

            #[cfg(any(test, feature = "candle"))]
            fn device(&self) -> &$device {
                match self {
                    Self::Device(made) => made,
                    Self::Cpu(_) => panic!("made by an engine on the CPU"),
                }
            }
        }
    };
}

made_by_an_engine!(
    /// An adapter, ready to compute with.
    Adapter,
    PackedAdapter,
    candle::Adapter
);
made_by_an_engine!(
    /// Hidden states behind the output norm, `[rows, hidden]`.
    Hidden,
    Floats,
    candle_core::Tensor
);
made_by_an_engine!(
    /// A forward pass whose gradient can be taken.
    Trace,
    trace::Trace,
    candle::Trace
);

/// Keys and values of tokens that have been computed, with memory for the next pass.
#[derive(Debug)]
pub enum Cache {
    Cpu(KvCache, Box<Scratch>),
    #[cfg(any(test, feature = "candle"))]
    Device(candle::Cache),
}

impl Engine {
    /// Loads a model; its linear weights stay quantized in memory.
    ///
    /// # Errors
    /// If the architecture or a tensor is not supported, the file cannot be read, or there is no such
    /// device.
    pub fn load(file: &GgufFile, compute: Compute, kind: DeviceKind) -> Result<Self, ModelError> {
        let model = match kind {
            DeviceKind::Cpu => Model::Cpu(Transformer::load(file, compute)?),
            #[cfg(any(test, feature = "candle"))]
            other => {
                Model::Device(candle::Model::load(file, compute, &candle::open(other, compute)?)?)
            }
            #[cfg(not(any(test, feature = "candle")))]
            other => return Err(ModelError::NoDevice(other.why_not().unwrap_or_default())),
        };
        let spec = match &model {
            Model::Cpu(model) => model.spec.clone(),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => model.spec.clone(),
        };
        Ok(Self { spec, compute, device: kind, model })
    }

    /// Cuts rows into these pieces where the CPU's memory is planned; other devices have their own.
    pub fn cut(&mut self, row_chunks: RowChunks) {
        match &mut self.model {
            Model::Cpu(model) => model.row_chunks = row_chunks,
            #[cfg(any(test, feature = "candle"))]
            Model::Device(_) => {}
        }
    }

    /// The number of blocks.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.spec.layers
    }

    /// Bytes that the weights occupy in the device's memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        match &self.model {
            Model::Cpu(model) => model.resident_bytes(),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => model.resident_bytes(),
        }
    }

    /// Makes an adapter ready to compute with; `scale` is alpha / rank. A layer is adapted if both of
    /// its factors are there.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn adapter(&self, tensors: &LoraTensors, scale: f32) -> Result<Adapter, ModelError> {
        Ok(match &self.model {
            Model::Cpu(_) => Adapter::Cpu(PackedAdapter::new(tensors, self.depth(), scale)),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => Adapter::Device(model.adapter(tensors, scale)?),
        })
    }

    /// A cache of at least `slots` tokens.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn cache(&self, slots: usize) -> Result<Cache, ModelError> {
        Ok(match &self.model {
            Model::Cpu(model) => Cache::Cpu(
                KvCache::new(self.depth(), model.head_shape(), slots, self.compute),
                Box::default(),
            ),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => Cache::Device(model.cache(slots)?),
        })
    }

    /// The hidden states of `input`'s rows. They see those of a cache, in which they are stored first,
    /// or those of the pass alone.
    ///
    /// # Errors
    /// [`ModelError::Token`] on tokens outside the vocabulary; [`ModelError::Interrupted`] between
    /// blocks; a failing device.
    ///
    /// # Panics
    /// If the cache or the adapter was made by another engine.
    pub fn hidden(
        &self,
        input: Input<'_>,
        cache: Option<&mut Cache>,
        lora: Option<&Adapter>,
        interrupt: &Interrupt,
    ) -> Result<Hidden, ModelError> {
        self.check_tokens(input.tokens)?;
        match &self.model {
            Model::Cpu(model) => {
                let rows = model.rows(input.positions, input.plan);
                let mut alone = Scratch::default();
                let (keys, scratch) = match cache {
                    None => (Keys::Pass, &mut alone),
                    Some(Cache::Cpu(kv, scratch)) => (Keys::Cache(kv), &mut **scratch),
                    #[cfg(any(test, feature = "candle"))]
                    Some(Cache::Device(_)) => panic!("made by an engine on another device"),
                };
                let lora = lora.map(Adapter::cpu);
                let hidden = model.hidden(input.tokens, &rows, keys, lora, scratch, interrupt)?;
                Ok(Hidden::Cpu(hidden))
            }
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => {
                let cache = cache.map(|cache| match cache {
                    Cache::Device(cache) => &*cache,
                    Cache::Cpu(..) => panic!("made by an engine on the CPU"),
                });
                let lora = lora.map(Adapter::device);
                Ok(Hidden::Device(model.hidden(&input, cache, lora, interrupt)?))
            }
        }
    }

    /// The logits of some rows of hidden states into `logits: [rows, vocabulary]`.
    ///
    /// # Errors
    /// A failing device.
    ///
    /// # Panics
    /// If a row does not exist, or the hidden states are another engine's.
    pub fn logits(
        &self,
        hidden: &Hidden,
        rows: &[usize],
        logits: &mut Floats,
    ) -> Result<(), ModelError> {
        match &self.model {
            Model::Cpu(model) => {
                logits.resize(rows.len() * self.spec.vocab);
                let picked = pick(hidden.cpu(), rows, self.spec.hidden);
                model.head().matmul(self.compute, &picked, rows.len(), logits);
            }
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => logits.copy_from(&model.logits(hidden.device(), rows)?),
        }
        Ok(())
    }

    /// What the model says of `targets[i]` as the token behind row `rows[i]`.
    ///
    /// # Errors
    /// A target outside the vocabulary; a failing device.
    ///
    /// # Panics
    /// If a row does not exist, or the hidden states are another engine's.
    pub fn token_scores(
        &self,
        hidden: &Hidden,
        rows: &[usize],
        targets: &[u32],
        with_gradient: bool,
    ) -> Result<TokenScores, ModelError> {
        self.check_tokens(targets)?;
        match &self.model {
            Model::Cpu(model) => {
                let picked = pick(hidden.cpu(), rows, self.spec.hidden);
                let most = model.row_chunks.head_rows;
                let head = model.head();
                Ok(token_scores(&picked, targets, head, self.compute, most, with_gradient))
            }
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => {
                Ok(model.token_scores(hidden.device(), rows, targets, with_gradient)?)
            }
        }
    }

    /// Runs a policy over `input` and keeps what its gradient needs; rows see those of the pass alone.
    ///
    /// # Errors
    /// As [`Self::hidden`].
    ///
    /// # Panics
    /// If the adapter was made by another engine.
    pub fn trace(
        &self,
        input: Input<'_>,
        adapter: &Adapter,
        interrupt: &Interrupt,
    ) -> Result<Trace, ModelError> {
        self.check_tokens(input.tokens)?;
        Ok(match &self.model {
            Model::Cpu(model) => Trace::Cpu(model.trace(input, adapter.cpu(), interrupt)?),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => {
                Trace::Device(model.trace(&input, adapter.device(), interrupt)?)
            }
        })
    }

    /// The hidden states behind a traced pass.
    ///
    /// # Errors
    /// A failing device.
    ///
    /// # Panics
    /// If the trace is another engine's.
    pub fn traced(&self, trace: &Trace) -> Result<Hidden, ModelError> {
        Ok(match &self.model {
            Model::Cpu(model) => Hidden::Cpu(model.traced(trace.cpu())),
            #[cfg(any(test, feature = "candle"))]
            Model::Device(model) => Hidden::Device(model.traced(trace.device())?),
        })
    }

    /// From `g: [rows, hidden]`, the gradient of [`Self::traced`], to those of the LoRA factors,
    /// which are added to `sums`.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] between blocks; a failing device.
    ///
    /// # Panics
    /// If shapes don't fit together, or the trace or the adapter is another engine's.
    pub fn backward(
        &self,
        trace: Trace,
        g: Vec<f32>,
        adapter: &Adapter,
        sums: &mut LoraTensors,
        interrupt: &Interrupt,
    ) -> Result<(), ModelError> {
        match (&self.model, trace) {
            (Model::Cpu(model), Trace::Cpu(trace)) => {
                model.backward(trace, g, adapter.cpu(), sums, interrupt)
            }
            #[cfg(any(test, feature = "candle"))]
            (Model::Device(model), Trace::Device(trace)) => {
                model.backward(trace, &g, adapter.device(), sums, interrupt)
            }
            #[cfg(any(test, feature = "candle"))]
            _ => panic!("made by an engine on another device"),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let vocabulary = self.spec.vocab;
        match tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(&id) => Err(ModelError::Token { id, vocabulary }),
            None => Ok(()),
        }
    }
}

/// Some rows of `[_, width]`; borrowed where they follow one another.
fn pick<'a>(all: &'a [f32], rows: &[usize], width: usize) -> Cow<'a, [f32]> {
    let first = rows.first().copied().unwrap_or(0);
    if rows.iter().enumerate().all(|(i, row)| *row == first + i) {
        return Cow::Borrowed(&all[first * width..(first + rows.len()) * width]);
    }
    let rows = rows.iter().flat_map(|row| &all[row * width..(row + 1) * width]);
    Cow::Owned(rows.copied().collect())
}
