//! Limits a folder to one process at a time.
//!
//! An advisory lock on a file that is never removed; the operating system releases it when the process
//! ends, however it ends. Doesn't know what the folder is for.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::StoreError;
use super::durable::create_folder;

/// The lock file's name inside the folder.
const LOCK_NAME: &str = ".lock";

/// Holds a folder until dropped.
#[derive(Debug)]
pub struct DirLock {
    file: File,
}

impl Drop for DirLock {
    /// Closing the file would do, were there not a moment in which a process that is being started
    /// elsewhere in this program has a copy of it.
    fn drop(&mut self) {
        // If it fails, closing releases the lock.
        let _ = self.file.unlock();
    }
}

impl DirLock {
    /// Takes the folder, creating it where needed.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process (or another lock in this one) holds it,
    /// [`StoreError::Io`] if the folder or the lock file cannot be made.
    pub fn acquire(dir: &Path) -> Result<Self, StoreError> {
        create_folder(dir)?;
        let path = dir.join(LOCK_NAME);
        // Not truncated on opening: the holder's id is in there.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy { dir: dir.to_owned(), owner: read_owner(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &path)(source)),
        }
        write_owner(&mut file).map_err(StoreError::io("lock", &path))?;
        Ok(Self { file })
    }
}

fn write_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The id that the holder wrote. It is only a hint for people, so anything unreadable is ignored.
fn read_owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_in_a_process_that_is_being_started_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::acquire(dir.path()).unwrap();
        let copy = held.file.try_clone().unwrap();

        drop(held);

        assert!(DirLock::acquire(dir.path()).is_ok());
        drop(copy);
    }

    #[test]
    fn a_second_taker_is_told_who_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::acquire(dir.path()).unwrap();

        let error = DirLock::acquire(dir.path()).unwrap_err();

        assert!(error.is_busy());
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn the_folder_is_made_where_it_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");

        let _held = DirLock::acquire(&deep).unwrap();

        assert!(deep.is_dir());
    }
}
