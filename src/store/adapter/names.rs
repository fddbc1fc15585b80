//! PEFT's tensor names, and the row order of q and k.
//!
//! For llama architecture, GGUF files store q's and k's rows so that the two halves of a rotary
//! pair are neighbors: in a head of size d, GGUF row 2i+j is row j·d/2+i of Hugging Face's order
//! (j = 0, 1). An update B·A has the rows of B, so only B is reordered.

use std::collections::BTreeMap;

use super::super::StoreError;
use super::AdapterShape;
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, Target};

const PREFIX: &str = "base_model.model.model.layers.";

/// The direction of the reordering.
#[derive(Debug, Clone, Copy)]
enum Order {
    ToPeft,
    ToGguf,
}

/// LoRA tensors, or their gradients, under PEFT's names and in PEFT's row order.
///
/// # Errors
/// [`StoreError::Shape`] or [`StoreError::UnexpectedTensor`] if the tensors are not of this model.
pub fn peft_tensors(
    tensors: &LoraTensors,
    shape: &AdapterShape,
) -> Result<BTreeMap<String, Matrix>, StoreError> {
    let Some(rank) = tensors.iter().next().map(|(key, matrix)| rank_of(key.factor, matrix)) else {
        return Ok(BTreeMap::new());
    };
    tensors
        .iter()
        .map(|(&key, matrix)| {
            check_key(key, matrix, rank, shape)?;
            let matrix = match heads_of(key, shape) {
                Some(heads) => reorder(key, matrix, heads, shape.head_dim, Order::ToPeft)?,
                None => matrix.clone(),
            };
            Ok((peft_name(key), matrix))
        })
        .collect()
}

/// The inverse of [`peft_tensors`]: tensors by place, in the GGUF file's row order.
///
/// # Errors
/// [`StoreError::Shape`] or [`StoreError::UnexpectedTensor`] if the tensors are not of this model.
pub fn lora_from_peft(
    tensors: BTreeMap<String, Matrix>,
    shape: &AdapterShape,
) -> Result<LoraTensors, StoreError> {
    let mut rank = None;
    tensors
        .into_iter()
        .map(|(name, matrix)| {
            let Some(key) = key_of(&name) else {
                let why = why_unexpected(&name, shape);
                return Err(StoreError::UnexpectedTensor { name, why });
            };
            let rank = *rank.get_or_insert_with(|| rank_of(key.factor, &matrix));
            check_key(key, &matrix, rank, shape)?;
            let matrix = match heads_of(key, shape) {
                Some(heads) => reorder(key, &matrix, heads, shape.head_dim, Order::ToGguf)?,
                None => matrix,
            };
            Ok((key, matrix))
        })
        .collect()
}

/// The name of a tensor in `adapter_model.safetensors`.
pub(super) fn peft_name(key: LoraKey) -> String {
    let factor = match key.factor {
        Factor::A => 'A',
        Factor::B => 'B',
    };
    let (parent, module) = (key.target.peft_parent(), key.target.peft_name());
    format!("{PREFIX}{}.{parent}.{module}.lora_{factor}.weight", key.layer)
}

fn key_of(name: &str) -> Option<LoraKey> {
    let (layer, rest) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let layer = layer.parse().ok()?;
    Target::ALL
        .into_iter()
        .flat_map(|target| [Factor::A, Factor::B].map(|factor| LoraKey { layer, target, factor }))
        // Compared as a whole, so that `01` or a foreign parent is not taken for ours.
        .find(|&key| rest.starts_with(key.target.peft_parent()) && peft_name(key) == name)
}

/// Why a name has no place in a model.
pub(super) fn why_unexpected(name: &str, shape: &AdapterShape) -> String {
    match key_of(name) {
        Some(key) if key.layer >= shape.layers => format!("it has {} layers", shape.layers),
        Some(key) if !shape.dims.contains_key(&key.target) => {
            format!("it has no {} layers to adapt", key.target.peft_name())
        }
        Some(_) => "its layer is not among the target modules".into(),
        None => "LoRA tensors are named base_model.model.model.layers.<n>.<module>.lora_A.weight \
                 or lora_B"
            .into(),
    }
}

/// Fails unless `matrix` has the given rows and columns, and as many values.
pub(super) fn check_size(
    key: LoraKey,
    matrix: &Matrix,
    expected: [usize; 2],
) -> Result<(), StoreError> {
    if [matrix.rows, matrix.cols] != expected {
        return Err(StoreError::Shape {
            name: peft_name(key),
            expected: expected.into(),
            found: vec![matrix.rows, matrix.cols],
        });
    }
    if matrix.data.len() != matrix.rows * matrix.cols {
        return Err(StoreError::Unstorable {
            what: format!("tensor {}", peft_name(key)),
            reason: "its data does not fit its shape".into(),
        });
    }
    Ok(())
}

fn check_key(
    key: LoraKey,
    matrix: &Matrix,
    rank: usize,
    shape: &AdapterShape,
) -> Result<(), StoreError> {
    let name = peft_name(key);
    let Some(expected) = shape.tensor_shape(key, rank) else {
        let why = why_unexpected(&name, shape);
        return Err(StoreError::UnexpectedTensor { name, why });
    };
    check_size(key, matrix, expected)
}

fn rank_of(factor: Factor, matrix: &Matrix) -> usize {
    match factor {
        Factor::A => matrix.rows,
        Factor::B => matrix.cols,
    }
}

/// The number of heads whose rows differ between the two orders, `None` where they agree.
fn heads_of(key: LoraKey, shape: &AdapterShape) -> Option<usize> {
    match (key.target, key.factor) {
        (Target::Q, Factor::B) if shape.permuted_qk => Some(shape.heads),
        (Target::K, Factor::B) if shape.permuted_qk => Some(shape.kv_heads),
        _ => None,
    }
}

/// Reorders the rows within each head; see the module's header.
fn reorder(
    key: LoraKey,
    matrix: &Matrix,
    heads: usize,
    head_dim: usize,
    order: Order,
) -> Result<Matrix, StoreError> {
    if heads.checked_mul(head_dim) != Some(matrix.rows) || !head_dim.is_multiple_of(2) {
        return Err(StoreError::Shape {
            name: peft_name(key),
            expected: vec![heads.saturating_mul(head_dim), matrix.cols],
            found: vec![matrix.rows, matrix.cols],
        });
    }
    let (cols, half) = (matrix.cols, head_dim / 2);
    let mut data = Vec::with_capacity(matrix.data.len());
    for row in 0..matrix.rows {
        let (head, within) = (row / head_dim, row % head_dim);
        // `row` counts in the new order; where is it in the old one?
        let old = match order {
            Order::ToPeft => 2 * (within % half) + within / half,
            Order::ToGguf => (within % 2) * half + within / 2,
        };
        let start = (head * head_dim + old) * cols;
        data.extend_from_slice(&matrix.data[start..start + cols]);
    }
    Ok(Matrix { rows: matrix.rows, cols, data })
}
