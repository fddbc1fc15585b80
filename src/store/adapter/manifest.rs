//! `latrod.json`: for which model file an adapter was made, and by which latrod.
//!
//! PEFT ignores the file, and a folder without it (one that PEFT wrote) is fine.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::StoreError;
use super::super::durable::{create_folder, open_regular, write_atomic};
use super::super::json::{hex, read_text};
use crate::text::Wording;

/// The manifest's file name inside an adapter's folder.
pub const MANIFEST_FILE: &str = "latrod.json";
/// The largest manifest that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 16;

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterManifest {
    /// The SHA-256 of the GGUF file, 64 lower-case hexadecimal digits.
    pub base_sha256: String,
    /// The model's name, for people.
    pub base_name: String,
    /// `latrod` and its version.
    pub created_by: String,
    /// How it was trained; nothing in one that was converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// How an adapter was trained: what whoever serves it must know, and how to train it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// What it was trained to do: think first (`latro`) or answer at once (`sft`).
    pub method: String,
    /// The words around the question in its prompts.
    pub prompt: Wording,
    /// Over the training tasks.
    pub tasks_sha256: String,
    /// All settings of the learner, the seed among them.
    pub settings: Value,
}

impl AdapterManifest {
    /// A manifest of this version of latrod.
    #[must_use]
    pub fn new(base_sha256: &str, base_name: &str) -> Self {
        Self {
            base_sha256: base_sha256.to_lowercase(),
            base_name: base_name.to_owned(),
            created_by: concat!("latrod ", env!("CARGO_PKG_VERSION")).to_owned(),
            training: None,
        }
    }

    /// The same with how the adapter was trained.
    #[must_use]
    pub fn with_training(self, training: Option<Training>) -> Self {
        Self { training, ..self }
    }

    /// The words around questions that the adapter was trained with.
    #[must_use]
    pub fn prompt(&self) -> Wording {
        self.training.as_ref().map(|made| made.prompt.clone()).unwrap_or_default()
    }

    /// Writes the manifest into `dir`, durably.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        create_folder(dir)?;
        write_atomic(&dir.join(MANIFEST_FILE), |w| {
            serde_json::to_writer_pretty(&mut *w, self).map_err(io::Error::from)?;
            w.write_all(b"\n")
        })
    }

    /// Reads the manifest in `dir`; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be read, [`StoreError::Damaged`] if it is not a manifest.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(MANIFEST_FILE);
        if !path.try_exists().map_err(StoreError::io("read", &path))? {
            return Ok(None);
        }
        let text = read_text(&path, MAX_MANIFEST_BYTES)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| StoreError::damaged(&path, error.to_string()))
    }

    /// Reads the manifest in `dir`, if there is one, and checks that the adapter was made for the
    /// model file with this SHA-256.
    ///
    /// # Errors
    /// [`StoreError::OtherModel`] if it was not, and the errors of [`Self::read`].
    pub fn check(dir: &Path, base_sha256: &str) -> Result<Option<Self>, StoreError> {
        let manifest = Self::read(dir)?;
        if let Some(made) = &manifest
            && !made.base_sha256.eq_ignore_ascii_case(base_sha256)
        {
            return Err(StoreError::OtherModel {
                dir: dir.to_owned(),
                base_name: made.base_name.clone(),
                expected: made.base_sha256.clone(),
                found: base_sha256.to_owned(),
            });
        }
        Ok(manifest)
    }
}

/// The SHA-256 of a file's bytes as [`AdapterManifest::base_sha256`] has it. Reads the whole file,
/// a buffer at a time.
///
/// # Errors
/// [`StoreError::Io`] if it cannot be read or is not a regular file.
pub fn file_sha256(path: &Path) -> Result<String, StoreError> {
    let (mut file, _) = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::io("read", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_adapter_for_another_model_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = AdapterManifest::new("AB12", "SmolLM2");
        manifest.write(dir.path()).unwrap();

        assert_eq!(AdapterManifest::check(dir.path(), "ab12").unwrap(), Some(manifest));
        let error = AdapterManifest::check(dir.path(), "cd34").unwrap_err();

        let text = error.to_string();
        assert!(text.contains("SmolLM2") && text.contains("cd34"), "{text}");
    }

    #[test]
    fn a_file_hashes_as_the_standard_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();

        // FIPS 180-4, the example "abc".
        assert_eq!(
            file_sha256(file.path()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_folder_without_a_manifest_is_fine_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(AdapterManifest::check(dir.path(), "ab").unwrap(), None);

        fs::write(dir.path().join(MANIFEST_FILE), "{").unwrap();

        assert!(AdapterManifest::check(dir.path(), "ab").is_err());
    }
}
