//! The language-model head, as `ops::head`.

use candle_core::{D, Device, Result, Tensor};

use crate::engine::candle::ops::matrix::Matrix;
use crate::engine::candle::ops::tensor::values;
use crate::kernels::Compute;
use crate::ops::head::TokenScores;

/// Scores `targets` under the logits `hidden · Wᵀ` for `hidden: [rows, width]`. Logits exist for
/// `most_rows` rows at the same time.
///
/// # Errors
/// If the shapes don't fit together, or the device fails.
pub fn token_scores(
    hidden: &Tensor,
    targets: &[u32],
    weight: &Matrix,
    compute: Compute,
    most_rows: usize,
    with_gradient: bool,
) -> Result<TokenScores> {
    let most_rows = most_rows.max(1);
    let mut scores =
        TokenScores { gradient: with_gradient.then(Vec::new), ..TokenScores::default() };
    for (i, targets) in targets.chunks(most_rows).enumerate() {
        let x = hidden.narrow(0, i * most_rows, targets.len())?;
        let part = Part::new(&x, targets, weight, compute)?;
        scores.log_p.extend(values(&part.log_p)?);
        scores.entropy.extend(values(&part.entropy)?);
        if let Some(gradient) = &mut scores.gradient {
            gradient.extend(values(&part.gradient(weight)?)?);
        }
    }
    Ok(scores)
}

/// Some rows, `[rows, _]` each.
struct Part {
    targets: Tensor,
    probabilities: Tensor,
    log_p: Tensor,
    entropy: Tensor,
}

impl Part {
    fn new(x: &Tensor, targets: &[u32], weight: &Matrix, compute: Compute) -> Result<Self> {
        let device: &Device = x.device();
        let targets = Tensor::from_slice(targets, (targets.len(), 1), device)?;
        let logits = weight.forward(x, compute)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        let exponentials = shifted.exp()?;
        let sum = exponentials.sum_keepdim(D::Minus1)?;
        let probabilities = exponentials.broadcast_div(&sum)?;
        let log_sum = sum.log()?;
        let mean = (&probabilities * &shifted)?.sum_keepdim(D::Minus1)?;
        Ok(Self {
            log_p: (shifted.gather(&targets, 1)? - &log_sum)?,
            entropy: (log_sum - mean)?,
            probabilities,
            targets,
        })
    }

    /// ∂ log p(target) / ∂ x: W\[target\] − Σᵢ pᵢ·W\[i\].
    fn gradient(&self, weight: &Matrix) -> Result<Tensor> {
        weight.select(&self.targets.flatten_all()?)? - weight.backward(&self.probabilities)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::candle::ops::matrix::tests::both;
    use crate::engine::candle::ops::tensor::check;
    use crate::gguf::GgmlType;
    use crate::ops::head as fused;

    #[test]
    fn agrees_with_the_fused_one() {
        let (vocabulary, width) = (70, 64);
        let (weight, packed) = both(GgmlType::Q8_0, vocabulary, width, 32, 1);
        for rows in [1, 7, 300] {
            let (x, xs) = check::random(&[rows, width], 2);
            let targets: Vec<u32> = (0..rows).map(|i| (i * 11 % vocabulary) as u32).collect();
            let of = |most, gradient| {
                token_scores(&x, &targets, &weight, Compute::Exact, most, gradient).unwrap()
            };
            let wanted = fused::token_scores(&xs, &targets, &packed, Compute::Exact, 128, true);

            let scores = of(128, true);

            check::close(&scores.log_p, &wanted.log_p, 1e-5);
            check::close(&scores.entropy, &wanted.entropy, 1e-5);
            check::close(&scores.gradient.unwrap(), &wanted.gradient.unwrap(), 1e-5);
            let small = of(0, false);
            assert_eq!(small.gradient, None);
            check::close(&small.log_p, &wanted.log_p, 1e-5);
        }
    }
}
