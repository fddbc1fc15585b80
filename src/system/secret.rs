//! Secrets: found in one of three places, never shown.
//!
//! A secret is not written into the configuration file, which many may read. It is looked for in
//! this order, and the first place that has it counts:
//!
//! 1. the file that the configuration names (`mqtt.password_file`);
//! 2. the environment variable `LATROD_` and the secret's name in capitals: `LATROD_MQTT_PASSWORD`;
//! 3. the systemd credential of that name (`LoadCredential=mqtt-password:…`), a file in
//!    `$CREDENTIALS_DIRECTORY`.
//!
//! A place that is named or set and cannot be used is an error, never a reason to look further. The key
//! of a TLS certificate is read as a file; a credential is one, and can be named in `mqtt.key_file`.

use std::ffi::OsString;
use std::fmt::{self, Debug, Formatter};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Largest secret, in bytes: a chain of certificates with its key.
const MAX_BYTES: u64 = 1 << 16;

/// The name of the password for the MQTT broker.
pub const MQTT_PASSWORD: &str = "mqtt-password";

/// Environment variables that hold secrets: not for the worker, not for the hook.
pub const VARIABLES: [&str; 2] = ["LATROD_MQTT_PASSWORD", "CREDENTIALS_DIRECTORY"];

/// A text that must not be shown. Only [`Secret::reveal`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A secret that is named and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("the secret {name} cannot be read from {path}: {source}")]
    Read {
        /// The secret's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was found is not a secret.
    #[error("the secret {name} in {place} {reason}")]
    Unusable {
        /// The secret's name.
        name: String,
        /// Where it was found: a file or an environment variable.
        place: String,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
}

impl Secret {
    /// Looks for the secret `name`; `file` is the one that the configuration names, empty if none.
    /// `Ok(None)` if it is in none of the places.
    ///
    /// # Errors
    /// If a place has it and it cannot be read, is empty, too large or not UTF-8 text.
    pub fn find(name: &str, file: &Path) -> Result<Option<Self>, SecretError> {
        Self::find_in(name, file, |variable| std::env::var_os(variable))
    }

    /// As [`Self::find`], with another environment.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_in(
        name: &str,
        file: &Path,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, SecretError> {
        if !file.as_os_str().is_empty() {
            return Self::read(name, file).map(Some);
        }
        let variable = format!("LATROD_{}", name.replace('-', "_").to_ascii_uppercase());
        if let Some(value) = environment(&variable) {
            return Self::new(name, &variable, value.into_encoded_bytes()).map(Some);
        }
        let Some(folder) = environment("CREDENTIALS_DIRECTORY") else { return Ok(None) };
        let credential = Path::new(&folder).join(name);
        match Self::read(name, &credential) {
            Err(SecretError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn read(name: &str, path: &Path) -> Result<Self, SecretError> {
        let cannot = |source| SecretError::Read { name: name.into(), path: path.into(), source };
        // A pipe must not block whoever opens it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| cannot(e.into()))?;
        let mut bytes = Vec::new();
        let file = std::fs::File::from(file);
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
        Self::new(name, &path.display().to_string(), bytes)
    }

    fn new(name: &str, place: &str, bytes: Vec<u8>) -> Result<Self, SecretError> {
        let unusable =
            |reason| SecretError::Unusable { name: name.into(), place: place.into(), reason };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unusable("is larger than 64 KiB: is this the right file?"));
        }
        let mut text = String::from_utf8(bytes)
            .map_err(|_| unusable("is not UTF-8 text: save it as UTF-8"))?;
        // Editors end a file with a line break that is no part of a password.
        let length = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(length);
        if text.is_empty() {
            return Err(unusable("is empty: write it there or don't name it"));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(*value))
    }

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_file_comes_before_the_variable_before_the_credential() {
        let folder = folder_with(&[("mqtt-password", "third\n"), ("mine", "first\n")]);
        let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
        let variable = ("LATROD_MQTT_PASSWORD", "second");
        let find = |file: &Path, pairs: &[_]| {
            let found = Secret::find_in(MQTT_PASSWORD, file, environment(pairs)).unwrap();
            found.map(|secret| secret.reveal().to_owned())
        };
        let (file, none) = (folder.path().join("mine"), Path::new(""));

        assert_eq!(find(&file, &[variable, credentials]).as_deref(), Some("first"));
        assert_eq!(find(none, &[variable, credentials]).as_deref(), Some("second"));
        assert_eq!(find(none, &[credentials]).as_deref(), Some("third"));
        assert_eq!(find(none, &[]), None);
    }

    #[test]
    fn a_credential_that_is_not_there_is_none_but_a_named_file_is_an_error() {
        let folder = folder_with(&[]);
        let pairs = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];

        assert_eq!(Secret::find_in("other", Path::new(""), environment(&pairs)).unwrap(), None);
        let missing = folder.path().join("nothing");
        let error = Secret::find_in("other", &missing, environment(&pairs)).unwrap_err();
        assert!(error.to_string().contains("nothing"), "{error}");
    }

    #[test]
    fn neither_debug_nor_an_error_shows_it() {
        let secret = Secret::find_in("x", Path::new(""), environment(&[("LATROD_X", "hunter2")]));
        let shown = format!("{secret:?}");
        assert_eq!(shown, "Ok(Some(Secret(hidden)))");

        let large = "hunter2".repeat(20_000);
        let error = Secret::find_in("x", Path::new(""), environment(&[("LATROD_X", &large)]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("64 KiB") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn only_the_end_of_the_line_is_cut() {
        for (given, kept) in [("a b \r\n", "a b "), (" x", " x"), ("one\ntwo\n", "one\ntwo")] {
            let secret = Secret::find_in("x", Path::new(""), environment(&[("LATROD_X", given)]));
            assert_eq!(secret.unwrap().unwrap().reveal(), kept);
        }
    }

    #[test]
    fn an_empty_secret_is_refused_rather_than_passed_over() {
        let folder = folder_with(&[("empty", "\n")]);
        let file = folder.path().join("empty");
        let error = Secret::find_in("x", &file, environment(&[("LATROD_X", "y")])).unwrap_err();

        assert!(error.to_string().contains("is empty"), "{error}");
    }
}
