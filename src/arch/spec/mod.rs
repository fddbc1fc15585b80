//! What a GGUF file says its model is: the architecture as plain numbers, checked against the
//! tensors that are there.
//!
//! Owns which architectures, tensors and tensor types this program can compute with. Reads no
//! weights.

use std::path::PathBuf;

use crate::arch::block::{Block, Value};
use crate::arch::lora::Target;
use crate::arch::{FAMILIES, Family};
use crate::gguf::{GgmlType, GgufError, GgufFile, Metadata, TensorInfo, printable};
use crate::ops::attention::HeadShape;

/// The rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The frequencies fall from 1 to about 1 / base.
    pub base: f32,
    /// How many leading values of each head are rotated; even.
    pub dim: usize,
    /// By what all frequencies are divided (`rope.scaling.type = linear`); 1 is no scaling.
    pub linear_factor: f32,
    /// Whether `rope_freqs.weight: [dim / 2]` divides each frequency by a factor of its own
    /// (Llama 3.1).
    pub has_factors: bool,
}

impl Rope {
    /// Radians per position of each rotated pair, `[dim / 2]`: base^(−2i / dim), divided by the
    /// linear factor and by `factors: [dim / 2]` if given (Su et al. 2021, arXiv 2104.09864; ggml
    /// `ggml_rope_ext`).
    #[must_use]
    pub fn frequencies(&self, factors: Option<&[f32]>) -> Vec<f32> {
        let (base, dim) = (f64::from(self.base), self.dim as f64);
        (0..self.dim / 2)
            .map(|i| {
                let factor =
                    f64::from(factors.map_or(1.0, |f| f[i])) * f64::from(self.linear_factor);
                (base.powf(-2.0 * i as f64 / dim) / factor) as f32
            })
            .collect()
    }
}

/// A model that this program can compute, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    pub family: &'static Family,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward network.
    pub ffn: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// The longest sequence that the model was made for, tokens.
    pub context_length: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_eps: f32,
    pub rope: Rope,
    /// Whether the head uses the embedding's weight; there is no `output.weight` then.
    pub tied_embeddings: bool,
}

/// Why a GGUF file is no model that this program can compute.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(
        "{}: the architecture {found} is not supported; supported: {}",
        path.display(),
        FAMILIES.map(|family| family.name).join(", ")
    )]
    UnsupportedArchitecture { path: PathBuf, found: String },
    #[error("{} has no tensor {name}, which a {architecture} model needs", path.display())]
    MissingTensor { path: PathBuf, name: String, architecture: &'static str },
    #[error("{}: tensor {name} should be {expected}, but is {found}", path.display())]
    WrongTensor { path: PathBuf, name: String, expected: String, found: String },
    #[error(
        "{}: tensor {name} is part of a variant of {architecture} that is not supported",
        path.display()
    )]
    UnknownTensor { path: PathBuf, name: String, architecture: &'static str },
}

/// The types that linear weights and embeddings may have.
pub const WEIGHT_TYPES: [GgmlType; 11] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
];

impl From<&ModelSpec> for HeadShape {
    fn from(spec: &ModelSpec) -> Self {
        let ModelSpec { heads, kv_heads, head_dim, .. } = *spec;
        Self { heads, kv_heads, head_dim }
    }
}

