//! The instruction sets: which one runs, and the few operations that each must have.
//!
//! Everything outside this folder is the same for all of them. To add a set, implement [`Operations`], and name
//! the set in [`Isa`], [`Isa::ALL`], [`Isa::name`], [`Isa::available`] and [`on_set`].

mod dispatch;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operands;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub(super) use self::operands::{CodeTile, Left, Output, PANEL};
#[cfg(target_arch = "x86_64")]
pub(super) use self::x86::amx;
#[cfg(target_arch = "x86_64")]
use self::x86::{avx2, avx512};
use super::error::KernelError;

/// The environment variable that names the set to use instead of the best one.
const CHOICE: &str = "LATROD_ISA";

/// A way to compute, always one that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    /// As [`Self::Avx512`], with AMX's tiles of bf16 for many rows.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C with AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON with dotprod.
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    /// NEON, which every processor of the family has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust; the reference for the others.
    Portable,
}

impl Isa {
    /// Every set of this family of processors, the best first.
    pub(super) const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Amx,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "aarch64")]
        Self::Dotprod,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        Self::Portable,
    ];

    /// The name by which the environment variable [`CHOICE`] selects it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Whether this machine has it.
    fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx2::vnni_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::available(),
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => neon::dotprod_available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
        }
    }

    /// Every set of this machine, the best first.
    pub(super) fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|isa| isa.available())
    }

    /// The set of that name, or the best for an empty one.
    fn named(name: &str) -> Result<Self, KernelError> {
        Self::all_available().find(|isa| name.is_empty() || isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all_available().map(Self::name).collect();
            KernelError::NoSuchIsa { asked: name.to_owned(), available: names.join(", ") }
        })
    }

    /// The set that the environment variable [`CHOICE`] names, or the best of this machine. The
    /// variable is read once.
    pub(super) fn chosen() -> Result<Self, KernelError> {
        static CHOSEN: OnceLock<Result<Isa, KernelError>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| {
                let name = std::env::var_os(CHOICE).unwrap_or_default();
                Self::named(&name.to_string_lossy())
            })
            .clone()
    }

    /// As [`Self::chosen`], where there is a packed matrix: packing checks the variable.
    pub(super) fn detect() -> Self {
        Self::chosen().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether [`Self::multiply_fused`] is faster than panels.
    pub(super) fn has_fused(self) -> bool {
        self != Self::Portable
    }

    /// Whether products of this many rows run on bf16 tiles (`amx`).
    pub(super) fn multiplies_tiles(self, rows: usize) -> bool {
        /// The fewest rows that are worth decoding a panel for.
        const FEWEST_ROWS: usize = 32;
        rows >= FEWEST_ROWS && self.name() == "amx"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_chosen_by_its_name() {
        for isa in Isa::all_available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        assert_eq!(Isa::named("").ok(), Isa::all_available().next());
    }

    #[test]
    fn an_unavailable_set_is_an_error_that_names_the_available_ones() {
        let error = Isa::named("avx9000").unwrap_err().to_string();
        assert!(error.contains("avx9000") && error.contains("portable"), "{error}");
    }
}
