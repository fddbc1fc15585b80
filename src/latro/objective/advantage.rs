//! From the rewards of a prompt's rationales to the numbers that multiply the gradients.
//!
//! RLOO (leave one out) compares each rationale with the mean of the others (LaTRO, arXiv
//! 2411.04282, eq. 5). Signs: everything here points uphill. A coefficient c means that the step
//! follows +c · ∇ log p (gradient ascent); the loss is minus the weighted sum of log-probabilities.

use serde::{Deserialize, Serialize};

use crate::latro::settings::Truncation;

/// Too small a group to compare within.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvantageError {
    /// A reward has nothing to be compared with.
    #[error("{0} rationale(s) for a prompt: RLOO compares each with the others, use at least 2")]
    TooFew(usize),
    /// One list is longer than the other.
    #[error("{rewards} rewards came with {flags} truncation flags: they must be as many")]
    Mismatch {
        /// Number of rewards.
        rewards: usize,
        /// Number of flags.
        flags: usize,
    },
}

/// What a prompt's rewards are worth as advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvantageRule {
    /// How truncated rationales are judged.
    pub truncation: Truncation,
    /// Whether to divide by the rewards' standard deviation.
    pub normalize: bool,
    /// Whether rewards are probabilities whose mean's logarithm is the objective (JEPO).
    pub jepo: bool,
}

/// RLOO: `A_k = r_k` − mean of the other rewards. `[K]` → `[K]`, K ≥ 2.
///
/// Computed as `K / (K − 1) · (r_k − mean)`, which is the same and keeps small differences between
/// large rewards.
///
/// # Errors
/// If there are fewer than two rewards.
pub fn rloo(rewards: &[f64]) -> Result<Vec<f64>, AdvantageError> {
    if rewards.len() < 2 {
        return Err(AdvantageError::TooFew(rewards.len()));
    }
    let k = count(rewards.len());
    let mean = mean(rewards);
    Ok(rewards.iter().map(|r| k / (k - 1.0) * (r - mean)).collect())
}

/// JEPO (arXiv 2503.19618): the objective is the logarithm of a group's mean probability, and a
/// rationale's advantage what that loses without it, `K · (log mean p − log mean of the other p)`.
/// `[K]` → `[K]`, K ≥ 2.
///
/// The factor K makes up for the mean over rationales that every gradient here is. Probabilities are
/// raised by [`LEAST_PROBABILITY`], so that one among hopeless others is not worth everything.
///
/// # Errors
/// If there are fewer than two rewards.
pub fn jepo(rewards: &[f64]) -> Result<Vec<f64>, AdvantageError> {
    if rewards.len() < 2 {
        return Err(AdvantageError::TooFew(rewards.len()));
    }
    let k = count(rewards.len());
    let raised = |p: f64| p.max(0.0) + LEAST_PROBABILITY;
    let sum: f64 = rewards.iter().map(|p| raised(*p)).sum();
    let without = |p: &f64| ((sum - raised(*p)).max(LEAST_PROBABILITY) / (k - 1.0)).ln();
    Ok(rewards.iter().map(|p| k * ((sum / k).ln() - without(p))).collect())
}

/// The advantages of one prompt's rationales: RLOO (or [`jepo`]), then the rule. `[K]` → `[K]`.
///
/// With [`Truncation::NeverPays`] the advantage of a truncated rationale is min(A, 0). Its reward
/// still counts in the others' baseline.
///
/// # Errors
/// If there are fewer than two rewards or not as many flags.
pub fn advantages(
    rewards: &[f64],
    truncated: &[bool],
    rule: AdvantageRule,
) -> Result<Vec<f64>, AdvantageError> {
    if rewards.len() != truncated.len() {
        return Err(AdvantageError::Mismatch { rewards: rewards.len(), flags: truncated.len() });
    }
    let mut advantages = if rule.jepo { jepo(rewards)? } else { rloo(rewards)? };
    if rule.normalize {
        let scale = spread(rewards) + NORMALIZE_EPS;
        for advantage in &mut advantages {
            *advantage /= scale;
        }
    }
    if rule.truncation == Truncation::NeverPays {
        for (advantage, _) in advantages.iter_mut().zip(truncated).filter(|(_, cut)| **cut) {
            *advantage = advantage.min(0.0);
        }
    }
    Ok(advantages)
}

/// The standard deviation of a prompt's rewards (divisor K − 1), 0 for fewer than two.
#[must_use]
pub fn spread(rewards: &[f64]) -> f64 {
    if rewards.len() < 2 {
        return 0.0;
    }
    let mean = mean(rewards);
    let squares: f64 = rewards.iter().map(|r| (r - mean).powi(2)).sum();
    (squares / (count(rewards.len()) - 1.0)).sqrt()
}

