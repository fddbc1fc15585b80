//! AVX2: a tile's 16 rows are two registers, of 8 rows each, computed one after the other.
//!
//! int8 products come in two forms, with and without the instruction that multiplies and sums four bytes at once
//! (AVX-VNNI).

mod int8;
mod registers;

pub(in crate::kernels::isa) use int8::multiply_int8_vnni;

/// Rows of a tile that fit a register.
const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(in crate::kernels::isa) struct Avx2;

/// Whether this machine has AVX2, FMA and F16C, which all functions here use.
pub(in crate::kernels::isa) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Whether it also has AVX-VNNI, for [`multiply_int8_vnni`].
pub(in crate::kernels::isa) fn vnni_available() -> bool {
    available() && is_x86_feature_detected!("avxvnni")
}
