//! Picking a token from logits, with a random stream of its own for every branch.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::kernels::elementwise::{exp_shifted, max, sum};

/// Probabilities that are added up at once when looking for the drawn token.
const CHUNK: usize = 1024;

/// How tokens are picked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pick {
    /// The likeliest token; of equals the first.
    Greedy,
    /// Drawn from softmax(logits / temperature).
    Sample { temperature: f32 },
}

/// The random stream of one branch: a function of what it is for, not of what was drawn before, so
/// that it is the same after a restart and in any batch.
#[must_use]
pub fn stream(seed: u64, step: u64, task: u64, branch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, step, task, branch]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number in [0, 1) with 53 random bits.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Picks a token; `logits` is scratch space afterwards. `None` if a logit is not a number.
pub fn pick(logits: &mut [f32], how: Pick, rng: &mut ChaCha8Rng) -> Option<u32> {
    let peak = max(logits);
    match how {
        Pick::Greedy => {
            let sound = peak.is_finite() && !sum(logits).is_nan();
            sound.then(|| logits.iter().position(|l| *l == peak))?.map(|i| i as u32)
        }
        Pick::Sample { temperature } => {
            let total = f64::from(exp_shifted(logits, temperature.recip(), peak));
            if !total.is_finite() {
                return None;
            }
            Some(find(logits, uniform(rng) * total))
        }
    }
}

/// The first index at which the running sum of `weights` exceeds `target`.
fn find(weights: &[f32], target: f64) -> u32 {
    let mut before = 0.0;
    let mut last = 0;
    for (i, chunk) in weights.chunks(CHUNK).enumerate() {
        let all = f64::from(sum(chunk));
        if before + all > target {
            let mut running = before;
            for (j, w) in chunk.iter().enumerate() {
                running += f64::from(*w);
                if *w > 0.0 {
                    last = i * CHUNK + j;
                    if running > target {
                        return last as u32;
                    }
                }
            }
        } else if let Some(j) = chunk.iter().rposition(|w| *w > 0.0) {
            last = i * CHUNK + j;
        }
        before += all;
    }
    // Rounding may leave the target just beyond the last sum.
    last as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_tokens_as_often_as_their_probability_says() {
        let logits = [1.0f32, 0.0, -1.0, f32::NEG_INFINITY, 2.0];
        let z: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let mut counts = [0u32; 5];

        for i in 0..20_000 {
            let mut rng = stream(1, 2, 3, i);
            let how = Pick::Sample { temperature: 1.0 };
            counts[pick(&mut logits.clone(), how, &mut rng).unwrap() as usize] += 1;
        }

        for (l, c) in logits.iter().zip(counts) {
            let p = f64::from(*l).exp() / z;
            let sigma = (p * (1.0 - p) / 20_000.0).sqrt();
            assert!((f64::from(c) / 20_000.0 - p).abs() <= 5.0 * sigma, "{l}: {c}");
        }
    }

    #[test]
    fn low_temperature_is_greedy_and_a_stream_repeats_itself() {
        let logits: Vec<f32> = (0..5000).map(|i| (i * 37 % 4999) as f32 / 100.0).collect();
        let mut rng = stream(0, 0, 0, 0);
        let greedy = pick(&mut logits.clone(), Pick::Greedy, &mut rng);
        let cold = pick(&mut logits.clone(), Pick::Sample { temperature: 1e-4 }, &mut rng);
        assert_eq!(greedy, cold);
        assert_eq!(stream(1, 2, 3, 4).next_u64(), stream(1, 2, 3, 4).next_u64());
        assert_ne!(stream(1, 2, 3, 4).next_u64(), stream(1, 2, 3, 5).next_u64());
    }

    #[test]
    fn refuses_logits_that_are_not_numbers() {
        let mut rng = stream(0, 0, 0, 0);
        for how in [Pick::Greedy, Pick::Sample { temperature: 1.0 }] {
            assert_eq!(pick(&mut [0.0, f32::NAN], how, &mut rng), None);
            assert_eq!(pick(&mut [0.0, f32::INFINITY], how, &mut rng), None);
        }
    }
}
