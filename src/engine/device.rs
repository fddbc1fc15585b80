//! Where a model computes: the names of devices, and which of them this build knows.

use crate::kernels::Compute;
use crate::settings::{Choice, Choices, choices, setting_of_choice};

choices! {
    /// A device that a model can compute on.
    pub enum DeviceKind {
        /// The processor, with this program's own kernels.
        Cpu = "cpu",
        /// The processor, with candle's operations: slow, to check what GPUs compute.
        Candle = "candle",
        /// The first NVIDIA GPU.
        Cuda = "cuda",
        /// The GPU of a Mac.
        Metal = "metal",
    }
}

#[expect(clippy::derivable_impls, reason = "`choices!` makes the enum, without a default")]
impl Default for DeviceKind {
    fn default() -> Self {
        Self::Cpu
    }
}

impl Choice for Compute {
    const ALL: &'static [Self] = &[Self::Exact, Self::Fast];
    const WORDS: Choices = &[
        ("exact", "Weights decoded to f32, products in f32."),
        ("fast", "Activations rounded to 8 bits per block of 32 where a kernel gains from it."),
    ];
}

setting_of_choice!(Compute);

impl DeviceKind {
    /// The name in arguments and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }

    /// Whether this program was built for the device; whether it is there shows when a model is
    /// loaded.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Candle => cfg!(any(test, feature = "candle")),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }

    /// Whether its memory is planned; that of GPUs is not yet.
    #[must_use]
    pub fn is_planned(self) -> bool {
        self == Self::Cpu
    }

    /// Every device that this program was built for.
    pub fn built_in() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|d| d.is_built_in())
    }

    /// A sentence, if this program was not built for the device.
    #[must_use]
    pub fn why_not(self) -> Option<String> {
        let name = self.name();
        (!self.is_built_in()).then(|| {
            format!("this build has no {name}: build with --features {name}, see cross/CUDA.md")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_lacks_has_a_sentence() {
        assert!(DeviceKind::built_in().any(|kind| kind == DeviceKind::Cpu));
        for kind in [DeviceKind::Cpu, DeviceKind::Candle, DeviceKind::Cuda, DeviceKind::Metal] {
            let sentence = kind.why_not();
            assert_eq!(sentence.is_none(), DeviceKind::built_in().any(|k| k == kind));
            assert!(sentence.is_none_or(|s| s.contains(kind.name())));
        }
    }
}
