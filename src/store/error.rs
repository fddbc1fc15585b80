//! What can go wrong with a stored file, said in one sentence: what, where, what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The error of everything in [`crate::store`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb: `write`, `read`, `lock` …
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        source: io::Error,
    },
    /// Another process works in the folder. The work can be tried again later.
    #[error(
        "{} is in use by another latrod{}; wait until it is done, or stop it",
        dir.display(),
        owner.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    Busy {
        /// The locked folder.
        dir: PathBuf,
        /// The process that holds the lock, where it left its id.
        owner: Option<u32>,
    },
    /// The file's bytes are not what was written, or not such a file at all.
    #[error("{} is damaged: {what}; restore it from a copy, or remove it to start anew", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// How that was noticed.
        what: String,
    },
    /// The file was written by an earlier version of latrod, in a format that is not read any more.
    #[error(
        "{} was written by an earlier version of latrod; finish the run with that version, or \
         start anew in another folder",
        path.display()
    )]
    EarlierFormat {
        /// The file.
        path: PathBuf,
    },
    /// A value that the file format cannot hold, found before anything was written.
    #[error("cannot store {what}: {reason}")]
    Unstorable {
        /// The value, by name.
        what: String,
        /// Why not.
        reason: String,
    },
    /// An adapter's configuration file cannot be understood.
    #[error("{} is not an adapter configuration: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An adapter uses something that latrod does not compute.
    #[error(
        "{} asks for {feature} = {found}, which latrod does not support; \
         use a plain LoRA adapter (saved without {feature})",
        path.display()
    )]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The field's name in PEFT's configuration.
        feature: String,
        /// Its value.
        found: String,
    },
    /// A tensor that the model's adapter needs is not there.
    #[error(
        "tensor {name} {shape:?} is missing; the adapter is incomplete or belongs to another model"
    )]
    MissingTensor {
        /// The tensor's PEFT name.
        name: String,
        /// Its shape, rows and columns.
        shape: [usize; 2],
    },
    /// A tensor that the model has no place for.
    #[error(
        "tensor {name} has no place in this model ({why}); the adapter belongs to another model"
    )]
    UnexpectedTensor {
        /// The tensor's name.
        name: String,
        /// What the model has instead.
        why: String,
    },
    /// A tensor of the wrong shape.
    #[error(
        "tensor {name} has shape {found:?}, expected {expected:?}; \
         the adapter belongs to another model or has another rank"
    )]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape that the model and the rank ask for.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A tensor whose values are stored in a way that is not read here.
    #[error("tensor {name} holds {found} values; save it as F32, F16 or BF16")]
    Dtype {
        /// The tensor's name.
        name: String,
        /// The type found.
        found: String,
    },
    /// The adapter was made for another model file.
    #[error(
        "the adapter in {} was made for {base_name} (sha256 {expected}), not for this model \
         (sha256 {found}); use that model, or another adapter folder",
        dir.display()
    )]
    OtherModel {
        /// The adapter's folder.
        dir: PathBuf,
        /// The model's name at the time.
        base_name: String,
        /// The hash in the adapter's manifest.
        expected: String,
        /// The hash of the model at hand.
        found: String,
    },
    /// An error about a part of a file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        source: Box<StoreError>,
    },
}

impl StoreError {
    /// Turns an operating system error into a [`StoreError::Io`]; made for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The file at `path` is not what was written.
    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// Says in which file the error was found.
    #[must_use]
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_owned(), source: Box::new(self) }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

/// What a person can do about an operating system error.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => "free some space there and run again",
        Kind::ReadOnlyFilesystem => "choose a folder that can be written to",
        Kind::PermissionDenied => "check the permissions, or run as the owner",
        Kind::NotFound => "check the path",
        Kind::NotADirectory => "a part of the path is a file; choose another path",
        Kind::IsADirectory => "it is a folder; name a file",
        Kind::Unsupported => "choose a folder on a local file system",
        _ => "check the path and the disk",
    }
}
