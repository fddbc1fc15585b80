//! The name of a version: its number and the beginning of its weights' hash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest number that a name has digits for.
pub(super) const MAX_NUMBER: u32 = 99_999_999;

/// `00000007-1a2b3c4d`: eight decimal digits that count versions up from 1, and the first eight
/// hexadecimal digits of the SHA-256 of the version's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VersionId {
    number: u32,
    hash: u32,
}

/// A text that is not the name of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is named like 00000007-1a2b3c4d: a number from 1 and eight digits of a hash")]
pub struct NotAVersion;

impl VersionId {
    /// The name of version `number` with weights of this SHA-256 (lower-case hexadecimal); `None`
    /// for a number of more than eight digits or a text that is not a hash.
    #[must_use]
    pub fn new(number: u32, weights_sha256: &str) -> Option<Self> {
        let hash = weights_sha256.get(..8)?;
        format!("{number:08}-{hash}").parse().ok()
    }

    /// Counts up from 1 in the order in which versions were published.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether weights with this SHA-256 (lower-case hexadecimal) may be this version's.
    #[must_use]
    pub fn fits(self, weights_sha256: &str) -> bool {
        weights_sha256.get(..8) == Some(format!("{:08x}", self.hash).as_str())
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{:08x}", self.number, self.hash)
    }
}

impl FromStr for VersionId {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (number, hash) = text.split_once('-').ok_or(NotAVersion)?;
        let number = number.parse().map_err(|_| NotAVersion)?;
        let hash = u32::from_str_radix(hash, 16).map_err(|_| NotAVersion)?;
        let id = Self { number, hash };
        // Other spellings of the same numbers would be other folders.
        let exact = (1..=MAX_NUMBER).contains(&number) && id.to_string() == text;
        if exact { Ok(id) } else { Err(NotAVersion) }
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for VersionId {
    type Error = NotAVersion;

    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_in_one_spelling_only() {
        let id: VersionId = "00000007-1a2b3c4d".parse().unwrap();
        assert_eq!((id.number(), id.to_string().as_str()), (7, "00000007-1a2b3c4d"));
        assert!(id.fits("1a2b3c4dffff") && !id.fits("1a2b3c4e"));
        assert_eq!(VersionId::new(7, "1a2b3c4dffff"), Some(id));

        for text in [
            "",
            "-",
            "7-1a2b3c4d",
            "00000007-1A2B3C4D",
            "00000000-1a2b3c4d",
            "+0000007-1a2b3c4d",
            "00000007-1a2b3c4",
            "00000007-1a2b3c4d0",
            "100000000-1a2b3c4d",
            "00000007-1a2b3c4d/..",
            "current",
        ] {
            assert_eq!(text.parse::<VersionId>(), Err(NotAVersion), "{text}");
        }
        assert_eq!(VersionId::new(0, "1a2b3c4d"), None);
        assert_eq!(VersionId::new(1, "1a2b"), None);
        assert_eq!(VersionId::new(1, "ää2b3c4d"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_not(text in any::<String>(), number in 1..=MAX_NUMBER, hash in any::<u32>()) {
            prop_assert!(text.parse::<VersionId>().map_or(true, |id| id.to_string() == text));
            let id = VersionId { number, hash };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
