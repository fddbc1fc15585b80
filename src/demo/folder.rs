//! The folder that the demo works in: nothing outside of it is written, and it goes at the end.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::DemoError;
use crate::config::Config;
use crate::contract::keys::{new_key_pair, random_hex};

const CONFIG: &str = "latrod.toml";
const SOCKET: &str = "status.sock";
/// Longest path of a socket (`sun_path` of `sockaddr_un` on a Mac).
const MAX_SOCKET_BYTES: usize = 103;
const PRIVATE_KEY: &str = "operator.pem";
const PUBLIC_KEY: &str = "operator.pem.pub";

/// A folder for this user alone; it is removed when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it where temporary files lie.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> Result<Self, DemoError> {
        let word = random_hex::<4>().map_err(DemoError::Key)?;
        let place = std::env::temp_dir();
        let place = std::path::absolute(&place).map_err(DemoError::file(&place))?;
        let path = place.join(format!("latrod-demo-{word}"));
        if path.join(SOCKET).as_os_str().len() > MAX_SOCKET_BYTES {
            return Err(DemoError::TooLong(place));
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(DemoError::file(&path))?;
        let folder = Self(path);
        for name in ["spool", "state", "dashboard"] {
            let path = folder.0.join(name);
            fs::create_dir(&path).map_err(DemoError::file(&path))?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that did not exist, for this user alone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DemoError> {
        let path = self.0.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(DemoError::file(&path))?;
        Ok(path)
    }

    /// Writes a new pair of keys.
    ///
    /// # Errors
    /// If there are no random numbers, or they cannot be written.
    pub fn write_keys(&self) -> Result<(), DemoError> {
        let (private, public) = new_key_pair().map_err(DemoError::Key)?;
        self.write(PRIVATE_KEY, private.as_bytes())?;
        self.write(PUBLIC_KEY, public.as_bytes()).map(drop)
    }

    /// The file with the operator's private key.
    pub fn private_key(&self) -> PathBuf {
        self.0.join(PRIVATE_KEY)
    }

    /// The file with the operator's public key.
    pub fn public_key(&self) -> String {
        self.0.join(PUBLIC_KEY).to_string_lossy().into_owned()
    }

    /// Where the daemon answers questions about its status.
    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Writes the device's configuration.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_config(&self, config: &Config) -> Result<PathBuf, DemoError> {
        let text = toml::to_string(config).map_err(std::io::Error::other);
        let text = text.map_err(DemoError::file(&self.0.join(CONFIG)))?;
        self.write(CONFIG, text.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{}: {error}; remove it yourself", self.0.display());
        }
    }
}