/// The `most` rewards whose variance is the greatest: the best and the worst (Xu et al. 2025, "Not all
/// rollouts are useful", arXiv 2504.13818). Their places, ascending; of equal rewards the first ones.
#[must_use]
pub fn max_variance(rewards: &[f64], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rewards.len()).collect();
    order.sort_by(|a, b| rewards[*a].total_cmp(&rewards[*b]));
    let most = most.min(order.len());
    // The greatest variance of `most` numbers is that of some of the lowest and the rest highest.
    let of = |low: usize| -> Vec<usize> {
        order[..low].iter().chain(&order[order.len() - (most - low)..]).copied().collect()
    };
    let variance = |chosen: &[usize]| {
        let values: Vec<f64> = chosen.iter().map(|k| rewards[*k]).collect();
        spread(&values)
    };
    let mut best = of(0);
    for low in 1..=most {
        let chosen = of(low);
        if variance(&chosen) > variance(&best) {
            best = chosen;
        }
    }
    best.sort_unstable();
    best
}

/// Decides which prompts are flat: rewards that hardly differ teach nothing worth a backward pass
/// (RLPR, arXiv 2506.18254, section 3.4).
///
/// The yardstick is a moving average over all prompts, skipped ones included, so it follows the
/// model: as rewards draw together everywhere, less is enough.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlatFilter {
    /// Decaying sum of spreads; divided by `weight` it is their moving average.
    sum: f64,
    /// Decaying count of prompts seen.
    weight: f64,
    /// Prompts seen, up to [`FLAT_WARMUP`].
    seen: u32,
}

impl FlatFilter {
    /// Takes note of a prompt's spread and says whether the prompt is to be skipped: whether the
    /// spread is below `share` of the average of those before it.
    ///
    /// Nothing is skipped before [`FLAT_WARMUP`] prompts were seen. A spread that is not finite is
    /// neither skipped nor remembered: that is the sentinel's business.
    pub fn is_flat(&mut self, spread: f64, share: f64) -> bool {
        if !spread.is_finite() {
            return false;
        }
        let flat =
            self.seen >= FLAT_WARMUP && self.average().is_some_and(|mean| spread < share * mean);
        self.sum = FLAT_DECAY * self.sum + spread;
        self.weight = FLAT_DECAY * self.weight + 1.0;
        self.seen = (self.seen + 1).min(FLAT_WARMUP);
        flat
    }

    /// The moving average of spreads, if any was seen.
    #[must_use]
    pub fn average(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// What one branch's log-probabilities are multiplied with in the gradient of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchCoefficients {
    /// For each token of the rationale: `A_k / (K · prompts)`.
    pub rationale: f32,
    /// For each token after it: w · weight / (K · prompts). `[T_y]`
    pub answer: Vec<f32>,
}

/// The coefficients of one prompt's K branches in a step over `prompts` prompts (eq. 5).
///
/// `token_weights` are those of [`crate::latro::objective::reward::token_weights`], one list for each branch. `prompts`
/// counts the prompts of the step that were sampled, so one skipped as flat weighs as one whose
/// gradient is zero.
///
/// # Panics
/// If there are not as many lists of weights as advantages: they come from the same branches.
#[must_use]
pub fn gradient_coefficients(
    advantages: &[f64],
    token_weights: &[Vec<f32>],
    likelihood_weight: f64,
    prompts: usize,
) -> Vec<BranchCoefficients> {
    assert_eq!(advantages.len(), token_weights.len(), "one list of weights for each branch");
    let share = 1.0 / (count(advantages.len()) * count(prompts.max(1)));
    let coefficients = |(advantage, weights): (&f64, &Vec<f32>)| BranchCoefficients {
        rationale: narrow(advantage * share),
        answer: weights.iter().map(|&w| narrow(f64::from(w) * likelihood_weight * share)).collect(),
    };
    advantages.iter().zip(token_weights).map(coefficients).collect()
}

/// The coefficients of supervised training on a rationale, if there is one, and its answer of `tokens`
/// tokens: the sum of the tokens' log-probabilities, averaged over the step's prompts.
#[must_use]
pub fn supervised_coefficients(tokens: usize, prompts: usize) -> BranchCoefficients {
    let share = narrow(1.0 / count(prompts.max(1)));
    BranchCoefficients { rationale: share, answer: vec![share; tokens] }
}

/// The loss of one prompt: `−1/K Σ_k [A_k · log p(z_k|x) + w · likelihood_k]`, all lists `[K]`. A
/// step's loss is the mean over its prompts.
#[must_use]
pub fn loss(
    advantages: &[f64],
    rationale_logps: &[f64],
    likelihoods: &[f64],
    likelihood_weight: f64,
) -> f64 {
    let terms = advantages.iter().zip(rationale_logps).zip(likelihoods);
    let sum: f64 = terms.map(|((a, logp), l)| a * logp + likelihood_weight * l).sum();
    -sum / count(advantages.len().max(1))
}

/// What JEPO adds to every probability.
pub const LEAST_PROBABILITY: f64 = 1e-3;
/// Prompts that are seen before any is skipped.
pub const FLAT_WARMUP: u32 = 8;
/// What a prompt's weight in the moving average is multiplied with at each later one: it remembers
/// about 50 prompts.
const FLAT_DECAY: f64 = 0.98;
/// Keeps a group of equal rewards from a division by zero.
const NORMALIZE_EPS: f64 = 1e-6;

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len())
}

