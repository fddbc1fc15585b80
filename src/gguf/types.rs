//! The tensor types of GGUF files (ggml.h `enum ggml_type`) and their block geometry.
//!
//! Owns numbers, names and sizes. Doesn't decode blocks; the kernels do.

use std::borrow::Cow;
use std::fmt;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    /// A type this program does not compute with, by its number in the file.
    Other(u32),
}

/// Number in the file, name, values per block, bytes per block (ggml-common.h).
type Row = (u32, &'static str, usize, usize);

/// Types that are understood well enough to be named and measured, but not computed with.
const OTHERS: [Row; 21] = [
    (9, "Q8_1", 32, 40),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl GgmlType {
    /// Every type that has a variant of its own.
    pub const NAMED: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type with this number in a GGUF file.
    #[must_use]
    pub fn from_u32(id: u32) -> Self {
        Self::NAMED.into_iter().find(|t| t.to_u32() == id).unwrap_or(Self::Other(id))
    }

    /// The type's number in a GGUF file.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        match self {
            Self::Other(id) => id,
            _ => self.row().0,
        }
    }

    /// The name that ggml gives the type, for example `Q4_1`, or `number 99` for an unknown number.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Other(id) => match Self::other(id) {
                Some(&(_, name, _, _)) => name.into(),
                None => format!("number {id}").into(),
            },
            _ => self.row().1.into(),
        }
    }

    /// How many values one block holds; `None` for a number that ggml has not assigned.
    #[must_use]
    pub fn block_values(self) -> Option<usize> {
        match self {
            Self::Other(id) => Self::other(id).map(|row| row.2),
            _ => Some(self.row().2),
        }
    }

    /// How many bytes one block takes; `None` for a number that ggml has not assigned.
    #[must_use]
    pub fn block_bytes(self) -> Option<usize> {
        match self {
            Self::Other(id) => Self::other(id).map(|row| row.3),
            _ => Some(self.row().3),
        }
    }

    fn other(id: u32) -> Option<&'static Row> {
        OTHERS.iter().find(|row| row.0 == id)
    }

    const fn row(self) -> Row {
        match self {
            Self::F32 => (0, "F32", 1, 4),
            Self::F16 => (1, "F16", 1, 2),
            Self::Q4_0 => (2, "Q4_0", 32, 18),
            Self::Q4_1 => (3, "Q4_1", 32, 20),
            Self::Q5_0 => (6, "Q5_0", 32, 22),
            Self::Q5_1 => (7, "Q5_1", 32, 24),
            Self::Q8_0 => (8, "Q8_0", 32, 34),
            Self::Q2K => (10, "Q2_K", 256, 84),
            Self::Q3K => (11, "Q3_K", 256, 110),
            Self::Q4K => (12, "Q4_K", 256, 144),
            Self::Q5K => (13, "Q5_K", 256, 176),
            Self::Q6K => (14, "Q6_K", 256, 210),
            Self::BF16 => (30, "BF16", 1, 2),
            Self::Other(id) => (id, "", 0, 0),
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_map_both_ways() {
        for id in 0..64 {
            assert_eq!(GgmlType::from_u32(id).to_u32(), id);
        }
        assert_eq!(GgmlType::from_u32(3), GgmlType::Q4_1);
        assert_eq!(GgmlType::from_u32(30), GgmlType::BF16);
    }

    #[test]
    fn types_without_a_kernel_still_have_a_readable_name() {
        assert_eq!(GgmlType::from_u32(23).name(), "IQ4_XS");
        assert_eq!(GgmlType::from_u32(39).block_bytes(), Some(17));
        assert_eq!(GgmlType::from_u32(999).name(), "number 999");
        assert_eq!(GgmlType::from_u32(999).block_bytes(), None);
    }
}
