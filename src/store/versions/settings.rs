//! Settings: how many promoted adapters are kept, and who may read them.

use serde::{Deserialize, Serialize};

/// Who may read the folder of versions, besides the daemon that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadableBy {
    /// The daemon's own user only: folders 0700, files 0600.
    Owner,
    /// The daemon's group as well, so that a server under another user can load the adapter: 0750, 0640.
    #[default]
    Group,
    /// Everybody on the device: 0755, 0644.
    All,
}

impl ReadableBy {
    /// The mode of folders.
    #[must_use]
    pub const fn folder_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
            Self::All => 0o755,
        }
    }

    /// The mode of files.
    #[must_use]
    pub const fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
            Self::All => 0o644,
        }
    }
}

/// What happens to promoted adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VersionSettings {
    /// Versions that are kept; older ones are removed first, but never the active one, the one that
    /// a rollback would return to, or the newest. Default 5: enough to roll back more than once.
    /// At least 3, so that those that are never removed fit.
    pub keep_count: usize,
    /// What all versions together may take on disk, MiB, with the same exceptions. Default 512:
    /// five adapters of rank 16 on a model of 3 billion parameters.
    pub keep_mib: u64,
    /// Who may read the adapters: `owner`, `group` or `all`. Default `group`: a model server that is
    /// in the daemon's group loads them, nobody else does.
    pub readable_by: ReadableBy,
}

impl Default for VersionSettings {
    fn default() -> Self {
        Self { keep_count: 5, keep_mib: 512, readable_by: ReadableBy::default() }
    }
}

impl VersionSettings {
    /// Every value that cannot be used, with a sentence.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.keep_count < 3 {
            let found = self.keep_count;
            problems.push((
                "keep_count",
                format!(
                    "is {found}, but the active version, the one before it and the newest are \
                     always kept; give 3 or more"
                ),
            ));
        }
        if self.keep_mib == 0 {
            problems.push(("keep_mib", "is 0, which holds no adapter; give 1 or more".into()));
        }
        problems
    }

    /// [`Self::keep_mib`] in bytes.
    #[must_use]
    pub const fn keep_bytes(&self) -> u64 {
        self.keep_mib.saturating_mul(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_nonsense_is_named() {
        assert!(VersionSettings::default().problems().is_empty());

        let none = VersionSettings { keep_count: 2, keep_mib: 0, ..VersionSettings::default() };

        let fields: Vec<_> = none.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["keep_count", "keep_mib"]);
    }

    #[test]
    fn readers_are_named_in_one_word() {
        let settings: VersionSettings =
            serde_json::from_str("{\"readable_by\": \"all\", \"keep_count\": 9}").unwrap();

        assert_eq!((settings.readable_by, settings.keep_count), (ReadableBy::All, 9));
        assert!(serde_json::from_str::<VersionSettings>("{\"keep\": 9}").is_err());
    }
}
