//! A GGUF file on disk: its header in memory, its tensors read on demand.
//!
//! Reads with `pread` into buffers of the caller's, so nothing is mapped: a file that shrinks
//! while it is in use causes an error and not a signal.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::gguf::{GgmlType, GgufError, Header, Metadata, TensorInfo, printable};

/// An open GGUF file whose header was read and checked.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    len: u64,
    header: Header,
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`GgufError::Io`] when it cannot be read or is not a regular file, otherwise what
    /// [`Header::read`] finds.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.into(), source };
        // Asked before opening: opening a pipe would wait for its other end.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::Malformed {
                path: path.into(),
                problem: "it is not a regular file; name the .gguf file itself".into(),
            });
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let header = Header::read(BufReader::with_capacity(1 << 18, &file), len, path)?;
        Ok(Self { path: path.into(), file, len, header })
    }

    /// The path that the file was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the format: 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.header.version
    }

    /// The file's length in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.len
    }

    /// The key-value metadata.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensor table in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor with this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensor(name)
    }

    /// A tensor's data, exactly as it is in the file.
    ///
    /// # Errors
    /// For a type that this program does not compute with ([`GgmlType::Other`]), when the file
    /// can no longer be read, and when there is no memory for the data.
    pub fn read_tensor(&self, tensor: &TensorInfo) -> Result<Vec<u8>, GgufError> {
        let n = self.readable_bytes(tensor)?;
        let mut data = Vec::new();
        let n = usize::try_from(n).ok().filter(|&n| data.try_reserve_exact(n).is_ok());
        let Some(n) = n else {
            return Err(self.tensor_error(tensor, "does not fit into memory".into()));
        };
        data.resize(n, 0);
        self.read_tensor_at(tensor, 0, &mut data)?;
        Ok(data)
    }

    /// Fills `buffer` with a tensor's bytes from `offset` on, for reading large tensors in pieces.
    ///
    /// # Errors
    /// As [`Self::read_tensor`], and when the piece reaches beyond the tensor's end.
    pub fn read_tensor_at(
        &self,
        tensor: &TensorInfo,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), GgufError> {
        let bytes = self.readable_bytes(tensor)?;
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > bytes) {
            let p = format!(
                "has {bytes} bytes, but {} starting at {offset} were requested",
                buffer.len()
            );
            return Err(self.tensor_error(tensor, p));
        }
        self.file
            .read_exact_at(buffer, tensor.file_offset() + offset)
            .map_err(|source| GgufError::Io { path: self.path.clone(), source })
    }

    /// The SHA-256 of the whole file in hexadecimal.
    ///
    /// # Errors
    /// [`GgufError::Io`] when the file can no longer be read.
    pub fn sha256(&self) -> Result<String, GgufError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut position = 0;
        loop {
            let n = match self.file.read_at(&mut buffer, position) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(GgufError::Io { path: self.path.clone(), source }),
            };
            hash.update(&buffer[..n]);
            position += n as u64;
        }
        let digits = b"0123456789abcdef";
        let hex = |b: &u8| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]];
        Ok(hash.finalize().iter().flat_map(hex).map(char::from).collect())
    }

    fn readable_bytes(&self, tensor: &TensorInfo) -> Result<u64, GgufError> {
        match (tensor.ggml_type, tensor.bytes()) {
            (GgmlType::Other(_), _) | (_, None) => Err(self.tensor_error(
                tensor,
                format!("has the type {}, which is not supported", tensor.ggml_type),
            )),
            (_, Some(n)) => Ok(n),
        }
    }

    fn tensor_error(&self, tensor: &TensorInfo, problem: String) -> GgufError {
        GgufError::Tensor { path: self.path.clone(), name: printable(&tensor.name), problem }
    }
}
