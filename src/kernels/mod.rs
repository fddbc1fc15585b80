//! CPU kernels.

/// How products with quantised weights are computed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Weights decoded to f32, f32 products.
    Exact,
    /// Activations rounded to 8 bits per block of 32 where a kernel gains from it.
    Fast,
}
