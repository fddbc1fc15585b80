//! Writes a file so that it is whole or absent, even after a power cut.
//!
//! Owns the order temp → fsync → rename → fsync of the folder, and the removal of what a killed
//! process left behind. Doesn't know what is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

/// How the names of half-written files end.
const TEMP_SUFFIX: &str = ".latrod-tmp";
/// Bytes gathered before they go to the operating system.
const BUFFER_BYTES: usize = 1 << 16;

/// Replaces the file at `path` with what `write` writes. If anything fails, power included, the old
/// file is untouched.
///
/// # Errors
/// [`StoreError::Io`] with the path and what to do. The temporary file is removed.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), StoreError> {
    let dir = folder_of(path);
    let (temp, file) = Temp::create(dir).map_err(StoreError::io("write", path))?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    write(&mut writer)
        .and_then(|()| writer.flush())
        .and_then(|()| writer.get_ref().sync_all())
        .and_then(|()| temp.rename(path))
        .and_then(|()| sync_folder(dir))
        .map_err(StoreError::io("write", path))
}

/// Removes what killed writers left in `dir` and returns the number of files removed. Call it only
/// while no other process writes there, that is, while holding the folder's [`super::DirLock`].
///
/// # Errors
/// [`StoreError::Io`] if the folder cannot be listed or a file cannot be removed. A folder that
/// does not exist is fine.
pub fn remove_stale_temps(dir: &Path) -> Result<usize, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::io("list", dir)(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let name = entry.file_name();
        if is_temp_name(&name.to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Creates `dir` and its parents, durably.
///
/// # Errors
/// [`StoreError::Io`] with the path and what to do.
pub fn create_folder(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)
        .and_then(|()| sync_folder(folder_of(dir)))
        .map_err(StoreError::io("create the folder", dir))
}

/// Opens a regular file for reading and returns it with its length. Pipes and devices, which can
/// hang or never end, are refused.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), StoreError> {
    let open = || {
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    open().map_err(StoreError::io("read", path))
}

fn is_temp_name(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMP_SUFFIX)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Makes a rename in `dir` durable. Only Unix can (and needs to) open a folder for that.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// A half-written file, removed when dropped before its rename.
struct Temp {
    path: PathBuf,
    renamed: bool,
}

impl Temp {
    fn create(dir: &Path) -> io::Result<(Self, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".{}-{n}{TEMP_SUFFIX}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self { path, renamed: false }, file)),
                // An earlier process with our id was killed here; its name is not ours to reuse.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.renamed {
            // There is nobody to report to; the next start removes what could not be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_in(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, |w| w.write_all(b"old and longer")).unwrap();

        write_atomic(&path, |w| w.write_all(b"new")).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(files_in(dir.path()), ["state"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();

        let error = write_atomic(&path, |w| {
            w.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();

        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(files_in(dir.path()), ["state"]);
        assert!(error.to_string().contains("free some space"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_in_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");

        let error = write_atomic(&path, |_| {
            OpenOptions::new().write(true).open("/dev/full")?.write_all(b"x")
        })
        .unwrap_err();

        let text = error.to_string();
        assert!(text.contains("state") && text.contains("free some space"), "{text}");
    }

    #[test]
    fn a_path_below_a_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();

        let error = write_atomic(&file.join("below"), |_| Ok(())).unwrap_err();

        assert!(error.to_string().contains("below"), "{error}");
        assert!(create_folder(&file.join("below")).is_err());
    }

    #[test]
    fn leftovers_of_a_killed_writer_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".77-0.latrod-tmp", ".other", "kept.latrod-tmp"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }

        assert_eq!(remove_stale_temps(dir.path()).unwrap(), 1);

        assert_eq!(files_in(dir.path()), [".other", "kept.latrod-tmp"]);
        assert_eq!(remove_stale_temps(&dir.path().join("absent")).unwrap(), 0);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();

        assert!(open_regular(dir.path()).is_err());
        assert!(open_regular(&dir.path().join("absent")).is_err());
        #[cfg(target_os = "linux")]
        assert!(open_regular(Path::new("/dev/zero")).is_err());
    }
}
