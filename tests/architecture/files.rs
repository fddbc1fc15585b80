//! Source files by their paths, from the disk or made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The text of every file under some folders. Paths are relative, with `/` between their parts.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<String, String>);

impl Files {
    /// Reads the named folders of `root`. A file that is not UTF-8 counts as empty.
    pub fn read(root: &Path, folders: &[&str]) -> Self {
        let mut files = Self::default();
        for folder in folders {
            files.read_folder(root, folder);
        }
        files
    }

    fn read_folder(&mut self, root: &Path, folder: &str) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // Not ours: what editors, Python and cargo leave behind.
            if name.starts_with('.') || name == "__pycache__" || name == "target" {
                continue;
            }
            let path = format!("{folder}/{name}");
            if entry.file_type().unwrap().is_dir() {
                self.read_folder(root, &path);
            } else {
                let text = fs::read(root.join(&path)).unwrap();
                self.0.insert(path, String::from_utf8(text).unwrap_or_default());
            }
        }
    }

    /// Made-up files: paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Paths and texts of the Rust files, in the order of their paths.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Every folder with the names of what is directly in it.
    pub fn folders(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut folders = BTreeMap::<&str, BTreeSet<&str>>::new();
        for path in self.0.keys() {
            for (at, _) in path.match_indices('/') {
                let name = path[at + 1..].split('/').next().unwrap_or_default();
                folders.entry(&path[..at]).or_default().insert(name);
            }
        }
        folders
    }
}
