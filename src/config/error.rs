//! What is wrong with a configuration: all of it, each with its place.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The line that it stands on, from 1; `None` if it is about the file itself. A key that isn't
    /// given is reported at its section's header, or at line 1.
    pub line: Option<usize>,
    /// The key's path, for example `learn.rank`; empty where no key could be made out.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub sentence: String,
    /// What was probably meant, for example `learning_rate`.
    pub suggestion: Option<String>,
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        } else {
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.sentence)?;
        self.suggestion.as_ref().map_or(Ok(()), |meant| write!(f, "; did you mean {meant}?"))
    }
}

/// Everything that is wrong with a file, in its order. Displayed as lines `FILE:LINE: KEY: sentence`,
/// which editors and terminals can jump to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it; never empty.
    pub errors: Vec<ConfigError>,
    /// False if reading ended before the file did, so that there may be more.
    pub complete: bool,
}

impl ConfigErrors {
    /// A file that could not be read at all.
    pub(super) fn of_file(path: &Path, sentence: String) -> Self {
        let error = ConfigError { line: None, key: String::new(), sentence, suggestion: None };
        Self { path: path.into(), errors: vec![error], complete: false }
    }

    /// One line for each error.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.errors.iter().map(|error| format!("{}:{error}", self.path.display()))
    }

    /// How many there are, as a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let shown = self.path.display();
        let count = match self.errors.len() {
            1 => "1 error".into(),
            n => format!("{n} errors"),
        };
        if self.complete {
            format!("{shown} has {count}")
        } else {
            format!("{shown} has {count}; what follows was not checked: mend these, then try again")
        }
    }
}

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}
