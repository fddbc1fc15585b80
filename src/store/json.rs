//! Durable JSON files with a checksum.
//!
//! Two lines: a head with the format and the SHA-256 and length of the second line, then the value.
//! Doesn't know what the value means.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::durable::{open_regular, write_atomic};

/// The largest file that [`load_json`] reads, in bytes.
pub const MAX_JSON_BYTES: u64 = 256 << 20;
/// The format's name in the head.
const FORMAT: &str = "latrod-json-1";

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    sha256: String,
    bytes: usize,
}

/// Writes `value` to `path`, durably and with a checksum.
///
/// # Errors
/// [`StoreError::Unstorable`] if `value` does not survive the way to JSON and back (such as a NaN
/// in a plain `f64`), [`StoreError::Io`] if it cannot be written.
pub fn save_json<T: Serialize + DeserializeOwned>(
    path: &Path,
    value: &T,
) -> Result<(), StoreError> {
    let body = to_json_checked(value, path)?;
    let head = Head {
        format: FORMAT.to_owned(),
        sha256: hex(&Sha256::digest(body.as_bytes())),
        bytes: body.len(),
    };
    write_atomic(path, |w| {
        serde_json::to_writer(&mut *w, &head).map_err(io::Error::from)?;
        w.write_all(b"\n")?;
        w.write_all(body.as_bytes())?;
        w.write_all(b"\n")
    })
}

/// Reads what [`save_json`] wrote.
///
/// # Errors
/// [`StoreError::Io`] if the file cannot be read, [`StoreError::Damaged`] if it is not, byte for
/// byte, what was written, is larger than [`MAX_JSON_BYTES`], or holds something else than a `T`.
pub fn load_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let damaged = |what: String| StoreError::damaged(path, what);
    let text = read_text(path, MAX_JSON_BYTES)?;
    let (head, body) =
        text.split_once('\n').ok_or_else(|| damaged("it has no checksum line".into()))?;
    let head: Head = serde_json::from_str(head)
        .map_err(|error| damaged(format!("its checksum line cannot be read ({error})")))?;
    if head.format != FORMAT {
        return Err(damaged(format!("its format is {:?}, expected {FORMAT:?}", head.format)));
    }
    let body = body
        .strip_suffix('\n')
        .filter(|body| body.len() == head.bytes)
        .ok_or_else(|| damaged(format!("its second line does not have {} bytes", head.bytes)))?;
    if hex(&Sha256::digest(body.as_bytes())) != head.sha256 {
        return Err(damaged("its checksum does not match".into()));
    }
    serde_json::from_str(body)
        .map_err(|error| damaged(format!("its content is not what is expected ({error})")))
}

/// `value` as JSON on one line, after a check that it can be read back: otherwise the loss would
/// show only when it is too late.
pub(super) fn to_json_checked<T: Serialize + DeserializeOwned>(
    value: &T,
    path: &Path,
) -> Result<String, StoreError> {
    let unstorable = |error: serde_json::Error| StoreError::Unstorable {
        what: format!("the content of {}", path.display()),
        reason: error.to_string(),
    };
    let text = serde_json::to_string(value).map_err(unstorable)?;
    serde_json::from_str::<T>(&text).map_err(unstorable)?;
    Ok(text)
}

/// A whole text file of at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, StoreError> {
    let (file, length) = open_regular(path)?;
    if length > limit {
        return Err(StoreError::damaged(path, format!("it has {length} bytes, at most {limit}")));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    String::from_utf8(bytes).map_err(|_| StoreError::damaged(path, "it is not UTF-8 text"))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Rollout {
        tokens: Vec<u32>,
        log_prob: f64,
        text: String,
    }

    fn rollout() -> Rollout {
        Rollout {
            tokens: vec![1, 2, 70_000],
            log_prob: -0.1 - 0.2,
            text: "1 + 2\n= \u{1F600}".into(),
        }
    }

    #[test]
    fn a_value_comes_back_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollouts.json");

        save_json(&path, &rollout()).unwrap();

        assert_eq!(load_json::<Rollout>(&path).unwrap(), rollout());
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollouts.json");
        save_json(&path, &rollout()).unwrap();
        let good = fs::read(&path).unwrap();

        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            assert!(load_json::<Rollout>(&path).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollouts.json");
        save_json(&path, &rollout()).unwrap();
        let good = fs::read(&path).unwrap();

        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            let error = load_json::<Rollout>(&path).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }

    #[test]
    fn a_value_that_json_would_lose_is_refused_and_the_old_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollouts.json");
        save_json(&path, &1.5).unwrap();

        let error = save_json(&path, &f64::NAN).unwrap_err();

        assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
        assert_eq!(load_json::<f64>(&path).unwrap().to_bits(), 1.5_f64.to_bits());
    }
}