impl ModelSpec {
    /// Reads the description from a file's metadata and checks that every tensor it implies is
    /// there, with the right shape and a type that the kernels take, and that no other tensor is.
    ///
    /// # Errors
    /// [`SpecError`], which names the key or tensor, what was expected and what was found.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, SpecError> {
        let found = file.metadata().str("general.architecture")?;
        let family = FAMILIES.into_iter().find(|family| family.name == found).ok_or_else(|| {
            SpecError::UnsupportedArchitecture { path: file.path().into(), found: printable(found) }
        })?;
        let spec = Self::read(file, family)?;
        spec.check_tensors(file)?;
        Ok(spec)
    }

    /// The steps of a block.
    #[must_use]
    pub fn block(&self) -> Block {
        Block::new(self.family)
    }

    /// The width of a row of a block's value.
    #[must_use]
    pub const fn width(&self, value: Value) -> usize {
        match value {
            Value::Residual | Value::Normed | Value::Out => self.hidden,
            Value::Q | Value::Attended => self.heads * self.head_dim,
            Value::K | Value::V => self.kv_heads * self.head_dim,
            Value::Gate | Value::Up | Value::Gated => self.ffn,
        }
    }

    /// The linear layers of a block, in its order: those that LoRA can adapt.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.block().groups().flatten().copied().collect::<Vec<_>>().into_iter()
    }

    /// Output and input width of a linear layer: its weight is `[out, in]`.
    #[must_use]
    pub const fn target_dims(&self, target: Target) -> (usize, usize) {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match target {
            Target::Q => (q, self.hidden),
            Target::K | Target::V => (kv, self.hidden),
            Target::O => (self.hidden, q),
            Target::Gate | Target::Up => (self.ffn, self.hidden),
            Target::Down => (self.hidden, self.ffn),
        }
    }

    fn read(file: &GgufFile, family: &'static Family) -> Result<Self, SpecError> {
        let keys = Keys { metadata: file.metadata(), prefix: family.name };
        keys.refuse_variants()?;
        let hidden = keys.size("embedding_length", 1 << 17)?;
        let heads = keys.size("attention.head_count", 1 << 12)?;
        let kv_heads = match keys.opt_size("attention.head_count_kv", heads)? {
            Some(n) if !heads.is_multiple_of(n) => {
                return Err(keys.problem("attention.head_count_kv", n, "divides the head count"));
            }
            n => n.unwrap_or(heads),
        };
        let head_dim = match keys.opt_size("attention.key_length", 1 << 12)? {
            Some(n) => n,
            None if !hidden.is_multiple_of(heads) => {
                return Err(keys.problem("attention.head_count", heads, "divides the width"));
            }
            None => hidden / heads,
        };
        if !head_dim.is_multiple_of(2) {
            return Err(keys.problem("attention.key_length", head_dim, "is even"));
        }
        keys.expect("attention.value_length", head_dim)?;
        keys.expect("rope.dimension_count", head_dim)?;
        let embedding = required(file, "token_embd.weight", family)?;
        Ok(Self {
            family,
            layers: keys.size("block_count", 1 << 10)?,
            hidden,
            ffn: keys.size("feed_forward_length", 1 << 20)?,
            heads,
            kv_heads,
            head_dim,
            vocab: match file.metadata().opt_strings("tokenizer.ggml.tokens")? {
                Some(tokens) => tokens.len(),
                None => embedding.rows(),
            },
            context_length: keys.size("context_length", 1 << 24)?,
            rms_eps: keys.number("attention.layer_norm_rms_epsilon", None, 0.0..=0.1)?,
            rope: Rope {
                base: keys.number("rope.freq_base", Some(10_000.0), 1.0..=1e12)?,
                dim: head_dim,
                linear_factor: keys.linear_rope_factor()?,
                has_factors: file.tensor("rope_freqs.weight").is_some(),
            },
            tied_embeddings: file.tensor("output.weight").is_none(),
        })
    }

    /// Every tensor that the file must have, with its dimensions in the file's order.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![
            ("token_embd.weight".into(), vec![self.hidden, self.vocab]),
            ("output_norm.weight".into(), vec![self.hidden]),
        ];
        if !self.tied_embeddings {
            all.push(("output.weight".into(), vec![self.hidden, self.vocab]));
        }
        if self.rope.has_factors {
            all.push(("rope_freqs.weight".into(), vec![self.rope.dim / 2]));
        }
        let block = self.block();
        for layer in 0..self.layers {
            for (vector, value) in block.vectors() {
                let name = format!("blk.{layer}.{}", vector.gguf_name());
                all.push((name, vec![self.width(value)]));
            }
            for &target in block.groups().flatten() {
                let (out, input) = self.target_dims(target);
                let name = format!("blk.{layer}.{}.weight", target.gguf_name());
                all.push((name, vec![input, out]));
            }
        }
        all
    }

    fn check_tensors(&self, file: &GgufFile) -> Result<(), SpecError> {
        let expected = self.tensors();
        for (name, dims) in &expected {
            let tensor = required(file, name, self.family)?;
            // A vector may be written as a matrix of one row.
            let same_shape = tensor.cols() == dims[0]
                && tensor.elements() == dims.iter().product::<usize>()
                && tensor.dims.get(1).is_none_or(|&d| d == dims.get(1).copied().unwrap_or(1));
            let kinds: &[GgmlType] = if dims.len() == 1 { &[GgmlType::F32] } else { &WEIGHT_TYPES };
            if !same_shape || !kinds.contains(&tensor.ggml_type) {
                return Err(SpecError::WrongTensor {
                    path: file.path().into(),
                    name: name.clone(),
                    expected: format!("{} of shape {dims:?}", list(kinds)),
                    found: format!("{} of shape {:?}", tensor.ggml_type, tensor.dims),
                });
            }
        }
        // All expected names are there, and names are unique: a larger table has something more.
        if file.tensors().len() > expected.len() {
            let known: std::collections::HashSet<&str> =
                expected.iter().map(|(name, _)| name.as_str()).collect();
            if let Some(other) = file.tensors().iter().find(|t| !known.contains(t.name.as_str())) {
                return Err(SpecError::UnknownTensor {
                    path: file.path().into(),
                    name: printable(&other.name),
                    architecture: self.family.name,
                });
            }
        }
        Ok(())
    }
}

