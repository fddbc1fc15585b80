//! The language-model head: log-probabilities of given tokens, without a `[rows, vocabulary]` matrix.

use crate::kernels::elementwise::{axpy, exp_moments, max, scale};
use crate::kernels::threads::{for_each, in_rows};
use crate::kernels::{Compute, Floats, PackedMatrix};

/// Rows whose logits exist at the same time, unless memory is scarce.
pub const ROW_CHUNK: usize = 128;

/// Scores of each row's target token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenScores {
    /// log p(target), nats.
    pub log_p: Vec<f32>,
    /// Entropy of the row's distribution, nats.
    pub entropy: Vec<f32>,
    /// ∂ log p(target) / ∂ hidden, `[rows, width]`, if asked for: W\[target\] − Σᵢ pᵢ·W\[i\].
    pub gradient: Option<Vec<f32>>,
}

/// Scores `targets` under the logits `hidden · Wᵀ` for `hidden: [rows, width]`. Logits exist for
/// `most_rows` rows at the same time.
///
/// The gradient of Σ cᵢ·log pᵢ is `gradient` with row i scaled by cᵢ, so one pass suffices even where
/// the coefficients are known only after all log-probabilities.
///
/// # Panics
/// If the lengths differ or a target is outside the vocabulary.
#[must_use]
pub fn token_scores(
    hidden: &[f32],
    targets: &[u32],
    weight: &PackedMatrix,
    compute: Compute,
    most_rows: usize,
    with_gradient: bool,
) -> TokenScores {
    let (vocabulary, width) = (weight.rows(), weight.cols());
    assert_eq!(hidden.len(), targets.len() * width, "one hidden row a target");
    let most_rows = most_rows.max(1);
    let mut logits = Floats::zeroed(targets.len().min(most_rows) * vocabulary);
    let mut scores = TokenScores {
        gradient: with_gradient.then(|| vec![0.0; hidden.len()]),
        ..TokenScores::default()
    };
    for (chunk, targets) in targets.chunks(most_rows).enumerate() {
        let rows = targets.len();
        let logits = &mut logits[..rows * vocabulary];
        let start = chunk * most_rows * width;
        weight.matmul(compute, &hidden[start..start + rows * width], rows, logits);
        let mut row_scores: Vec<_> =
            logits.chunks_exact_mut(vocabulary).zip(targets).map(|row| (row, 0.0, 0.0)).collect();
        for_each(
            &mut row_scores,
            logits_macs(rows, vocabulary),
            |((row, target), log_p, entropy)| {
                (*log_p, *entropy) = score_row(row, **target as usize, with_gradient);
            },
        );
        for (_, log_p, entropy) in row_scores {
            scores.log_p.push(log_p);
            scores.entropy.push(entropy);
        }
        if let Some(gradient) = &mut scores.gradient {
            let dx = &mut gradient[start..start + rows * width];
            match compute {
                Compute::Exact => weight.matmul_transposed(compute, logits, rows, dx, false),
                Compute::Fast => likely_transposed(logits, weight, dx),
            }
        }
    }
    scores
}

/// The least part of a token in a row's gradient that counts in `fast`. Where a model knows what it
/// writes, a few tokens have all the probability, and the thousands of others are noise that weighs less
/// than what rounding activations to 8 bits leaves.
const LEAST_PART: f32 = 2e-5;

/// `dx = logits · W` for `logits: [rows, vocabulary]`, most of which is next to nothing.
fn likely_transposed(logits: &[f32], weight: &PackedMatrix, dx: &mut [f32]) {
    let (vocabulary, width) = (weight.rows(), weight.cols());
    let rows = dx.len() / width;
    in_rows(dx, width, logits_macs(rows, vocabulary), |first, rows| {
        let mut decoded = vec![0.0; width];
        let parts = logits[first * vocabulary..].chunks_exact(vocabulary);
        for (sum, parts) in rows.chunks_exact_mut(width).zip(parts) {
            sum.fill(0.0);
            let likely = parts.iter().enumerate().filter(|(_, part)| part.abs() >= LEAST_PART);
            for (token, part) in likely {
                weight.decode_row(token, &mut decoded);
                axpy(*part, &decoded, sum);
            }
        }
    });
}

/// What exponentials of logits cost, in multiplications.
pub(crate) fn logits_macs(rows: usize, vocabulary: usize) -> usize {
    16 * rows * vocabulary
}

/// (log p(target), entropy) of a row of logits, which becomes onehot(target) − p if asked to.
fn score_row(row: &mut [f32], target: usize, with_gradient: bool) -> (f32, f32) {
    let peak = max(row);
    let shifted = row[target] - peak;
    let (sum, weighted) = exp_moments(row, peak);
    let log_sum = sum.ln();
    if with_gradient {
        scale(row, -1.0 / sum);
        row[target] += 1.0;
    }
    (shifted - log_sum, log_sum - weighted / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgmlType;
    use crate::ops::check;

    const WIDTH: usize = 32;
    const VOCABULARY: usize = 40;

    fn head() -> (PackedMatrix, Vec<f32>) {
        let w = check::numbers(VOCABULARY * WIDTH, 8);
        let bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
        (PackedMatrix::pack(GgmlType::F32, VOCABULARY, WIDTH, &bytes).unwrap(), w)
    }

    /// (log p(target), entropy) in f64.
    fn plain(hidden: &[f32], w: &[f32], target: usize) -> (f64, f64) {
        let logits: Vec<f64> = w
            .chunks(WIDTH)
            .map(|w| w.iter().zip(hidden).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
            .collect();
        let log_z = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        let entropy = logits.iter().map(|l| -(l - log_z) * (l - log_z).exp()).sum();
        (logits[target] - log_z, entropy)
    }

    #[test]
    fn scores_and_gradients_agree_with_f64_over_several_chunks() {
        let (weight, w) = head();
        let rows = ROW_CHUNK + 3;
        let hidden = check::numbers(rows * WIDTH, 9);
        let targets: Vec<u32> = (0..rows).map(|i| (i * 7 % VOCABULARY) as u32).collect();

        let scores = token_scores(&hidden, &targets, &weight, Compute::Exact, ROW_CHUNK, true);
        let fast = token_scores(&hidden, &targets, &weight, Compute::Fast, ROW_CHUNK, true);
        let norm = |of: &[f32]| of.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let (exact, likely) = (scores.gradient.as_ref().unwrap(), fast.gradient.unwrap());
        let apart: Vec<f32> = exact.iter().zip(&likely).map(|(a, b)| a - b).collect();
        assert!(norm(&apart) < 0.02 * norm(exact), "{} of {}", norm(&apart), norm(exact));

        let gradient = scores.gradient.unwrap();
        for (i, target) in targets.iter().enumerate() {
            let row = &hidden[i * WIDTH..(i + 1) * WIDTH];
            let (log_p, entropy) = plain(row, &w, *target as usize);
            assert!((f64::from(scores.log_p[i]) - log_p).abs() < 1e-5);
            assert!((f64::from(scores.entropy[i]) - entropy).abs() < 1e-5);
            for j in [0, WIDTH - 1] {
                let moved = |h: f32| {
                    let mut row = row.to_vec();
                    row[j] += h;
                    plain(&row, &w, *target as usize).0
                };
                let numeric = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                assert!((f64::from(gradient[i * WIDTH + j]) - numeric).abs() < 1e-3);
            }
        }
    }
}
