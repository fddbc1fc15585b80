//! Decides which versions are removed when there are too many.

use std::path::Path;

use super::{DAMAGED, REMOVING, VersionError, VersionId, Versions, names_in};
use crate::store::StoreError;

/// Damaged folders that are kept for people to look at.
const DAMAGED_KEPT: usize = 2;

/// A version as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub id: VersionId,
    /// What it takes on disk.
    pub bytes: u64,
    /// Whether it is always kept.
    pub protected: bool,
}

/// The versions to remove, oldest first, so that at most `keep_count` versions and `keep_bytes`
/// bytes are left. Protected ones are never removed, so more may be left.
#[must_use]
pub fn surplus(held: &[Held], keep_count: usize, keep_bytes: u64) -> Vec<VersionId> {
    let mut oldest_first = held.to_vec();
    oldest_first.sort_unstable_by_key(|version| version.id);
    let mut count = held.len();
    let mut bytes = held.iter().fold(0_u64, |sum, version| sum.saturating_add(version.bytes));
    let mut removed = Vec::new();
    for version in oldest_first.iter().filter(|version| !version.protected) {
        if count <= keep_count && bytes <= keep_bytes {
            break;
        }
        removed.push(version.id);
        count -= 1;
        bytes = bytes.saturating_sub(version.bytes);
    }
    removed
}

impl Versions {
    /// Removes the oldest versions beyond the settings' limits and returns their names. Never the active
    /// one, the one that a rollback would go back to, or the newest (which may be about to become
    /// active, and holds the last number).
    ///
    /// # Errors
    /// If something cannot be read or removed.
    pub fn retain(&mut self) -> Result<Vec<VersionId>, VersionError> {
        let held = self.held()?;
        let removed = surplus(&held, self.settings.keep_count, self.settings.keep_bytes());
        for id in &removed {
            self.remove(&id.to_string())?;
        }
        let names = names_in(&self.dir)?;
        let damaged: Vec<_> = names.iter().filter(|name| name.starts_with(DAMAGED)).collect();
        for name in damaged.iter().rev().skip(DAMAGED_KEPT) {
            self.remove(name)?;
        }
        Ok(removed)
    }

    fn held(&self) -> Result<Vec<Held>, VersionError> {
        let ids = self.ids()?;
        let mut protected: Vec<VersionId> = ids.last().copied().into_iter().collect();
        if let Some(active) = self.active()? {
            protected.push(active);
            if let Ok(version) = self.get(active) {
                protected.extend(version.manifest.parent);
                protected.extend(self.sound_ancestor(&version)?);
            }
        }
        ids.into_iter()
            .map(|id| {
                let bytes = bytes_in(&self.dir.join(id.to_string()))?;
                Ok(Held { id, bytes, protected: protected.contains(&id) })
            })
            .collect()
    }

    /// Renames a folder before removing it, so that the next opening removes what a kill leaves.
    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let removing = format!("{REMOVING}{name}");
        self.disk.rename(&self.dir, name, &removing)?;
        self.disk.remove_folder(&self.dir.join(removing))
    }
}

/// The bytes of the files in a folder, or of the file that has its name.
fn bytes_in(dir: &Path) -> Result<u64, StoreError> {
    let length =
        |path: &Path| std::fs::symlink_metadata(path).map_err(StoreError::io("read", path));
    let own = length(dir)?;
    if !own.is_dir() {
        return Ok(own.len());
    }
    let files = names_in(dir)?;
    files.iter().try_fold(0_u64, |sum, name| Ok(sum.saturating_add(length(&dir.join(name))?.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(number: u32, bytes: u64, protected: bool) -> Held {
        Held { id: VersionId::new(number, "0123abcd").unwrap(), bytes, protected }
    }

    fn numbers(ids: &[VersionId]) -> Vec<u32> {
        ids.iter().map(|id| id.number()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_protected_ones_never() {
        let all = [held(1, 10, true), held(2, 10, false), held(3, 10, false), held(4, 10, true)];

        assert_eq!(numbers(&surplus(&all, 3, 100)), [2]);
        assert_eq!(numbers(&surplus(&all, 9, 20)), [2, 3]);
        assert_eq!(numbers(&surplus(&all, 0, 0)), [2, 3]);
        assert!(surplus(&all, 4, 40).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_left_fits_or_is_protected(
            all in prop::collection::btree_map(1u32..60, (0u64..100, any::<bool>()), 0..30),
            keep_count in 0usize..20,
            keep_bytes in 0u64..1500,
        ) {
            let all: Vec<Held> = all.iter().map(|(n, (b, p))| held(*n, *b, *p)).collect();

            let removed = surplus(&all, keep_count, keep_bytes);

            let left = |gone: &[VersionId]| -> Vec<Held> {
                all.iter().filter(|v| !gone.contains(&v.id)).copied().collect()
            };
            let fits = |left: &[Held]| {
                left.len() <= keep_count && left.iter().map(|v| v.bytes).sum::<u64>() <= keep_bytes
            };
            let rest = left(&removed);
            prop_assert!(fits(&rest) || rest.iter().all(|v| v.protected));
            prop_assert!(all.iter().all(|v| !v.protected || rest.contains(v)));
            // Nothing is removed that could stay, and nothing before something older.
            if let Some((_, needed)) = removed.split_last() {
                prop_assert!(!fits(&left(needed)));
            }
            let oldest: Vec<VersionId> =
                all.iter().filter(|v| !v.protected).map(|v| v.id).take(removed.len()).collect();
            prop_assert_eq!(removed, oldest);
        }
    }
}
