//! LoRA adapters as PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, and beside
//! them `latrod.json`, which says which model file the adapter was made for. `gguf` writes the same
//! adapter as a GGUF file for llama.cpp.
//!
//! Owns reading, writing and the checks against the model's shape. Doesn't load models: what it
//! needs to know about one comes as an [`AdapterShape`].

mod config;
mod gguf;
mod manifest;
mod names;

use std::collections::BTreeMap;
use std::path::Path;

pub use config::{AdapterConfig, CONFIG_FILE};
pub use gguf::write_gguf_lora;
pub use manifest::{AdapterManifest, MANIFEST_FILE, Training, file_sha256};
pub use names::{lora_from_peft, peft_tensors};

use super::StoreError;
use super::durable::create_folder;
use super::tensors::{TensorReader, write_safetensors};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Target};
use crate::arch::spec::ModelSpec;
use names::peft_name;

/// PEFT's name for the file of tensors.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What must be known about a model to read or write an adapter for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterShape {
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Rows of q or k per head.
    pub head_dim: usize,
    /// Whether the GGUF file stores q's and k's rows in rotary pairs, as those of llama
    /// architecture do.
    pub permuted_qk: bool,
    /// The linear layers that can be adapted, with their sizes (out, in).
    pub dims: BTreeMap<Target, (usize, usize)>,
}

impl From<&ModelSpec> for AdapterShape {
    fn from(spec: &ModelSpec) -> Self {
        Self {
            layers: spec.layers,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            permuted_qk: spec.family.permuted_qk,
            dims: spec.targets().map(|t| (t, spec.target_dims(t))).collect(),
        }
    }
}

impl AdapterShape {
    /// The shape of a tensor of the given rank, rows and columns; `None` if the model has no such
    /// layer.
    #[must_use]
    pub fn tensor_shape(&self, key: LoraKey, rank: usize) -> Option<[usize; 2]> {
        let &(out, input) = self.dims.get(&key.target)?;
        (key.layer < self.layers).then_some(match key.factor {
            Factor::A => [rank, input],
            Factor::B => [out, rank],
        })
    }

    /// Every tensor that an adapter of these targets has.
    fn keys<'a>(&self, targets: &'a [Target]) -> impl Iterator<Item = LoraKey> + use<'a> {
        (0..self.layers).flat_map(move |layer| {
            targets.iter().flat_map(move |&target| {
                [Factor::A, Factor::B].map(|factor| LoraKey { layer, target, factor })
            })
        })
    }
}

/// Reads the PEFT adapter in `dir` for a model of the given shape.
///
/// # Errors
/// [`StoreError::Io`] if a file cannot be read, [`StoreError::Config`] and
/// [`StoreError::Unsupported`] if the configuration is not one of a plain LoRA adapter,
/// [`StoreError::Damaged`] if the file of tensors is, and the tensor errors (missing, unexpected,
/// shape, type) if the adapter belongs to another model.
pub fn read_peft(
    dir: &Path,
    shape: &AdapterShape,
) -> Result<(AdapterConfig, LoraTensors), StoreError> {
    let config = AdapterConfig::read(dir)?;
    let path = dir.join(WEIGHTS_FILE);
    let mut reader = TensorReader::open(&path)?;
    check_table(&reader, &config, shape).map_err(|error| error.in_file(&path))?;
    let tensors = reader.read_all()?;
    let lora = lora_from_peft(tensors, shape).map_err(|error| error.in_file(reader.path()))?;
    Ok((config, lora))
}

/// Writes a PEFT adapter folder, the tensors last: with them it is complete.
///
/// # Errors
/// [`StoreError::Io`] if a file cannot be written, and the tensor errors if `tensors` are not
/// exactly those that `config` and `shape` ask for.
pub fn write_peft(
    dir: &Path,
    config: &AdapterConfig,
    tensors: &LoraTensors,
    shape: &AdapterShape,
) -> Result<(), StoreError> {
    check_complete(config, tensors, shape)?;
    let named = peft_tensors(tensors, shape)?;
    create_folder(dir)?;
    config.write(dir)?;
    write_safetensors(&dir.join(WEIGHTS_FILE), &named)
}

/// Compares a file's names and shapes with what the model needs, before any value is read.
fn check_table(
    reader: &TensorReader,
    config: &AdapterConfig,
    shape: &AdapterShape,
) -> Result<(), StoreError> {
    let mut expected = BTreeMap::new();
    for key in shape.keys(&config.target_modules) {
        let size = shape.tensor_shape(key, config.r).ok_or_else(|| no_such_layer(key))?;
        expected.insert(peft_name(key), size);
    }
    for name in reader.names() {
        let found = reader.shape(&name).unwrap_or_default();
        match expected.remove(&name) {
            Some(size) if size == found => {}
            Some(size) => {
                return Err(StoreError::Shape { name, expected: size.into(), found: found.into() });
            }
            None => {
                let why = names::why_unexpected(&name, shape);
                return Err(StoreError::UnexpectedTensor { name, why });
            }
        }
    }
    match expected.pop_first() {
        Some((name, shape)) => Err(StoreError::MissingTensor { name, shape }),
        None => Ok(()),
    }
}

fn check_complete(
    config: &AdapterConfig,
    tensors: &LoraTensors,
    shape: &AdapterShape,
) -> Result<(), StoreError> {
    let mut count = 0;
    for key in shape.keys(&config.target_modules) {
        let size = shape.tensor_shape(key, config.r).ok_or_else(|| no_such_layer(key))?;
        let matrix = tensors
            .get(&key)
            .ok_or_else(|| StoreError::MissingTensor { name: peft_name(key), shape: size })?;
        names::check_size(key, matrix, size)?;
        count += 1;
    }
    let targets = &config.target_modules;
    match tensors.keys().find(|key| !targets.contains(&key.target)) {
        Some(&key) => Err(StoreError::UnexpectedTensor {
            name: peft_name(key),
            why: "its layer is not among the target modules".into(),
        }),
        None if tensors.len() > count => Err(StoreError::UnexpectedTensor {
            name: tensors.keys().last().map(|&key| peft_name(key)).unwrap_or_default(),
            why: format!("the model has {} layers", shape.layers),
        }),
        None => Ok(()),
    }
}

fn no_such_layer(key: LoraKey) -> StoreError {
    StoreError::UnexpectedTensor {
        name: peft_name(key),
        why: format!("it has no {} layers to adapt", key.target.peft_name()),
    }
}

#[cfg(test)]
mod tests;
