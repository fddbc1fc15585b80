//! Checkpoints: a header of the caller's and named matrices in one file, whole or absent.
//!
//! The file is a safetensors file (any tool can look into it) whose metadata entry `latrod` holds
//! one line with the format and a SHA-256, then the header as JSON. The hash covers the header and
//! every tensor's name, shape and bits. Doesn't know what a trainer keeps in there.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::StoreError;
use super::json::{hex, to_json_checked};
use super::tensors::{TensorReader, for_each_chunk, write_tensors};
use crate::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, Target};

/// The metadata entry that holds hash and header.
const METADATA_KEY: &str = "latrod";
/// The format's name, which the entry's first line starts with. Version 1 had other names of settings.
const FORMAT: &str = "checkpoint-2";
/// Separates the format's name from the hash.
const HASH: &str = " sha256:";

/// A header and named matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint<H> {
    pub header: H,
    pub tensors: BTreeMap<String, Matrix>,
}

impl<H: Serialize + DeserializeOwned> Checkpoint<H> {
    /// Writes the checkpoint durably; see [`save`] to do so without owning copies.
    ///
    /// # Errors
    /// As [`save`].
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        save(path, &self.header, &self.tensors)
    }

    /// Reads and verifies a checkpoint. Memory: the tensors, once.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be read, [`StoreError::OtherFormat`] if another version of
    /// latrod wrote it, [`StoreError::Damaged`] if a single bit of its content differs from what was
    /// saved, or its header is not an `H`.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let damaged = |what: String| StoreError::damaged(path, what);
        let mut reader = TensorReader::open(path)?;
        let (first, header) = reader
            .metadata(METADATA_KEY)
            .and_then(|entry| entry.split_once('\n'))
            .ok_or_else(|| damaged("it has no checkpoint header".into()))?;
        let (format, expected) = first
            .split_once(HASH)
            .ok_or_else(|| damaged("its checkpoint header has no checksum".into()))?;
        if format != FORMAT {
            let (path, found) = (path.to_owned(), format.to_owned());
            return Err(StoreError::OtherFormat { path, found, expected: FORMAT });
        }
        let expected = expected.to_owned();
        let header = header.to_owned();
        let tensors = reader.read_all()?;
        if digest(&header, &tensors) != expected {
            return Err(damaged("its checksum does not match".into()));
        }
        let header = serde_json::from_str(&header)
            .map_err(|error| damaged(format!("its header is not what is expected ({error})")))?;
        Ok(Self { header, tensors })
    }

    /// As [`Self::load`], but a file that does not exist is `None`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_if_present(path: &Path) -> Result<Option<Self>, StoreError> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::load(path).map(Some),
            Err(source) => Err(StoreError::io("read", path)(source)),
        }
    }
}

/// Writes a checkpoint durably from borrowed or owned matrices, without copying them.
///
/// # Errors
/// [`StoreError::Unstorable`] if the header does not survive the way to JSON and back (JSON has no
/// NaN and no infinity) or a matrix contradicts its shape, [`StoreError::Io`] if the file cannot be
/// written. The previous checkpoint is then untouched.
pub fn save<H: Serialize + DeserializeOwned, M: Borrow<Matrix>>(
    path: &Path,
    header: &H,
    tensors: &BTreeMap<String, M>,
) -> Result<(), StoreError> {
    let header = to_json_checked(header, path)?;
    let entry = format!("{FORMAT}{HASH}{}\n{header}", digest(&header, tensors));
    write_tensors(path, (METADATA_KEY, &entry), tensors)
}

/// Names LoRA tensors for a checkpoint: `{prefix}.blk.{layer}.{attn_q}.lora_{a}`, in the GGUF
/// file's row order.
pub fn named<'a>(
    prefix: &str,
    tensors: &'a LoraTensors,
) -> impl Iterator<Item = (String, &'a Matrix)> {
    tensors.iter().map(move |(key, matrix)| (name_of(prefix, *key), matrix))
}

/// Takes the tensors that [`named`] gave this prefix out of a loaded checkpoint. Empty if there are
/// none; names that merely start alike stay.
#[must_use]
pub fn take_named(prefix: &str, tensors: &mut BTreeMap<String, Matrix>) -> LoraTensors {
    let keys: Vec<_> = tensors.keys().filter_map(|name| key_of(prefix, name)).collect();
    keys.into_iter().filter_map(|key| Some((key, tensors.remove(&name_of(prefix, key))?))).collect()
}

fn name_of(prefix: &str, key: LoraKey) -> String {
    let factor = match key.factor {
        Factor::A => 'a',
        Factor::B => 'b',
    };
    format!("{prefix}.blk.{}.{}.lora_{factor}", key.layer, key.target.gguf_name())
}

fn key_of(prefix: &str, name: &str) -> Option<LoraKey> {
    let rest = name.strip_prefix(prefix)?.strip_prefix(".blk.")?;
    let (layer, rest) = rest.split_once('.')?;
    let (target, factor) = rest.split_once(".lora_")?;
    let key = LoraKey {
        layer: layer.parse().ok()?,
        target: Target::ALL.into_iter().find(|t| t.gguf_name() == target)?,
        factor: match factor {
            "a" => Factor::A,
            "b" => Factor::B,
            _ => return None,
        },
    };
    (name_of(prefix, key) == name).then_some(key)
}

/// The hash over everything that a checkpoint says. Every part is preceded by its length, so that
/// no two contents give the same bytes.
fn digest<M: Borrow<Matrix>>(header: &str, tensors: &BTreeMap<String, M>) -> String {
    let mut hash = Sha256::new();
    hash_text(&mut hash, header);
    for (name, matrix) in tensors {
        let matrix = matrix.borrow();
        hash_text(&mut hash, name);
        hash.update((matrix.rows as u64).to_le_bytes());
        hash.update((matrix.cols as u64).to_le_bytes());
        let Ok(()) = for_each_chunk(&matrix.data, |bytes| {
            hash.update(bytes);
            Ok::<(), Infallible>(())
        });
    }
    hex(&hash.finalize())
}

fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

#[cfg(test)]
mod tests;
