//! AVX2: a tile's 16 rows are two registers, of 8 rows each, computed one after the other.
//!
//! As in [`avx512`](super::avx512), [`readers`] turn packed bytes into registers; [`panels`] has the
//! f32 operations and [`int8`] the 8-bit ones. These come in two forms, with and without the
//! instruction that multiplies and sums four bytes at once (AVX-VNNI).

mod int8;
mod panels;
mod readers;

pub(super) use int8::{multiply_int8, multiply_int8_vnni, quantize_block};
pub(super) use panels::{decode_panel, decode_panel_transposed, multiply_fused, multiply_panel};

/// Rows of a tile that fit a register.
const LANES: usize = 8;

/// Whether this machine has AVX2, FMA and F16C, which all functions here use.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Whether it also has AVX-VNNI, for [`multiply_int8_vnni`].
pub(super) fn vnni_available() -> bool {
    available() && is_x86_feature_detected!("avxvnni")
}
