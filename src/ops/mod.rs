//! Differentiable operations that candle lacks, on CPU tensors in f32.
//!
//! Each one is a candle custom operation: its forward pass runs a kernel, its backward pass returns
//! the gradient of every tracked argument. Frozen weights are captured, not arguments, so no
//! gradient is ever computed for them.

pub mod attention;
pub mod head;
pub mod linear;
pub mod rms_norm;
pub mod rope;
pub mod seed;
pub mod swiglu;

use std::borrow::Cow;

use candle_core::{CpuStorage, Error, Layout, Result, Tensor};

/// The values of a CPU f32 tensor in row-major order; copied only if they don't stand so.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let CpuStorage::F32(all) = storage else {
        return Err(Error::Msg("this operation takes f32 tensors".into()));
    };
    Ok(match layout.contiguous_offsets() {
        Some((start, end)) => Cow::Borrowed(&all[start..end]),
        None => {
            let mut out = Vec::with_capacity(layout.shape().elem_count());
            copy_strided(all, layout.start_offset(), layout.dims(), layout.stride(), &mut out);
            Cow::Owned(out)
        }
    })
}

/// Appends the values of a strided view, the last dimension fastest.
fn copy_strided(all: &[f32], at: usize, dims: &[usize], strides: &[usize], out: &mut Vec<f32>) {
    match (dims, strides) {
        ([dim, dims @ ..], [stride, strides @ ..]) => {
            for i in 0..*dim {
                copy_strided(all, at + i * stride, dims, strides, out);
            }
        }
        _ => out.push(all[at]),
    }
}

/// Runs `f` on the row-major values of a CPU f32 tensor.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        return Err(Error::Msg("this operation runs on the CPU only".into()));
    };
    Ok(f(&values(storage, layout)?))
}

/// A tensor from values.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &candle_core::Device::Cpu)
}

#[cfg(test)]
pub(crate) mod check {
    //! Finite differences, the judge of every gradient.

    use candle_core::{Device, Result, Tensor, Var};

    /// Numbers of about unit size, different for each `seed`.
    pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
        use rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 2.0).collect()
    }

    /// Checks the gradient of Σ w·f(inputs) for every input against central differences.
    ///
    /// Each input is also given as a transposed and as an offset view of the same values.
    pub fn gradients(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let data: Vec<Vec<f32>> = shapes
            .iter()
            .enumerate()
            .map(|(i, s)| numbers(s.iter().product(), 7 + i as u64))
            .collect();
        let whole = |data: &[Vec<f32>]| -> Vec<Tensor> {
            let tensors = data.iter().zip(shapes);
            tensors.map(|(d, s)| Tensor::from_slice(d, *s, &Device::Cpu).unwrap()).collect()
        };
        let out = f(&whole(&data)).unwrap();
        let weights = Tensor::from_vec(numbers(out.elem_count(), 99), out.shape(), &Device::Cpu);
        let weights = weights.unwrap();
        let objective = |inputs: &[Tensor]| (f(inputs).unwrap() * &weights).unwrap();
        let value = |data: &[Vec<f32>]| -> f64 {
            let terms = objective(&whole(data)).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            terms.into_iter().map(f64::from).sum()
        };

        for view in [as_it_is, transposed, offset] {
            let vars: Vec<Var> =
                whole(&data).iter().map(|t| Var::from_tensor(t).unwrap()).collect();
            let inputs: Vec<Tensor> = vars.iter().map(|v| view(v.as_tensor()).unwrap()).collect();
            let loss = objective(&inputs).sum_all().unwrap();
            assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - value(&data)).abs() < 1e-4);
            let grads = loss.backward().unwrap();
            for (i, var) in vars.iter().enumerate() {
                let grad = grads.get(var).expect("a gradient for every input");
                let grad = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (j, g) in grad.iter().enumerate() {
                    let h = 1e-2;
                    let mut moved = data.clone();
                    moved[i][j] += h;
                    let up = value(&moved);
                    moved[i][j] -= 2.0 * h;
                    let numeric = (up - value(&moved)) / f64::from(2.0 * h);
                    let error = (f64::from(*g) - numeric).abs();
                    assert!(error < 2e-3 * (1.0 + numeric.abs()), "input {i}[{j}]: {g} {numeric}");
                }
            }
        }
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "one of three ways to view a tensor; the others can fail"
    )]
    fn as_it_is(t: &Tensor) -> Result<Tensor> {
        Ok(t.clone())
    }

    /// The same values with other strides.
    fn transposed(t: &Tensor) -> Result<Tensor> {
        let last = t.rank() - 1;
        t.transpose(0, last)?.contiguous()?.transpose(0, last)
    }

    /// The same values behind a start offset.
    fn offset(t: &Tensor) -> Result<Tensor> {
        Tensor::cat(&[t, t], 0)?.narrow(0, t.dim(0)?, t.dim(0)?)
    }
}
