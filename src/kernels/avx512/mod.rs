//! AVX-512 with VNNI: a tile's 16 rows are the lanes of one register.
//!
//! [`readers`] turn packed bytes into registers; [`panels`] has the f32 operations and [`int8`] the
//! 8-bit ones. Functions here are chosen per matrix layout once per tile, by [`with_reader`].

mod int8;
mod panels;
mod readers;

pub(super) use int8::{multiply_int8, quantise_block};
pub(super) use panels::{decode_panel, decode_panel_transposed, multiply_fused, multiply_panel};

/// Whether this machine has every extension that the functions here use.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

/// Runs a body with a type alias for the reader of a matrix's layout. The second form leaves float
/// weights out.
macro_rules! with_reader {
    ($w:expr, $reader:ident => $body:expr) => {{
        use super::readers::{Float, BF16, F16, F32};
        use crate::kernels::layout::Codes;
        match $w.codes {
            Codes::F32 => {
                type $reader = Float<F32>;
                $body
            }
            Codes::F16 => {
                type $reader = Float<F16>;
                $body
            }
            Codes::Bf16 => {
                type $reader = Float<BF16>;
                $body
            }
            Codes::Bits { .. } => super::with_reader!(quantised $w, $reader => $body),
        }
    }};
    (quantised $w:expr, $reader:ident => $body:expr) => {
        super::with_reader!(@ $w, $reader => $body,
            (4, 0, Scales::Half { .. }, Half), (4, 0, Scales::Pair, Pair),
            (4, 1, Scales::Half { .. }, Half), (4, 1, Scales::Pair, Pair),
            (8, 0, Scales::Half { .. }, Half),
            (2, 0, Scales::Pair16, Pair16), (2, 1, Scales::Signed16 { .. }, Signed16),
            (4, 0, Scales::Super, Super), (4, 1, Scales::Super, Super),
            (4, 2, Scales::Signed16 { .. }, Signed16))
    };
    (@ $w:expr, $reader:ident => $body:expr,
     $(($low:literal, $planes:literal, $scales:pat, $tag:ident)),*) => {{
        use crate::kernels::layout::{Codes, Scales};
        match ($w.codes, $w.scales) {
            $((Codes::Bits { low: $low, planes: $planes }, $scales) => {
                type $reader = super::readers::Bits<$low, $planes, super::readers::$tag>;
                $body
            })*
            (codes, scales) => unreachable!("no file type has {codes:?} with {scales:?}"),
        }
    }};
}
use with_reader;

/// Repeats a body with `$i` = 0..8, each a constant, because the shifts inside must be constants.
macro_rules! eight_times {
    ($i:ident => $body:block) => {
        eight_times!(@ $i => $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident => $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            $body
        })*
    };
}
use eight_times;
