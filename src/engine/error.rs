//! What can go wrong between a GGUF file and the numbers that its model computes.

use std::path::PathBuf;

use crate::arch::spec::SpecError;
use crate::gguf::GgufError;
use crate::kernels::KernelError;

/// An error of loading or running a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("{path} has no tensor {name}; the file is not a complete model")]
    Missing { path: PathBuf, name: String },
    #[error("tensor {name}: {source}")]
    Weights { name: String, source: KernelError },
    #[error(
        "{what} takes {tokens} tokens but the model's context ends at {context}; shorten it, or ask \
         for fewer new tokens"
    )]
    Context { what: String, tokens: usize, context: usize },
    #[error("token {id} is outside the model's vocabulary of {vocabulary}")]
    Token { id: u32, vocabulary: usize },
    #[error("the model computes {what} that are not numbers; its weights or adapter are damaged")]
    NonFinite { what: &'static str },
    #[error(
        "the device cannot compute: {0}; if it has run out of memory, take a smaller --batch or k"
    )]
    Device(String),
    #[error("{0}")]
    NoDevice(String),
    #[error("interrupted")]
    Interrupted,
}

#[cfg(any(test, feature = "candle"))]
impl From<candle_core::Error> for ModelError {
    /// The first line: candle may add the places in its own code.
    fn from(error: candle_core::Error) -> Self {
        Self::Device(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
