//! The steps that change the folder of versions; each is either done or not done.
//!
//! Every change goes through here, so that a test can break off after any of them.

#[cfg(test)]
use std::cell::Cell;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::manifest::FileSum;
use super::settings::ReadableBy;
use crate::store::StoreError;
use crate::store::adapter::file_sha256;
use crate::store::durable::open_regular;
use crate::store::json::hex;

#[derive(Debug)]
pub(super) struct Disk {
    readable_by: ReadableBy,
    /// Steps until everything fails, as after a kill; `None` for never.
    #[cfg(test)]
    pub steps_left: Cell<Option<usize>>,
}

impl Disk {
    pub const fn new(readable_by: ReadableBy) -> Self {
        Self {
            readable_by,
            #[cfg(test)]
            steps_left: Cell::new(None),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "tests let steps fail")]
    const fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        match self.steps_left.get() {
            Some(0) => Err(io::Error::other("killed by the test")),
            left => {
                self.steps_left.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    /// Makes a folder that was not there.
    pub fn new_folder(&self, dir: &Path) -> Result<(), StoreError> {
        self.step().and_then(|()| fs::create_dir(dir)).map_err(StoreError::io("create", dir))?;
        self.open_folder(dir)
    }

    /// Gives a folder its readers.
    pub fn open_folder(&self, dir: &Path) -> Result<(), StoreError> {
        let mode = Permissions::from_mode(self.readable_by.folder_mode());
        fs::set_permissions(dir, mode).map_err(StoreError::io("set the permissions of", dir))
    }

    /// Copies a regular file durably and returns what was copied.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<FileSum, StoreError> {
        let (mut source, _) = open_regular(from)?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut copy = || {
            self.step()?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                let n = match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                hash.update(&buffer[..n]);
                bytes += n as u64;
                file.write_all(&buffer[..n])?;
            }
            file.set_permissions(Permissions::from_mode(self.readable_by.file_mode()))?;
            file.sync_all()
        };
        copy().map_err(StoreError::io("write", to))?;
        Ok(FileSum { sha256: hex(&hash.finalize()), bytes })
    }

    /// Makes a file that was just written readable to its readers, durably, and returns its sum.
    pub fn finish(&self, path: &Path) -> Result<FileSum, StoreError> {
        let finish = || {
            self.step()?;
            let file = File::open(path)?;
            file.set_permissions(Permissions::from_mode(self.readable_by.file_mode()))?;
            file.sync_all()?;
            Ok(file.metadata()?.len())
        };
        let bytes = finish().map_err(StoreError::io("write", path))?;
        Ok(FileSum { sha256: file_sha256(path)?, bytes })
    }

    /// Renames within `dir`, durably.
    pub fn rename(&self, dir: &Path, from: &str, to: &str) -> Result<(), StoreError> {
        let (from, to) = (dir.join(from), dir.join(to));
        self.step()
            .and_then(|()| fs::rename(&from, &to))
            .map_err(StoreError::io("rename", &from))?;
        self.sync(dir)
    }

    /// Puts a symbolic link at `dir/name`, in place of the one that is there, durably.
    pub fn link(&self, dir: &Path, target: &str, name: &str) -> Result<(), StoreError> {
        let temp = format!(".{name}.latrod-tmp");
        let path = dir.join(&temp);
        self.step()
            .and_then(|()| match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => symlink(target, &path),
            })
            .map_err(StoreError::io("link", &path))?;
        self.rename(dir, &temp, name)
    }

    /// Removes a file or a link in `dir`, durably. It may be absent.
    pub fn remove(&self, dir: &Path, name: &str) -> Result<(), StoreError> {
        let path = dir.join(name);
        match self.step().and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => self.sync(dir),
        }
    }

    /// Removes a folder with everything in it, or whatever else has its name. It may be absent.
    pub fn remove_folder(&self, path: &Path) -> Result<(), StoreError> {
        let remove = || {
            self.step()?;
            if fs::symlink_metadata(path)?.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
        };
        match remove() {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes what happened to the names in `dir` last.
    pub fn sync(&self, dir: &Path) -> Result<(), StoreError> {
        self.step().and_then(|()| File::open(dir)?.sync_all()).map_err(StoreError::io("write", dir))
    }
}
