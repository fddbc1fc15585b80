//! Picking a token from logits, with a random stream of its own for every branch.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::kernels::elementwise::{exp_shifted, max, sum};

/// Tokens whose probabilities are added up at once: 4 KB of logits, a fraction of the smallest L1 cache.
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

/// Picks a token. `None` if a logit is not a number.
pub fn pick(logits: &[f32], how: Pick, rng: &mut ChaCha8Rng) -> Option<u32> {
    match how {
        Pick::Greedy => {
            let peak = max(logits);
            let sound = peak.is_finite() && !sum(logits).is_nan();
            sound.then(|| logits.iter().position(|l| *l == peak))?.map(|i| i as u32)
        }
        Pick::Sample { temperature } => {
            let chunks = Chunks::new(logits, temperature.recip())?;
            Some(chunks.find(uniform(rng)))
        }
    }
}

/// The weights `e^(scale·logit)` in sums over [`CHUNK`] tokens, so that a row of logits, which may be larger than a
/// cache, is read from memory only once.
struct Chunks<'a> {
    logits: &'a [f32],
    scale: f32,
    /// The largest logit of all.
    peak: f32,
    /// Of each chunk, in the unit `e^(scale·peak)`.
    sums: Vec<f64>,
}

impl<'a> Chunks<'a> {
    /// `None` if a logit is not a number.
    fn new(logits: &'a [f32], scale: f32) -> Option<Self> {
        let of_chunk = |chunk: &[f32]| {
            let peak = max(chunk);
            let mut weights = [0.0; CHUNK];
            (peak, weigh(chunk, scale, peak, &mut weights))
        };
        let parts: Vec<(f32, f32)> = logits.chunks(CHUNK).map(of_chunk).collect();
        let peak = parts.iter().fold(f32::NEG_INFINITY, |all, (peak, _)| all.max(*peak));
        let sums =
            parts.iter().map(|&(of_chunk, sum)| f64::from(sum) * factor(of_chunk, peak, scale));
        let chunks = Self { logits, scale, peak, sums: sums.collect() };
        (peak.is_finite() && chunks.sums.iter().all(|sum| sum.is_finite())).then_some(chunks)
    }

    /// The token at this share of the sum of all weights; one that has a weight, whatever rounding does.
    fn find(&self, share: f64) -> u32 {
        let (mut here, mut left) = (0, 0.0);
        let mut behind = share * self.sums.iter().sum::<f64>();
        for (i, sum) in self.sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
            (here, left) = (i, behind);
            if behind < *sum {
                break;
            }
            behind -= sum;
        }
        let chunk = self.logits.chunks(CHUNK).nth(here).unwrap_or_default();
        let (peak, mut weights) = (max(chunk), [0.0; CHUNK]);
        weigh(chunk, self.scale, peak, &mut weights);
        let mut left = left / factor(peak, self.peak, self.scale);
        let mut last = 0;
        for (i, weight) in weights[..chunk.len()].iter().enumerate().filter(|(_, w)| **w > 0.0) {
            last = i;
            left -= f64::from(*weight);
            if left < 0.0 {
                break;
            }
        }
        (here * CHUNK + last) as u32
    }
}

/// What a weight counts whose unit is `e^(scale·peak)`, in the unit of the largest peak of all.
fn factor(peak: f32, of_all: f32, scale: f32) -> f64 {
    f64::from((peak - of_all) * scale).exp()
}

/// Writes the weights of a chunk, in the unit `e^(scale·peak)`, and gives their sum; 0 if there is no peak.
fn weigh(chunk: &[f32], scale: f32, peak: f32, weights: &mut [f32; CHUNK]) -> f32 {
    let weights = &mut weights[..chunk.len()];
    weights.copy_from_slice(chunk);
    // A chunk without any number above −∞ may hold NaN, which a maximum ignores.
    let peak = if peak == f32::NEG_INFINITY { 0.0 } else { peak };
    exp_shifted(weights, scale, peak)
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
            counts[pick(&logits, how, &mut rng).unwrap() as usize] += 1;
        }

        for (l, c) in logits.iter().zip(counts) {
            let p = f64::from(*l).exp() / z;
            let sigma = (p * (1.0 - p) / 20_000.0).sqrt();
            assert!((f64::from(c) / 20_000.0 - p).abs() <= 5.0 * sigma, "{l}: {c}");
        }
    }

    /// Logits of −∞ have no weight, even if they fill whole chunks, and neither has what lies behind the last weight.
    #[test]
    fn tokens_without_weight_are_never_drawn() {
        let mut logits = vec![f32::NEG_INFINITY; 5 * CHUNK + 7];
        for i in [CHUNK + 3, CHUNK + 4, 3 * CHUNK - 2, 3 * CHUNK - 1] {
            logits[i] = -1000.0 + i as f32 * 1e-3;
        }

        let chunks = Chunks::new(&logits, 1.0).unwrap();

        for share in [0.0, 0.1, 0.25, 0.5, 0.75, 1.0 - f64::EPSILON, 1.0] {
            let token = chunks.find(share) as usize;
            assert!(logits[token] > f32::NEG_INFINITY, "{share}: {token}");
        }
        assert_eq!(chunks.find(0.0) as usize, CHUNK + 3);
        assert_eq!(chunks.find(1.0) as usize, 3 * CHUNK - 1);
        assert!(Chunks::new(&[f32::NEG_INFINITY; 3], 1.0).is_none());
    }

    #[test]
    fn low_temperature_is_greedy_and_a_stream_repeats_itself() {
        let logits: Vec<f32> = (0..5000).map(|i| (i * 37 % 4999) as f32 / 100.0).collect();
        let mut rng = stream(0, 0, 0, 0);
        let greedy = pick(&logits, Pick::Greedy, &mut rng);
        let cold = pick(&logits, Pick::Sample { temperature: 1e-4 }, &mut rng);
        assert_eq!(greedy, cold);
        assert_eq!(stream(1, 2, 3, 4).next_u64(), stream(1, 2, 3, 4).next_u64());
        assert_ne!(stream(1, 2, 3, 4).next_u64(), stream(1, 2, 3, 5).next_u64());
    }

    #[test]
    fn refuses_logits_that_are_not_numbers() {
        let mut rng = stream(0, 0, 0, 0);
        for how in [Pick::Greedy, Pick::Sample { temperature: 1.0 }] {
            assert_eq!(pick(&[0.0, f32::NAN], how, &mut rng), None);
            assert_eq!(pick(&[0.0, f32::INFINITY], how, &mut rng), None);
        }
    }
}
