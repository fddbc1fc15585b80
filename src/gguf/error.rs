//! What can be wrong with a GGUF file, in one sentence that names the file and the place.

use std::path::PathBuf;

/// An error of the GGUF reader. Text from the file is shown escaped and shortened.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system could not open or read the file.
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The file does not follow the format, or exceeds a limit of this reader.
    #[error("{} is not a usable GGUF file: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    /// A metadata key is missing, of another type than expected, or broken.
    #[error("{}: metadata key {key} {problem}", path.display())]
    Key { path: PathBuf, key: String, problem: String },
    /// A tensor's entry is broken, or its data cannot be used.
    #[error("{}: tensor {name} {problem}", path.display())]
    Tensor { path: PathBuf, name: String, problem: String },
}

/// Text from a file in a form that is safe and short enough to print: at most 96 characters,
/// control characters and the like escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 96;
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == LONGEST => {
                out.push('…');
                break;
            }
            '\'' | '"' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}