#[expect(clippy::cast_precision_loss, reason = "counts of rationales and prompts are small")]
fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, reason = "gradients are kept in f32")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAPER: AdvantageRule =
        AdvantageRule { truncation: Truncation::Keep, normalize: false, jepo: false };
    const EDGE: AdvantageRule = AdvantageRule { truncation: Truncation::NeverPays, ..PAPER };

    fn rewards() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-50.0..5.0, 2..20)
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * (1.0 + a.abs() + b.abs())
    }

    #[test]
    fn two_rationales_are_compared_with_each_other() {
        assert_eq!(rloo(&[-3.0, -1.0]), Ok(vec![-2.0, 2.0]));
    }

    #[test]
    fn one_rationale_has_nothing_to_compare_with() {
        assert_eq!(rloo(&[1.0]), Err(AdvantageError::TooFew(1)));
        assert_eq!(rloo(&[]), Err(AdvantageError::TooFew(0)));
        let odd = advantages(&[1.0, 2.0], &[false], PAPER);
        assert_eq!(odd, Err(AdvantageError::Mismatch { rewards: 2, flags: 1 }));
    }

    #[test]
    fn truncation_never_pays_and_may_cost() {
        let rewards = [-1.0, -5.0, -3.0];
        let cut = [true, true, false];

        assert_eq!(advantages(&rewards, &cut, PAPER), Ok(vec![3.0, -3.0, 0.0]));
        assert_eq!(advantages(&rewards, &cut, EDGE), Ok(vec![0.0, -3.0, 0.0]));
    }

    #[test]
    fn normalized_advantages_of_equal_rewards_are_zero() {
        let rule = AdvantageRule { normalize: true, ..PAPER };

        assert_eq!(advantages(&[-7.0; 4], &[false; 4], rule), Ok(vec![0.0; 4]));
        let two = advantages(&[-3.0, -1.0], &[false; 2], rule).unwrap();
        assert!((two[1] - 2.0 / 2f64.sqrt()).abs() < 1e-5, "{two:?}");
    }

    #[test]
    fn coefficients_are_averages_over_branches_and_prompts() {
        let weights = [vec![1.0, 0.0], vec![0.5, 0.25]];

        let branches = gradient_coefficients(&[-2.0, 2.0], &weights, 0.5, 4);

        assert_eq!(
            branches,
            [
                BranchCoefficients { rationale: -0.25, answer: vec![0.0625, 0.0] },
                BranchCoefficients { rationale: 0.25, answer: vec![0.03125, 0.015_625] },
            ]
        );
        assert_eq!(
            supervised_coefficients(2, 4),
            BranchCoefficients { rationale: 0.25, answer: vec![0.25; 2] }
        );
    }

    #[test]
    fn the_loss_is_minus_what_the_coefficients_weigh() {
        // A = [-2, 2], log p(z) = [-4, -6], log p(y) = [-3, -1]: -1/2 (8 - 12 - 3 - 1) = 4
        assert_eq!(loss(&[-2.0, 2.0], &[-4.0, -6.0], &[-3.0, -1.0], 1.0), 4.0);
    }

    #[test]
    fn a_prompt_much_flatter_than_the_others_is_skipped() {
        let mut filter = FlatFilter::default();
        for _ in 0..FLAT_WARMUP {
            assert!(!filter.is_flat(2.0, 0.25), "nothing is skipped at the start");
        }

        assert!(filter.is_flat(0.1, 0.25));
        assert!(!filter.is_flat(1.0, 0.25));
        assert!(!filter.is_flat(f64::NAN, 0.25));
    }

    #[test]
    fn rewards_that_draw_together_everywhere_are_not_skipped_for_ever() {
        let mut filter = FlatFilter::default();
        for _ in 0..50 {
            filter.is_flat(4.0, 0.25);
        }

        let skipped = (0..400).filter(|_| filter.is_flat(0.2, 0.25)).count();

        assert!((1..200).contains(&skipped), "{skipped}");
        assert!(!filter.is_flat(0.2, 0.25));
    }

    #[test]
    fn the_filter_goes_on_after_a_restart_as_if_there_had_been_none() {
        let mut filter = FlatFilter::default();
        for i in 0..20 {
            filter.is_flat(f64::from(i % 7) * 0.1, 0.25);
        }
        let saved = serde_json::to_string(&filter).unwrap();

        let mut restored: FlatFilter = serde_json::from_str(&saved).unwrap();

        assert_eq!(restored, filter);
        assert_eq!(restored.is_flat(0.03, 0.25), filter.is_flat(0.03, 0.25));
    }

    #[test]
    fn the_best_and_the_worst_say_the_most() {
        assert_eq!(max_variance(&[0.0, 0.9, 0.1, 0.5], 2), [0, 1]);
        assert_eq!(max_variance(&[0.0, 0.0, 1.0, 0.0, 0.0], 3).len(), 3);
        assert!(max_variance(&[0.0, 0.0, 1.0, 0.0, 0.0], 3).contains(&2));
        assert_eq!(max_variance(&[1.0, 2.0], 5), [0, 1]);
        assert_eq!(max_variance(&[], 3), [0usize; 0]);
    }

    #[test]
    fn jepo_values_what_a_group_would_lose() {
        let advantages = jepo(&[0.9, 0.0, 0.0]).unwrap();

        // 3 · (ln(0.903/3) − ln(0.002/2)) and 3 · (ln(0.903/3) − ln(0.902/2))
        assert!((advantages[0] - 3.0 * ((0.903f64 / 3.0).ln() - 0.001f64.ln())).abs() < 1e-9);
        assert!(
            (advantages[1] - 3.0 * ((0.903f64 / 3.0).ln() - (0.902f64 / 2.0).ln())).abs() < 1e-9
        );
        assert_eq!(jepo(&[0.5]), Err(AdvantageError::TooFew(1)));
    }

    proptest! {
        /// Compared with every choice there is.
        #[test]
        fn no_choice_has_more_variance(rewards in prop::collection::vec(0.0..1.0f64, 2..9), most in 2usize..6) {
            let most = most.min(rewards.len());
            let spread_of = |places: &[usize]| spread(&places.iter().map(|k| rewards[*k]).collect::<Vec<_>>());
            let best = (0u32..1 << rewards.len()).filter(|set| set.count_ones() as usize == most).map(|set| {
                let places: Vec<usize> = (0..rewards.len()).filter(|k| set >> k & 1 == 1).collect();
                spread_of(&places)
            }).fold(0.0, f64::max);

            prop_assert!((spread_of(&max_variance(&rewards, most)) - best).abs() < 1e-12);
        }

        #[test]
        fn rloo_agrees_with_its_definition(rewards in rewards()) {
            let got = rloo(&rewards).unwrap();
            for (k, advantage) in got.iter().enumerate() {
                let others: Vec<f64> =
                    rewards.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, r)| *r).collect();
                let baseline = others.iter().sum::<f64>() / others.len() as f64;
                prop_assert!(close(*advantage, rewards[k] - baseline));
            }
        }

        #[test]
        fn rloo_sums_to_zero_and_ignores_a_constant(rewards in rewards(), shift in -100.0..100.0) {
            let plain = rloo(&rewards).unwrap();
            let shifted: Vec<f64> = rewards.iter().map(|r| r + shift).collect();
            let moved = rloo(&shifted).unwrap();

            prop_assert!(plain.iter().sum::<f64>().abs() < 1e-9);
            prop_assert!(plain.iter().zip(&moved).all(|(a, b)| (a - b).abs() < 1e-9));
        }

        #[test]
        fn constant_spreads_are_never_skipped(spread in 0.0..10.0f64, n in 1usize..200) {
            let mut filter = FlatFilter::default();
            prop_assert!((0..n).all(|_| !filter.is_flat(spread, 0.99)));
        }

        #[test]
        fn truncation_only_ever_lowers(rewards in rewards(), bits in any::<u32>()) {
            let cut: Vec<bool> = (0..rewards.len()).map(|i| bits >> i & 1 == 1).collect();
            let (free, edge) =
                (advantages(&rewards, &cut, PAPER).unwrap(), advantages(&rewards, &cut, EDGE).unwrap());
            for ((free, edge), cut) in free.iter().zip(&edge).zip(&cut) {
                prop_assert_eq!(*edge, if *cut { free.min(0.0) } else { *free });
            }
        }
    }
}
