//! A model's frozen weights: read once from the file, in the order of its architecture, and handed to
//! an engine tensor by tensor.

use crate::arch::block::Vector;
use crate::arch::lora::Target;
use crate::arch::spec::ModelSpec;
use crate::engine::ModelError;
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::PackedMatrix;

/// How an engine takes tensors in.
pub trait Upload {
    /// A quantized matrix `[rows, cols]`; a clone is the same one.
    type Matrix: Clone;
    /// An f32 tensor of one dimension.
    type Vector;

    /// A matrix from its bytes in the file.
    ///
    /// # Errors
    /// If its type has no kernel, or there is no memory for it.
    fn matrix(&self, info: &TensorInfo, bytes: Vec<u8>) -> Result<Self::Matrix, ModelError>;

    /// A vector from its values.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, ModelError>;
}

/// All weights of a model. Linear layers stay quantized; norms and biases are f32.
#[derive(Debug)]
pub struct Weights<M, V> {
    /// `[vocabulary, hidden]`
    pub embedding: M,
    pub blocks: Vec<BlockWeights<M, V>>,
    pub output_norm: V,
    /// `[vocabulary, hidden]`; the embedding itself where the file ties them.
    pub head: M,
    /// Divisors of the rotary frequencies, `[rope dim / 2]`, if the file has them.
    pub rope_factors: Option<Vec<f32>>,
    tied: bool,
}

/// The weights of one transformer block.
#[derive(Debug)]
pub struct BlockWeights<M, V> {
    linear: Vec<(Target, M)>,
    vectors: Vec<(Vector, V)>,
}

impl<M, V> BlockWeights<M, V> {
    /// The weight of a linear layer, `[out, in]`.
    ///
    /// # Panics
    /// If the architecture has no such layer.
    #[must_use]
    pub fn linear(&self, target: Target) -> &M {
        let found = self.linear.iter().find(|(of, _)| *of == target);
        &found.expect("the block has the layer").1
    }

    /// A norm's weight or a bias.
    ///
    /// # Panics
    /// If the architecture has no such vector.
    #[must_use]
    pub fn vector(&self, vector: Vector) -> &V {
        let found = self.vectors.iter().find(|(of, _)| *of == vector);
        &found.expect("the block has the vector").1
    }
}

impl<M: Clone, V> Weights<M, V> {
    /// Reads every tensor that the architecture asks for.
    ///
    /// # Errors
    /// If a tensor is missing or cannot be read; those of `upload`.
    pub fn load(
        file: &GgufFile,
        spec: &ModelSpec,
        upload: &impl Upload<Matrix = M, Vector = V>,
    ) -> Result<Self, ModelError> {
        let matrix = |name: &str| {
            let info = find(file, name)?;
            upload.matrix(info, file.read_tensor(info)?)
        };
        let embedding = matrix("token_embd.weight")?;
        let tied = spec.tied_embeddings;
        let head = if tied { embedding.clone() } else { matrix("output.weight")? };
        let block = spec.block();
        let of_layer = |layer: usize| {
            let linear = block.groups().flatten().map(|&target| {
                let name = format!("blk.{layer}.{}.weight", target.gguf_name());
                Ok((target, matrix(&name)?))
            });
            let vectors = block.vectors().map(|(vector, _)| {
                let name = format!("blk.{layer}.{}", vector.gguf_name());
                Ok((vector, upload.vector(floats(file, &name)?)?))
            });
            Ok(BlockWeights {
                linear: linear.collect::<Result<_, ModelError>>()?,
                vectors: vectors.collect::<Result<_, ModelError>>()?,
            })
        };
        let blocks = (0..spec.layers).map(of_layer).collect::<Result<_, ModelError>>()?;
        let output_norm = upload.vector(floats(file, "output_norm.weight")?)?;
        let rope_factors = "rope_freqs.weight";
        let rope_factors =
            file.tensor(rope_factors).map(|_| floats(file, rope_factors)).transpose()?;
        Ok(Self { embedding, blocks, output_norm, head, rope_factors, tied })
    }

    /// Every matrix, once.
    pub fn matrices(&self) -> impl Iterator<Item = &M> {
        let head = (!self.tied).then_some(&self.head);
        let blocks = self.blocks.iter().flat_map(|block| &block.linear);
        std::iter::once(&self.embedding).chain(head).chain(blocks.map(|(_, matrix)| matrix))
    }
}

/// An f32 tensor of one dimension; [`ModelSpec`] has checked type and length.
fn floats(file: &GgufFile, name: &str) -> Result<Vec<f32>, ModelError> {
    let bytes = file.read_tensor(find(file, name)?)?;
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn find<'a>(file: &'a GgufFile, name: &str) -> Result<&'a TensorInfo, ModelError> {
    file.tensor(name)
        .ok_or_else(|| ModelError::Missing { path: file.path().to_owned(), name: name.to_owned() })
}

/// What a model's weights take in the CPU's memory, from its file's header alone.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::Engine;
    use crate::engine::cpu::CpuEngine;
    use crate::engine::device::DeviceKind;
    use crate::kernels::Compute;

    #[test]
    fn the_header_tells_what_loaded_weights_take() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        let engine = CpuEngine::load(&file, Compute::Exact, DeviceKind::Cpu).unwrap();
        let norms = 4 * engine.spec().hidden * (2 * engine.spec().layers + 1);

        let bytes = WeightBytes::of(&file);

        assert_eq!(bytes.resident, (engine.resident_bytes() + norms) as u64);
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
