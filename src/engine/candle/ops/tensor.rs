//! What all operations on candle's tensors share: products, softmax, numbers in and out.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

/// `a·b` for matrices, or batches of them. Operands whose strides a GPU's library would refuse are
/// copied first; the CPU takes any, so nothing else would show them.
///
/// # Errors
/// If the shapes don't fit together, or the device fails.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    plain(a)?.matmul(&plain(b)?)
}

/// `a` itself if its matrices lie row by row or column by column without gaps, otherwise a copy.
fn plain(a: &Tensor) -> Result<Tensor> {
    let (dims, strides) = (a.dims(), a.stride());
    let [.., rows, columns] = *dims else { return Ok(a.clone()) };
    let [.., row, column] = *strides else { return Ok(a.clone()) };
    let by_rows = (column == 1 || columns == 1) && (row == columns || rows == 1);
    let by_columns = (row == 1 || rows == 1) && (column == rows || columns == 1);
    if by_rows || by_columns { Ok(a.clone()) } else { a.contiguous() }
}

/// The softmax of rows that are spread over several tensors, `[_, rows, _]` each.
///
/// # Errors
/// If the shapes don't fit together, or the device fails.
pub fn softmax(scores: &[Tensor]) -> Result<Vec<Tensor>> {
    if let [whole] = scores {
        return Ok(vec![softmax_last_dim(&whole.contiguous()?)?]);
    }
    let peaks: Vec<Tensor> =
        scores.iter().map(|s| s.max_keepdim(D::Minus1)).collect::<Result<_>>()?;
    let peak = reduce(&peaks, |a, b| a.maximum(b))?;
    let exponentials: Vec<Tensor> =
        scores.iter().map(|s| s.broadcast_sub(&peak)?.exp()).collect::<Result<_>>()?;
    let sums: Vec<Tensor> =
        exponentials.iter().map(|e| e.sum_keepdim(D::Minus1)).collect::<Result<_>>()?;
    let sum = reduce(&sums, |a, b| a + b)?;
    exponentials.iter().map(|e| e.broadcast_div(&sum)).collect()
}

/// All tensors, of which there is at least one, combined in their order.
///
/// # Errors
/// Those of `combine`.
pub fn reduce(
    tensors: &[Tensor],
    combine: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (first, rest) = tensors.split_first().expect("at least one tensor");
    rest.iter().try_fold(first.clone(), |sum, tensor| combine(&sum, tensor))
}

/// A tensor of these values, `[rows, _]`.
///
/// # Errors
/// If the device has no memory for them.
pub fn matrix(values: &[f32], rows: usize, device: &Device) -> Result<Tensor> {
    Tensor::from_slice(values, (rows, values.len() / rows.max(1)), device)
}

/// Numbers of rows or slots as a tensor.
///
/// # Errors
/// If the device has no memory for them.
pub fn numbers(values: impl IntoIterator<Item = usize>, device: &Device) -> Result<Tensor> {
    let values: Vec<u32> = values.into_iter().map(|i| i as u32).collect();
    let n = values.len();
    Tensor::from_vec(values, n, device)
}

/// The values of a tensor of f32, row by row.
///
/// # Errors
/// If the device fails.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
pub mod check {
    //! What tests compare: the fused operations on slices with those on tensors.

    use candle_core::{Device, Tensor};

    pub use crate::ops::check::numbers;

    /// A tensor of random numbers and the numbers themselves.
    pub fn random(shape: &[usize], seed: u64) -> (Tensor, Vec<f32>) {
        let values = numbers(shape.iter().product(), seed);
        (Tensor::from_slice(&values, shape, &Device::Cpu).unwrap(), values)
    }

    /// Asserts that all values are the same but for rounding, relative to the largest.
    pub fn same(got: &Tensor, wanted: &[f32]) {
        close(&super::values(got).unwrap(), wanted, 1e-5);
    }

    /// Asserts that no value is off by more than `most` of the largest.
    pub fn close(got: &[f32], wanted: &[f32], most: f32) {
        assert_eq!(got.len(), wanted.len(), "as many values");
        let largest = wanted.iter().fold(1e-6f32, |m, w| m.max(w.abs()));
        for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
            assert!((g - w).abs() <= most * largest, "value {i}: {g} is not {w}");
        }
    }

    #[test]
    fn products_take_operands_that_lie_anyhow() {
        let (a, _) = random(&[4, 6], 1);
        let (b, _) = random(&[6, 5], 2);
        let whole = a.matmul(&b).unwrap();
        let (left, right) = (a.narrow(1, 1, 3).unwrap(), b.narrow(0, 1, 3).unwrap());
        let wanted = left.contiguous().unwrap().matmul(&right.contiguous().unwrap()).unwrap();

        let got = super::product(&left, &right).unwrap();
        let transposed = super::product(&b.t().unwrap(), &a.t().unwrap()).unwrap();

        same(&got, &super::values(&wanted).unwrap());
        same(&transposed.t().unwrap(), &super::values(&whole).unwrap());
        assert!(super::plain(&b.t().unwrap()).unwrap().stride() == [1, 5], "nothing is copied");
    }
}
