//! A model's frozen weights, packed for the kernels as they come from the file.

use std::sync::Arc;

use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::engine::ModelError;
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::PackedMatrix;

/// All weights of a model. Linear layers stay quantized; norms are f32.
#[derive(Debug)]
pub struct Weights {
    /// `[vocabulary, hidden]`
    pub embedding: Arc<PackedMatrix>,
    pub blocks: Vec<BlockWeights>,
    pub output_norm: Arc<[f32]>,
    /// `[vocabulary, hidden]`; the embedding itself where the file ties them.
    pub head: Arc<PackedMatrix>,
    /// Divisors of the rotary frequencies, `[head_dim / 2]`, if the file has them.
    pub rope_factors: Option<Vec<f32>>,
}

/// What a model's weights take in memory, from its file's header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct WeightBytes {
    /// Bytes once they are loaded.
    pub resident: u64,
    /// The most bytes while they are being loaded, when one tensor is there as in the file as well.
    pub loading: u64,
}

impl WeightBytes {
    /// Of the model in a file. Tensors without a kernel, of which a model that loads has none, count
    /// as in the file.
    #[must_use]
    pub fn of(file: &GgufFile) -> Self {
        // The order in which they are loaded.
        let place = |t: &&TensorInfo| match t.name.as_str() {
            "token_embd.weight" => 0,
            "output.weight" => 1,
            _ => 2,
        };
        let mut tensors: Vec<&TensorInfo> = file.tensors().iter().collect();
        tensors.sort_by_key(place);
        let mut sum = Self::default();
        for tensor in tensors {
            let in_file = tensor.bytes().unwrap_or(0);
            sum.add(packed_bytes(tensor).unwrap_or(in_file), in_file);
        }
        sum
    }

    /// Counts one tensor more.
    fn add(&mut self, packed: u64, in_file: u64) {
        self.resident = self.resident.saturating_add(packed);
        self.loading = self.loading.max(self.resident.saturating_add(in_file));
    }
}

fn packed_bytes(tensor: &TensorInfo) -> Option<u64> {
    match tensor.dims.len() {
        1 => tensor.bytes(),
        _ => PackedMatrix::packed_bytes(tensor.ggml_type, tensor.rows(), tensor.cols()),
    }
}

/// The weights of one transformer block.
#[derive(Debug)]
pub struct BlockWeights {
    pub attention_norm: Arc<[f32]>,
    pub ffn_norm: Arc<[f32]>,
    linear: [Arc<PackedMatrix>; Target::ALL.len()],
}

impl BlockWeights {
    /// The weight of a linear layer, `[out, in]`.
    #[must_use]
    pub fn linear(&self, target: Target) -> &Arc<PackedMatrix> {
        &self.linear[target as usize]
    }
}

impl Weights {
    /// Reads and packs every tensor that `spec` asks for.
    ///
    /// # Errors
    /// If a tensor is missing, cannot be read or has a type without a kernel.
    pub fn load(file: &GgufFile, spec: &ModelSpec) -> Result<Self, ModelError> {
        let embedding = matrix(file, "token_embd.weight")?;
        let head = match spec.tied_embeddings {
            true => Arc::clone(&embedding),
            false => matrix(file, "output.weight")?,
        };
        let blocks = (0..spec.layers).map(|i| block(file, i)).collect::<Result<_, _>>()?;
        let output_norm = vector(file, "output_norm.weight")?.into();
        Ok(Self { embedding, blocks, output_norm, head, rope_factors: rope_factors(file)? })
    }

    /// Bytes that the weights occupy in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let tied = Arc::ptr_eq(&self.embedding, &self.head);
        let head = if tied { 0 } else { self.head.resident_bytes() };
        let block = |b: &BlockWeights| b.linear.iter().map(|m| m.resident_bytes()).sum::<usize>();
        self.embedding.resident_bytes() + head + self.blocks.iter().map(block).sum::<usize>()
    }
}

fn block(file: &GgufFile, layer: usize) -> Result<BlockWeights, ModelError> {
    let name = |part: &str| format!("blk.{layer}.{part}.weight");
    let linear = Target::ALL
        .iter()
        .map(|t| matrix(file, &name(t.gguf_name())))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(BlockWeights {
        attention_norm: vector(file, &name("attn_norm"))?.into(),
        ffn_norm: vector(file, &name("ffn_norm"))?.into(),
        linear: linear.try_into().expect("one weight a target"),
    })
}

fn matrix(file: &GgufFile, name: &str) -> Result<Arc<PackedMatrix>, ModelError> {
    let info = find(file, name)?;
    let bytes = file.read_tensor(info)?;
    PackedMatrix::pack(info.ggml_type, info.rows(), info.cols(), &bytes)
        .map(Arc::new)
        .map_err(|source| ModelError::Weights { name: name.to_owned(), source })
}

/// Divisors of the rotary frequencies, if the file has them.
pub(crate) fn rope_factors(file: &GgufFile) -> Result<Option<Vec<f32>>, ModelError> {
    let name = "rope_freqs.weight";
    file.tensor(name).map(|_| vector(file, name)).transpose()
}

/// An f32 tensor of one dimension; `ModelSpec` has checked type and length.
pub(crate) fn vector(file: &GgufFile, name: &str) -> Result<Vec<f32>, ModelError> {
    let info = find(file, name)?;
    let bytes = file.read_tensor(info)?;
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

pub(crate) fn find<'a>(file: &'a GgufFile, name: &str) -> Result<&'a TensorInfo, ModelError> {
    file.tensor(name)
        .ok_or_else(|| ModelError::Missing { path: file.path().to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_header_tells_what_loaded_weights_take() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        let spec = ModelSpec::from_gguf(&file).unwrap();
        let weights = Weights::load(&file, &spec).unwrap();
        let norms = 4 * spec.hidden * (2 * spec.layers + 1);

        let bytes = WeightBytes::of(&file);

        assert_eq!(bytes.resident, (weights.resident_bytes() + norms) as u64);
        assert!(bytes.loading > bytes.resident);
    }

    #[test]
    fn while_loading_a_tensor_is_there_twice() {
        let mut bytes = WeightBytes::default();
        for (packed, in_file) in [(100, 90), (10, 9)] {
            bytes.add(packed, in_file);
        }

        assert_eq!(bytes, WeightBytes { resident: 110, loading: 190 });
    }
}
