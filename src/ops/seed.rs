//! The start of a block's backward pass: a scalar whose gradient is given.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

struct Seed {
    gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}

/// A scalar (of value 0) whose `backward` hands `gradient` to `x`: candle's `backward` takes no
/// seed of its own.
///
/// # Errors
/// If the shapes differ.
pub fn seed(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if x.shape() != gradient.shape() {
        candle_core::bail!("a gradient of shape {:?} for {:?}", gradient.shape(), x.shape());
    }
    x.apply_op1(Seed { gradient: gradient.clone() })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    #[test]
    fn hands_the_given_gradient_to_the_graph() {
        let x = Var::new(&[1.0f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let gradient = Tensor::new(&[10.0f32, 20.0, 30.0], &Device::Cpu).unwrap();
        let y = x.as_tensor().sqr().unwrap();

        let grads = super::seed(&y, &gradient).unwrap().backward().unwrap();

        assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [20.0, 80.0, 180.0]);
    }
}