fn required<'a>(
    file: &'a GgufFile,
    name: &str,
    family: &Family,
) -> Result<&'a TensorInfo, SpecError> {
    file.tensor(name).ok_or_else(|| SpecError::MissingTensor {
        path: file.path().into(),
        name: name.into(),
        architecture: family.name,
    })
}

fn list(kinds: &[GgmlType]) -> String {
    kinds.iter().map(|k| k.name()).collect::<Vec<_>>().join("|")
}

/// The metadata keys of one architecture, read with bounds so that nothing absurd gets further.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn problem(&self, key: &str, found: impl std::fmt::Display, wish: &str) -> SpecError {
        let problem = format!("is {found}, but only a value that {wish} is supported");
        self.metadata.error(&self.name(key), problem).into()
    }

    fn opt_size(&self, key: &str, most: usize) -> Result<Option<usize>, SpecError> {
        let Some(n) = self.metadata.opt_u64(&self.name(key))? else { return Ok(None) };
        match usize::try_from(n) {
            Ok(n) if (1..=most).contains(&n) => Ok(Some(n)),
            _ => Err(self.problem(key, n, &format!("lies between 1 and {most}"))),
        }
    }

    fn size(&self, key: &str, most: usize) -> Result<usize, SpecError> {
        self.opt_size(key, most)?.ok_or_else(|| self.metadata.missing(&self.name(key)).into())
    }

    /// An optional size that must be `value` where it is stated.
    fn expect(&self, key: &str, value: usize) -> Result<(), SpecError> {
        match self.metadata.opt_u64(&self.name(key))? {
            Some(n) if n != value as u64 => Err(self.problem(key, n, &format!("equals {value}"))),
            _ => Ok(()),
        }
    }

    /// A number within bounds and above 0; `default` where the key is missing, if there is one.
    fn number(
        &self,
        key: &str,
        default: Option<f32>,
        bounds: std::ops::RangeInclusive<f32>,
    ) -> Result<f32, SpecError> {
        let stated = self.metadata.opt_f32(&self.name(key))?;
        let x = stated.or(default).ok_or_else(|| self.metadata.missing(&self.name(key)))?;
        if x > 0.0 && bounds.contains(&x) {
            return Ok(x);
        }
        let wish = format!("is above 0 and between {} and {}", bounds.start(), bounds.end());
        Err(self.problem(key, x, &wish))
    }

    /// The factor of linear scaling; llama.cpp takes an unnamed kind of scaling for linear.
    fn linear_rope_factor(&self) -> Result<f32, SpecError> {
        let kind = "rope.scaling.type";
        match self.metadata.opt_str(&self.name(kind))? {
            Some("none") => Ok(1.0),
            None | Some("linear") => {
                let old = self.number("rope.scale_linear", Some(1.0), 1e-3..=1e4)?;
                self.number("rope.scaling.factor", Some(old), 1e-3..=1e4)
            }
            Some(other) => Err(self.problem(kind, printable(other), "is none or linear")),
        }
    }

    /// Keys that would change the computation in ways that the transformer doesn't know.
    fn refuse_variants(&self) -> Result<(), SpecError> {
        for key in ["expert_count", "attention.sliding_window"] {
            self.expect(key, 0)?;
        }
        for (key, neutral) in
            [("attention.scale", 0.0), ("logit_scale", 1.0), ("embedding_scale", 1.0)]
        {
            match self.metadata.opt_f32(&self.name(key))? {
                Some(x) if x.total_cmp(&neutral).is_ne() => {
                    return Err(self.problem(key, x, &format!("equals {neutral}")));
                }
                _ => {}
            }
        }
        if self.metadata.opt_bool(&self.name("attention.causal"))? == Some(false) {
            return Err(self.problem("attention.causal", false, "is true"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
