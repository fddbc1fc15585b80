//! NEON: a tile's 16 rows are the lanes of four registers, taken two at a time.
//!
//! [`readers`] turn packed bytes into registers; [`panels`] has the f32 operations and [`int8`] the
//! 8-bit ones, whose sums of products are made by one of the instructions in [`dots`]. Functions here
//! are chosen per matrix layout once per tile, by [`with_reader`](super::view::with_reader).
//!
//! Every aarch64 target has NEON itself, so only the functions that use more are unsafe for that
//! reason.

mod dots;
mod int8;
mod panels;
mod readers;

use std::arch::is_aarch64_feature_detected;

pub(super) use int8::{multiply_int8, quantize_block};
pub(super) use panels::{decode_panel, decode_panel_transposed, multiply_fused, multiply_panel};

/// What int8 products are summed with; later ones are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dots {
    /// `smull` and `smlal` to 16 bits, which every processor has (Cortex-A53, A72: Raspberry Pi 4).
    Widening,
    /// `sdot`, of the extension `dotprod` (Cortex-A55, A76, A78: Raspberry Pi 5, Jetson Orin).
    Dotprod,
}

impl Dots {
    /// Those that this machine has, the best last.
    pub(super) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let dotprod = is_aarch64_feature_detected!("dotprod").then_some(Self::Dotprod);
        [Some(Self::Widening), dotprod].into_iter().flatten()
    }
}
