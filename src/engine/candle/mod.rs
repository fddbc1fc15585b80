//! The same model on another device, made of candle's tensors.
//!
//! Every operation of `ops` has its twin here, forwards and backwards, in plain tensor operations
//! that run on CUDA and Metal. None of it uses candle's own gradients: the kernels that are fast have
//! none, and say so by leaving gradients out. Tests compare each twin with the fused operation, on
//! candle's CPU device.

mod attention;
mod attention_plan;
mod backward;
mod head;
mod linear;
mod matrix;
mod model;
mod norm;
mod rope;
mod swiglu;
mod tensor;
#[cfg(test)]
mod tests;
mod weights;

use candle_core::Device;

use crate::engine::ModelError;
use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
pub use backward::Trace;
pub use model::{Adapter, Cache, Model};

/// Opens a device.
///
/// # Errors
/// If this program was not built for it, or the machine does not have it.
pub fn open(kind: DeviceKind, compute: Compute) -> Result<Device, ModelError> {
    if let Some(sentence) = kind.why_not() {
        return Err(ModelError::NoDevice(sentence));
    }
    let device = match kind {
        DeviceKind::Cpu | DeviceKind::Candle => return Ok(Device::Cpu),
        DeviceKind::Cuda => Device::new_cuda(0),
        DeviceKind::Metal => Device::new_metal(0),
    };
    // f32 products on tensor cores keep 11 bits of each factor: near enough for `fast`.
    candle_core::cuda::set_gemm_reduced_precision_f32(compute == Compute::Fast);
    device.map_err(|error| {
        let (name, reason) = (kind.name(), ModelError::from(error));
        ModelError::NoDevice(format!(
            "{name} cannot be used here: {reason}; check the driver, or compute on the cpu"
        ))
    })
}
