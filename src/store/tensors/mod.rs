//! Matrices in safetensors files, streamed in both directions.
//!
//! Owns the limits and checks that a file from outside must pass before memory is taken for it; the
//! header's JSON is the `safetensors` crate's. Doesn't know what the tensors are for.
//! Format: <https://huggingface.co/docs/safetensors>.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::StoreError;
use super::durable::{open_regular, write_atomic};
use crate::arch::lora::Matrix;

/// The largest header that is read or written, in bytes.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The file starts with the header's length as a little-endian u64.
const LENGTH_BYTES: usize = 8;
/// Bytes converted at a time. A multiple of every value's size.
const CHUNK_BYTES: usize = 1 << 16;

/// Writes `tensors` as F32 to a safetensors file, durably. The same tensors give the same bytes.
///
/// # Errors
/// [`StoreError::Unstorable`] if a matrix's data does not fit its shape, [`StoreError::Io`] if the
/// file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Matrix>,
) -> Result<(), StoreError> {
    write_tensors(path, ("format", "pt"), tensors)
}

/// Reads a safetensors file of matrices (F32, F16 or BF16) as f32.
///
/// # Errors
/// [`StoreError::Io`], or [`StoreError::Damaged`] if it is not such a file, or
/// [`StoreError::Shape`] and [`StoreError::Dtype`] if it holds something else than matrices.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Matrix>, StoreError> {
    TensorReader::open(path)?.read_all()
}

/// As [`write_safetensors`], with one entry of metadata. One, because the `safetensors` crate
/// orders several by a randomized hash, and equal content must give equal bytes.
pub(super) fn write_tensors<M: Borrow<Matrix>>(
    path: &Path,
    metadata: (&str, &str),
    tensors: &BTreeMap<String, M>,
) -> Result<(), StoreError> {
    let header = header_of(metadata, tensors)?;
    write_atomic(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(&header)?;
        for matrix in tensors.values() {
            for_each_chunk(&matrix.borrow().data, |bytes| w.write_all(bytes))?;
        }
        Ok(())
    })
}

fn header_of<M: Borrow<Matrix>>(
    metadata: (&str, &str),
    tensors: &BTreeMap<String, M>,
) -> Result<Vec<u8>, StoreError> {
    let mut offset = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, matrix) in tensors {
        let matrix = matrix.borrow();
        let unstorable = |reason: &str| StoreError::Unstorable {
            what: format!("tensor {name}"),
            reason: reason.to_owned(),
        };
        if matrix.rows.checked_mul(matrix.cols) != Some(matrix.data.len()) {
            return Err(unstorable("its data does not fit its shape"));
        }
        if name == "__metadata__" {
            return Err(unstorable("the format reserves that name"));
        }
        let end = offset + matrix.data.len() * size_of::<f32>();
        infos.push((
            name.clone(),
            TensorInfo {
                dtype: Dtype::F32,
                shape: vec![matrix.rows, matrix.cols],
                data_offsets: (offset, end),
            },
        ));
        offset = end;
    }
    let unstorable = |reason: String| StoreError::Unstorable { what: "the header".into(), reason };
    let metadata = HashMap::from([(metadata.0.to_owned(), metadata.1.to_owned())]);
    let header = Metadata::new(Some(metadata), infos).map_err(|e| unstorable(e.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| unstorable(e.to_string()))?;
    // Readers that map the file want the data aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(unstorable(format!(
            "it has {} bytes, at most {MAX_HEADER_BYTES}",
            header.len()
        )));
    }
    Ok(header)
}

/// Passes `values` on as little-endian bytes, a chunk at a time, so that no second copy is made.
pub(super) fn for_each_chunk<E>(
    values: &[f32],
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = Vec::with_capacity(CHUNK_BYTES.min(size_of_val(values)));
    for chunk in values.chunks(CHUNK_BYTES / size_of::<f32>()) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
}

/// An open safetensors file whose header has been checked: every tensor lies inside the file, in
/// order and without gaps, and fits its shape.
pub(super) struct TensorReader {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
}

impl TensorReader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let (mut file, length) = open_regular(path)?;
        let damaged = |what: String| StoreError::damaged(path, what);
        let mut header_length = [0; LENGTH_BYTES];
        let Some(after_length) = length.checked_sub(LENGTH_BYTES as u64) else {
            return Err(damaged(format!("it has only {length} bytes")));
        };
        file.read_exact(&mut header_length).map_err(StoreError::io("read", path))?;
        let header_length = u64::from_le_bytes(header_length);
        if header_length > MAX_HEADER_BYTES || header_length > after_length {
            return Err(damaged(format!("its header claims {header_length} bytes")));
        }
        let mut header = Vec::new();
        Read::by_ref(&mut file)
            .take(header_length)
            .read_to_end(&mut header)
            .map_err(StoreError::io("read", path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("its header cannot be read ({error})")))?;
        let data_start = LENGTH_BYTES as u64 + header_length;
        // Compared by subtraction: a hostile header's sizes may add up to nearly 2^64.
        if header.data_len() as u64 != length - data_start {
            return Err(damaged(format!(
                "its tensors take {} bytes, but {} follow the header",
                header.data_len(),
                length - data_start
            )));
        }
        Ok(Self { path: path.to_owned(), file, header, data_start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of one entry of the file's metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The names in the order of the data.
    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    pub(super) fn read_all(&mut self) -> Result<BTreeMap<String, Matrix>, StoreError> {
        self.names()
            .into_iter()
            .map(|name| {
                let matrix = self.read(&name)?;
                Ok((name, matrix))
            })
            .collect()
    }

    /// Reads one matrix. Bits of F32 values come through unchanged, also those of NaNs.
    pub(super) fn read(&mut self, name: &str) -> Result<Matrix, StoreError> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| StoreError::damaged(&self.path, format!("it lacks tensor {name}")))?;
        let &[rows, cols] = info.shape.as_slice() else {
            return Err(StoreError::Shape {
                name: name.to_owned(),
                expected: vec![1, 1],
                found: info.shape.clone(),
            }
            .in_file(&self.path));
        };
        let decode: fn(&[u8], &mut Vec<f32>) = match info.dtype {
            Dtype::F32 => decode_f32,
            Dtype::F16 => decode_f16,
            Dtype::BF16 => decode_bf16,
            other => {
                return Err(StoreError::Dtype {
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                }
                .in_file(&self.path));
            }
        };
        let (start, end) = info.data_offsets;
        let mut data = Vec::new();
        data.try_reserve_exact(rows * cols).map_err(|_| {
            StoreError::damaged(&self.path, format!("tensor {name} does not fit into memory"))
        })?;
        let at = self.data_start + start as u64;
        decode_range(&mut self.file, at, end - start, |bytes| decode(bytes, &mut data))
            .map_err(StoreError::io("read", &self.path))?;
        Ok(Matrix { rows, cols, data })
    }
}

/// Reads `length` bytes from `start` on, a chunk at a time.
fn decode_range(
    file: &mut File,
    start: u64,
    length: usize,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut buffer = vec![0; CHUNK_BYTES.min(length)];
    let mut left = length;
    while left > 0 {
        let chunk = &mut buffer[..left.min(CHUNK_BYTES)];
        file.read_exact(chunk)?;
        take(chunk);
        left -= chunk.len();
    }
    Ok(())
}

fn decode_f32(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)));
}

fn decode_f16(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.as_chunks().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()));
}

fn decode_bf16(bytes: &[u8], out: &mut Vec<f32>) {
    out.extend(bytes.as_chunks().0.iter().map(|&value| bf16::from_le_bytes(value).to_f32()));
}

#[cfg(test)]
mod tests;
