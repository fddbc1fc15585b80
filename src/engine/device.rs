//! Where a model computes: the names of devices, and which of them this build knows.

/// A device that a model can compute on.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor, with this program's own kernels.
    #[default]
    Cpu,
    /// The processor, with candle's operations: slow, to check what GPUs compute.
    Candle,
    /// The first NVIDIA GPU.
    Cuda,
    /// The GPU of a Mac.
    Metal,
}

impl DeviceKind {
    /// The name in arguments and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Candle => "candle",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
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
        [Self::Cpu, Self::Candle, Self::Cuda, Self::Metal].into_iter().filter(|d| d.is_built_in())
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
