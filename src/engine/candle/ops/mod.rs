//! The operations of a transformer on candle's tensors, each with its gradient: the twins of
//! [`crate::ops`].

pub mod attention;
pub mod attention_plan;
pub mod head;
pub mod linear;
pub mod matrix;
pub mod norm;
pub mod rope;
pub mod swiglu;
pub mod tensor;
