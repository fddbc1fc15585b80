//! What the vector instruction sets share: a matrix by its addresses, and the choice of the code that
//! reads its layout.

use super::layout::PackedMatrix;

/// The addresses of a matrix's parts.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) codes: *const u8,
    pub(super) subs: *const u8,
    pub(super) supers: *const u8,
    pub(super) offset: f32,
}

impl View {
    pub(super) fn of(w: &PackedMatrix) -> Self {
        Self {
            codes: w.code_bytes.bytes().as_ptr(),
            subs: w.sub_bytes.bytes().as_ptr(),
            supers: w.super_bytes.bytes().as_ptr(),
            offset: w.scales.offset(),
        }
    }
}

/// Runs a body with a type alias for the reader of a matrix's layout, one of the types in the
/// `readers` beside the calling file. The second form leaves float weights out.
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
            Codes::Bits { .. } => crate::kernels::view::with_reader!(quantized $w, $reader => $body),
        }
    }};
    (quantized $w:expr, $reader:ident => $body:expr) => {
        crate::kernels::view::with_reader!(@ $w, $reader => $body,
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
pub(super) use with_reader;

/// Repeats a body with `$i` = 0..8, each a constant, because shifts inside must be constants.
macro_rules! eight_times {
    ($i:ident => $body:block) => {
        crate::kernels::view::eight_times!(@ $i => $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident => $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            $body
        })*
    };
}
pub(super) use eight_times;
