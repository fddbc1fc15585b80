//! Files whose existence keeps the device from training, and programs that asked systemd to keep it
//! from idling.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::system::files::{self, Root};

/// The first of `paths` that exists, with the error if that cannot be found out. A folder counts if
/// there is any entry in it.
///
/// A path that cannot be looked at counts as existing: it was set up as a brake, and a brake that cannot
/// be released is noticed, while one that does not hold is not.
pub fn first_path<'a>(root: &Root, paths: &'a [PathBuf]) -> Option<(&'a Path, Option<io::Error>)> {
    paths.iter().find_map(|path| match is_there(&root.path(path)) {
        Ok(true) => Some((path.as_path(), None)),
        Ok(false) => None,
        Err(error) => Some((path.as_path(), Some(error))),
    })
}

fn is_there(path: &Path) -> io::Result<bool> {
    // Links are not followed for files: one that points nowhere is an entry too.
    let is_folder = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir() || (metadata.is_symlink() && path.is_dir()),
        Err(error) if files::is_absent(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(!is_folder || fs::read_dir(path)?.next().is_some())
}

/// How many programs block idling by systemd's inhibitor locks.
pub fn systemd_locks(root: &Root) -> io::Result<usize> {
    let folder = root.path("/run/systemd/inhibit");
    let names = files::names(&folder)?;
    let blocks = |name: &String| {
        // `<id>.ref` are pipes that logind holds.
        !name.contains('.')
            && files::text(&folder.join(name)).is_ok_and(|text| {
                let what = files::value_of(&text, "WHAT").unwrap_or_default();
                let mode = files::value_of(&text, "MODE").unwrap_or_default();
                what.split(':').any(|what| what == "idle") && mode.starts_with("block")
            })
    };
    Ok(names.iter().filter(|name| blocks(name)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_or_a_folder_with_something_in_it_inhibits() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root::new(dir.path().to_owned());
        let paths = [PathBuf::from("/run/busy"), PathBuf::from("/run/busy.d")];
        let found = || first_path(&root, &paths).map(|(path, error)| (path, error.is_some()));
        assert_eq!(found(), None);

        fs::create_dir_all(dir.path().join("run/busy.d")).expect("a folder");
        assert_eq!(found(), None, "an empty folder holds nobody back");

        fs::write(dir.path().join("run/busy.d/backup"), "").expect("a file");
        assert_eq!(found(), Some((Path::new("/run/busy.d"), false)));

        std::os::unix::fs::symlink("nowhere", dir.path().join("run/busy")).expect("a link");
        assert_eq!(found(), Some((Path::new("/run/busy"), false)));
    }
}
