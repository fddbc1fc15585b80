//! Moves a damaged ledger out of the way, whole, for people to look at.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::LedgerError;

/// What the name of a damaged ledger has at its end, before the time.
const CORRUPT: &str = ".corrupt-";

/// A damaged ledger that was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it lies now; what SQLite keeps beside it has this name and `-wal` or `-shm`.
    pub path: PathBuf,
    /// When, in unix seconds.
    pub unix_s: i64,
    /// What was wrong with it, in one sentence without any task's text.
    pub reason: String,
}

/// Moves the ledger and what SQLite keeps beside it to `<path>.corrupt-<unix_s>`, under a name
/// that is still free. `None` if there was nothing.
pub(super) fn move_aside(
    path: &Path,
    unix_s: i64,
    reason: &str,
) -> Result<Option<SetAside>, LedgerError> {
    let file_error = |source| LedgerError::file("set aside", path, source);
    let base = beside(path, &format!("{CORRUPT}{unix_s}"));
    let target = (0..)
        .map(|n| if n == 0 { base.clone() } else { beside(&base, &format!(".{n}")) })
        .find(|name| ["", "-wal", "-shm"].iter().all(|suffix| is_free(&beside(name, suffix))))
        .unwrap_or(base);
    let mut moved = false;
    // The main file first: SQLite discards a log whose main file is missing, while a main file
    // without its log would look sound and lack its newest rows.
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(&target, suffix)) {
            Ok(()) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(error)),
        }
    }
    if !moved {
        return Ok(None);
    }
    sync_folder_of(path).map_err(file_error)?;
    Ok(Some(SetAside { path: target, unix_s, reason: reason.to_owned() }))
}

/// Whether a ledger of this path was ever set aside, in whole or in part.
pub(super) fn was_set_aside(path: &Path) -> Result<bool, LedgerError> {
    let file_error = |source| LedgerError::file("open", path, source);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut start = path.file_name().unwrap_or_default().to_owned();
    let log = [&start, OsStr::new("-wal")].into_iter().collect::<OsString>();
    start.push(CORRUPT);
    for entry in fs::read_dir(folder.unwrap_or(Path::new("."))).map_err(file_error)? {
        let name = entry.map_err(file_error)?.file_name();
        if name == log || name.as_encoded_bytes().starts_with(start.as_encoded_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The path with something added to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename within the file's folder durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => {
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

fn is_free(path: &Path) -> bool {
    // Whatever else is wrong shows when it is renamed.
    fs::symlink_metadata(path).is_err()
}
