//! AVX-512 with VNNI: a tile's 16 rows are the lanes of one register.
//!
//! [`readers`] turn packed bytes into registers; [`panels`] has the f32 operations and [`int8`] the
//! 8-bit ones. Functions here are chosen per matrix layout once per tile, by
//! [`with_reader`](super::view::with_reader).

mod int8;
mod panels;
mod readers;

pub(super) use int8::{multiply_int8, quantize_block};
pub(super) use panels::{decode_panel, decode_panel_transposed, multiply_fused, multiply_panel};

/// Whether this machine has every extension that the functions here use.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}
