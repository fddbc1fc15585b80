//! Errors of packing weights. The products themselves cannot fail.

use crate::gguf::GgmlType;

/// A reason why a tensor's bytes cannot become a [`super::PackedMatrix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No kernel reads this type.
    #[error(
        "weights of type {ty:?} are not supported; convert the model to one of F32, F16, \
         BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K or Q6_K"
    )]
    UnsupportedType { ty: GgmlType },
    /// A row does not hold a whole number of blocks.
    #[error(
        "a {ty:?} weight has rows of {cols} values, which is not a multiple of its block of {block}; \
         the file is damaged or was written by a broken converter"
    )]
    RaggedRow { ty: GgmlType, cols: usize, block: usize },
    /// A dimension is zero or their product does not fit in memory.
    #[error("a weight of {rows} x {cols} values cannot be packed; the file is damaged")]
    BadShape { rows: usize, cols: usize },
    /// The tensor has another number of bytes than its type and shape require.
    #[error(
        "a {ty:?} weight of {rows} x {cols} values needs {expected} bytes but has {found}; \
         the file is damaged or cut short"
    )]
    WrongLength { ty: GgmlType, rows: usize, cols: usize, expected: usize, found: usize },
    /// The environment asks for instructions that the processor lacks.
    #[error(
        "LATROD_ISA asks for the instruction set {asked:?}, which this machine does not have; it \
         has {available}; leave LATROD_ISA unset for the best one"
    )]
    NoSuchIsa { asked: String, available: String },
    /// The packed weights do not fit in memory.
    #[error("not enough memory for a packed weight of {bytes} bytes; use a smaller model")]
    OutOfMemory { bytes: usize },
}
