//! AVX-512 with VNNI: a tile's 16 rows are the lanes of one register.

mod int8;
mod registers;

pub(super) use registers::mask;

#[derive(Clone, Copy)]
pub(in crate::kernels::isa) struct Avx512;

/// Whether this machine has every extension that the functions here use.
pub(in crate::kernels::isa) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}
