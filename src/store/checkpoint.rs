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
/// What the entry's first line starts with; the hash follows.
const FORMAT: &str = "checkpoint-2 sha256:";

/// What it started with before the settings and metrics in the header took the names that PEFT and
/// TRL give them.
const EARLIER: &str = "checkpoint-1 ";

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
    /// [`StoreError::Io`] if it cannot be read, [`StoreError::Damaged`] if a single bit of its
    /// content differs from what was saved, or its header is not an `H`,
    /// [`StoreError::EarlierFormat`] if an earlier version of latrod wrote it.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let damaged = |what: String| StoreError::damaged(path, what);
        let mut reader = TensorReader::open(path)?;
        let (first, header) = reader
            .metadata(METADATA_KEY)
            .and_then(|entry| entry.split_once('\n'))
            .ok_or_else(|| damaged("it has no checkpoint header".into()))?;
        let expected = match first.strip_prefix(FORMAT) {
            Some(expected) => expected.to_owned(),
            None if first.starts_with(EARLIER) => {
                return Err(StoreError::EarlierFormat { path: path.to_owned() });
            }
            None => return Err(damaged(format!("its format is {first:?}, expected {FORMAT:?}"))),
        };
        let header = header.to_owned();
        let tensors = reader.read_all()?;
        if digest(&header, &tensors) != expected {
            return Err(damaged("its checksum does not match".into()));
        }
        let header = serde_json::from_str(&header)
            .map_err(|error| damaged(format!("its header holds something else ({error})")))?;
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
    let entry = format!("{FORMAT}{}\n{header}", digest(&header, tensors));
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
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Header {
        step: u64,
        learning_rate: f64,
        note: String,
    }

    fn checkpoint() -> Checkpoint<Header> {
        let lora = LoraTensors::from([
            (
                LoraKey { layer: 0, target: Target::Q, factor: Factor::A },
                Matrix { rows: 1, cols: 3, data: vec![1.0, -0.0, 0.1] },
            ),
            (
                LoraKey { layer: 11, target: Target::Down, factor: Factor::B },
                Matrix { rows: 2, cols: 1, data: vec![f32::MIN_POSITIVE, 3.0] },
            ),
        ]);
        Checkpoint {
            header: Header { step: 3, learning_rate: 1e-4 / 3.0, note: "a \"b\"\n".into() },
            tensors: named("weights", &lora).map(|(name, m)| (name, m.clone())).collect(),
        }
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn a_checkpoint_comes_back_exactly() {
        let (_dir, path) = saved();

        let mut loaded = Checkpoint::<Header>::load(&path).unwrap();

        assert_eq!(loaded, checkpoint());
        assert!(take_named("weight", &mut loaded.tensors).is_empty());
        let lora = take_named("weights", &mut loaded.tensors);
        assert_eq!(lora.len(), 2);
        assert_eq!(lora.keys().last().unwrap().layer, 11);
        assert!(loaded.tensors.is_empty());
    }

    #[test]
    fn equal_checkpoints_are_equal_files() {
        let (_dir, first) = saved();
        let (_dir2, second) = saved();

        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn absent_is_not_damaged() {
        let (dir, path) = saved();

        assert!(Checkpoint::<Header>::load_if_present(&path).unwrap().is_some());
        assert!(
            Checkpoint::<Header>::load_if_present(&dir.path().join("absent")).unwrap().is_none()
        );
    }

    #[test]
    fn an_earlier_format_is_refused_with_what_to_do() {
        let (_dir, path) = saved();
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(12).position(|w| w == b"checkpoint-2").unwrap();
        fs::write(&path, [&bytes[..at], b"checkpoint-1", &bytes[at + 12..]].concat()).unwrap();

        let error = Checkpoint::<Header>::load(&path).unwrap_err();

        assert!(matches!(error, StoreError::EarlierFormat { .. }), "{error}");
        assert!(error.to_string().contains("start anew in another folder"), "{error}");
    }

    #[test]
    fn a_flipped_bit_never_changes_what_is_loaded() {
        let (_dir, path) = saved();
        let good = fs::read(&path).unwrap();

        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            // A letter of an escape may change its case without a change of meaning.
            if let Ok(loaded) = Checkpoint::<Header>::load(&path) {
                assert_eq!(loaded, checkpoint(), "byte {at}");
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let (_dir, path) = saved();
        let good = fs::read(&path).unwrap();

        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            let error = Checkpoint::<Header>::load(&path).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }

    #[test]
    fn a_header_that_json_would_lose_is_refused_and_the_old_checkpoint_stays() {
        let (_dir, path) = saved();
        let mut bad = checkpoint();
        bad.header.learning_rate = f64::INFINITY;

        assert!(matches!(bad.save(&path), Err(StoreError::Unstorable { .. })));

        assert_eq!(Checkpoint::<Header>::load(&path).unwrap(), checkpoint());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bits_survive(bits in proptest::collection::vec(any::<u32>(), 0..40)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c");
            let data: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let matrix = Matrix { rows: data.len(), cols: 1, data };
            save(&path, &1_u8, &BTreeMap::from([("x".to_owned(), &matrix)])).unwrap();

            let loaded = Checkpoint::<u8>::load(&path).unwrap();

            let read: Vec<u32> = loaded.tensors["x"].data.iter().map(|v| v.to_bits()).collect();
            prop_assert_eq!(read, bits);
        }

        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c");
            fs::write(&path, &bytes).unwrap();

            prop_assert!(Checkpoint::<u8>::load(&path).is_err());
        }
    }
}
