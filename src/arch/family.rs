//! What sets a family of models apart from the others.

use super::lora::Target;
use crate::ops::rope::RopeStyle;

/// A family of models as GGUF files and Hugging Face know it. [`super::Block`] makes the steps of
/// its blocks from this; everything else follows from the steps.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The value of `general.architecture` and the prefix of the family's keys.
    pub name: &'static str,
    /// Which values of a head are rotated together.
    pub rope: RopeStyle,
    /// Whether the rows of q and k are permuted against Hugging Face's order, as conversion does for
    /// families whose files are rotated [`RopeStyle::Interleaved`].
    pub permuted_qk: bool,
    /// The linear layers that add a bias.
    pub biases: &'static [Target],
}
