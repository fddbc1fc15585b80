//! Settings: how many promoted adapters are kept, and who may read them.

use crate::settings::{Rule, choices, settings};

choices! {
    /// Who may read the folder of versions, beside the daemon that writes it.
    pub enum ReadableBy {
        /// The daemon's own user only: folders 0700, files 0600.
        Owner = "owner",
        /// Its group as well, so that a server under another user can load the adapter: 0750, 0640.
        Group = "group",
        /// Everybody on the device: 0755, 0644.
        All = "all",
    }
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

settings! {
    /// Promoted adapters. The active one, the one that a rollback would restore, and the newest are
    /// never removed.
    pub struct VersionSettings {
        /// Versions to keep; the oldest are removed first.
        ///
        /// 5 allow for more than one rollback; fewer than 3 cannot hold those that are never removed.
        keep_count: usize = 5 => Rule::Whole(3, usize::MAX as u64),
        /// What all versions together may take on disk, in MiB; the oldest are removed first.
        ///
        /// 512 hold five adapters of rank 16 on a model of 3 billion parameters.
        keep_mib: u64 = 512 => Rule::Whole(1, u64::MAX),
        /// Who may read the adapters.
        ///
        /// A model server in the daemon's group can load them, nobody else can.
        readable_by: ReadableBy = ReadableBy::Group => Rule::Any,
    }
}

impl VersionSettings {
    /// [`Self::keep_mib`] in bytes.
    #[must_use]
    pub const fn keep_bytes(&self) -> u64 {
        self.keep_mib.saturating_mul(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

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
