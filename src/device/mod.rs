//! The same model on another device, made of candle's tensors.
//!
//! Every operation of `ops` has its twin here, forwards and backwards, in plain tensor operations
//! that run on CUDA and Metal. None of it uses candle's own gradients: the kernels that are fast have
//! none, and say so by leaving gradients out. Tests compare each twin with the fused operation, on
//! candle's CPU device.

mod attention;
mod attention_plan;
mod head;
mod linear;
mod matrix;
mod norm;
mod rope;
mod swiglu;
mod tensor;
mod weights;
