//! Confidence intervals for what a candidate gains over a baseline on the same questions.
//!
//! One for a mean of differences, one for a difference of accuracies, each with a given probability
//! of error at either end. Pure; the gate decides what follows from them.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::checked_beta_reg;

use super::statistics::StatisticsError;

/// An estimate and the bounds of what the truth may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub estimate: f64,
    /// The truth is below with the given probability, at most.
    pub lower: f64,
    /// The truth is above with the same.
    pub upper: f64,
}

/// The mean of `differences`, with bounds that the truth passes with probability `tail` each.
///
/// Student's interval d̄ ± c·s/√n with c = t₁₋ₜₐᵢₗ(n − 1), at each end widened to Hall's interval
/// where that reaches further. Student's assumes symmetry: where most questions gain a little and a
/// few lose much, its lower bound is too high (at n = 100 and exponential losses the error is 2.9 %
/// where 1.25 % were asked). Hall's removes the skewness γ from the statistic first: with
/// w = ±c/√n − γ/(6n), the bound is d̄ − s·(3/γ)·(∛(1 + γw) − 1), and d̄ − s·w for γ = 0.
/// (P. Hall, "On the removal of skewness by transformation", J. R. Statist. Soc. B 54, 1992.)
///
/// # Errors
/// [`StatisticsError::TooFew`] for fewer than two differences, [`StatisticsError::NotFinite`] and
/// [`StatisticsError::Overflow`].
pub fn mean_interval(differences: &[f64], tail: f64) -> Result<Interval, StatisticsError> {
    let n = differences.len() as f64;
    if differences.len() < 2 {
        return Err(StatisticsError::TooFew(differences.len()));
    }
    if let Some(index) = differences.iter().position(|d| !d.is_finite()) {
        return Err(StatisticsError::NotFinite { index });
    }
    let mean = differences.iter().sum::<f64>() / n;
    let central = |k| differences.iter().map(|d| (d - mean).powi(k)).sum::<f64>();
    let s = (central(2) / (n - 1.0)).sqrt();
    if s == 0.0 {
        return Ok(Interval { estimate: mean, lower: mean, upper: mean });
    }
    let skewness = central(3) / n / s.powi(3);
    let reach = t_quantile(tail, n - 1.0) / n.sqrt();
    let hall = |reach: f64| {
        let w = reach - skewness / (6.0 * n);
        let u = if skewness.abs() < 1e-6 {
            w
        } else {
            3.0 / skewness * ((1.0 + skewness * w).cbrt() - 1.0)
        };
        mean - s * u
    };
    let (lower, upper) = (mean - s * reach, mean + s * reach);
    if !lower.is_finite() || !upper.is_finite() {
        return Err(StatisticsError::Overflow);
    }
    // Where no skewness can be computed, `min` and `max` leave Student's bounds.
    Ok(Interval { estimate: mean, lower: lower.min(hall(reach)), upper: upper.max(hall(-reach)) })
}

/// How questions went with the baseline and with the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairedCounts {
    /// Right with both.
    pub both: usize,
    /// Right with the candidate only.
    pub gained: usize,
    /// Right with the baseline only.
    pub lost: usize,
    /// Wrong with both.
    pub neither: usize,
}

impl PairedCounts {
    /// Counts pairs (right with the baseline, right with the candidate).
    #[must_use]
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for pair in pairs {
            match pair {
                (true, true) => counts.both += 1,
                (false, true) => counts.gained += 1,
                (true, false) => counts.lost += 1,
                (false, false) => counts.neither += 1,
            }
        }
        counts
    }

    /// The number of questions.
    #[must_use]
    pub const fn questions(&self) -> usize {
        self.both + self.gained + self.lost + self.neither
    }

    /// The probability of at least so many gains among the questions that changed, if gains and
    /// losses are equally likely: the exact test of McNemar, to one side. P(X ≥ g) = I½(g, l + 1)
    /// for X ~ binomial(g + l, ½).
    #[must_use]
    pub fn gain_p(&self) -> f64 {
        at_least(self.gained, self.lost)
    }

    /// As [`Self::gain_p`], for so many losses.
    #[must_use]
    pub fn loss_p(&self) -> f64 {
        at_least(self.lost, self.gained)
    }

    /// The candidate's accuracy less the baseline's, with bounds that the truth passes with
    /// probability `tail` each; 0 within ±1 where there are no questions.
    ///
    /// Newcombe's method 10: Wilson's intervals (lᵢ, uᵢ) of the two accuracies pᵢ, added as squares,
    /// with the correlation φ between them, from which n/2 is taken off where it is positive.
    /// (R. G. Newcombe, "Improved confidence intervals for the difference between binomial
    /// proportions based on paired data", Statistics in Medicine 17, 1998.)
    #[must_use]
    pub fn accuracy_gain(&self, tail: f64) -> Interval {
        let n = self.questions() as f64;
        if n == 0.0 {
            return Interval { estimate: 0.0, lower: -1.0, upper: 1.0 };
        }
        let z = normal_quantile(tail);
        let right = [self.both + self.gained, self.both + self.lost].map(|count| count as f64);
        let [after, before] = right.map(|count| wilson(count, n, z));
        let phi = self.correlation();
        let reach = |a: f64, b: f64| (a * a - 2.0 * phi * a * b + b * b).max(0.0).sqrt();
        let estimate = (self.gained as f64 - self.lost as f64) / n;
        let down = reach(after.estimate - after.lower, before.upper - before.estimate);
        let up = reach(before.estimate - before.lower, after.upper - after.estimate);
        Interval { estimate, lower: (estimate - down).max(-1.0), upper: (estimate + up).min(1.0) }
    }

    /// Newcombe's corrected φ.
    fn correlation(&self) -> f64 {
        let [a, b, c, d] = [self.both, self.gained, self.lost, self.neither].map(|n| n as f64);
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        if margins == 0.0 {
            return 0.0;
        }
        let determinant = a * d - b * c;
        let half = (a + b + c + d) / 2.0;
        let corrected = if determinant < 0.0 { determinant } else { (determinant - half).max(0.0) };
        corrected / margins.sqrt()
    }
}

/// Wilson's score interval of a proportion `count` / `n`.
fn wilson(count: f64, n: f64, z: f64) -> Interval {
    let p = count / n;
    let shrink = 1.0 + z * z / n;
    let center = (p + z * z / (2.0 * n)) / shrink;
    let reach = z / shrink * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Interval { estimate: p, lower: center - reach, upper: center + reach }
}

/// P(X ≥ many) for X ~ binomial(many + few, ½).
fn at_least(many: usize, few: usize) -> f64 {
    if many == 0 {
        return 1.0;
    }
    checked_beta_reg(many as f64, few as f64 + 1.0, 0.5).unwrap_or(1.0)
}

/// What Student's distribution exceeds with probability `tail`.
fn t_quantile(tail: f64, degrees: f64) -> f64 {
    far(StudentsT::new(0.0, 1.0, degrees).map(|t| -t.inverse_cdf(tail)))
}

fn normal_quantile(tail: f64) -> f64 {
    far(Normal::new(0.0, 1.0).map(|normal| -normal.inverse_cdf(tail)))
}

/// A quantile; where there is none, so far out that nothing is proven.
fn far<E>(quantile: Result<f64, E>) -> f64 {
    const FAR: f64 = 1e6;
    quantile.map_or(FAR, |q| if q.is_nan() { FAR } else { q.min(FAR) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * (1.0 + a.abs() + b.abs())
    }

    fn counts(both: usize, gained: usize, lost: usize, neither: usize) -> PairedCounts {
        PairedCounts { both, gained, lost, neither }
    }

    #[test]
    fn accuracy_gains_agree_with_published_intervals() {
        // 95 % intervals, rounded as published: Newcombe 1998, his examples (36, 12, 2, 0) and
        // (20, 12, 2, 16); Fagerland, Lydersen and Laake, R package contingencytables, data of Cavo
        // et al. 2012 (59, 6, 16, 80).
        for (table, bounds) in [
            (counts(36, 12, 2, 0), [0.0569, 0.3404]),
            (counts(20, 12, 2, 16), [0.0562, 0.3292]),
            (counts(59, 6, 16, 80), [-0.1186, -0.0046]),
        ] {
            let Interval { lower, upper, .. } = table.accuracy_gain(0.025);

            assert!((lower - bounds[0]).abs() < 5e-5, "{table:?} {lower}");
            assert!((upper - bounds[1]).abs() < 5e-5, "{table:?} {upper}");
        }
    }

    #[test]
    fn tests_to_one_side_agree_with_scipy() {
        // scipy 1.17.1, stats.binomtest(gained, gained + lost, 0.5, "greater").pvalue
        for (gained, lost, p) in [
            (27, 10, 0.003_816_039_301_455_021),
            (6, 0, 0.015_625),
            (0, 4, 1.0),
            (5, 5, 0.623_046_875),
            (0, 0, 1.0),
        ] {
            assert!(close(counts(3, gained, lost, 9).gain_p(), p), "{gained} {lost}");
            assert!(close(counts(3, lost, gained, 9).loss_p(), p), "{gained} {lost}");
        }
    }

    #[test]
    fn quantiles_agree_with_scipy() {
        // scipy 1.17.1, stats.t.ppf and stats.norm.ppf
        assert!(
            close(t_quantile(0.025, 49.0), 2.009_575_237_129_239_2),
            "{}",
            t_quantile(0.025, 49.0)
        );
        assert!(close(t_quantile(0.0125, 63.0), 2.296_236_771_514_879_5));
        assert!(close(t_quantile(1e-6, 99.0), 5.051_973_998_245_605));
        assert!(close(normal_quantile(0.0125), 2.241_402_727_604_947));
        assert!(close(normal_quantile(1e-6), 4.753_424_308_817_087));
    }

    #[test]
    fn symmetric_differences_give_students_interval_and_skewed_ones_a_wider_one() {
        let even = [-0.4, 0.2, 0.5, 0.9, 1.2, 1.8];
        let skewed = [0.3, 0.2, 0.25, 0.3, 0.35, -2.0, 0.3, 0.28];

        let straight = mean_interval(&even, 0.025).unwrap();
        let bent = mean_interval(&skewed, 0.025).unwrap();

        // scipy 1.17.1: stats.ttest_1samp(x, 0).confidence_interval(0.95); Hall's bound by solving
        // his cubic with numpy.roots.
        assert!(
            close(straight.lower, -0.112_889_351_246_733_74)
                && close(straight.upper, 1.512_889_351_246_734_3),
            "{straight:?}"
        );
        assert!(close(bent.lower, -2.433_185_408_471_133_7), "{bent:?}");
        assert!(close(bent.upper, 0.673_248_897_129_013_1), "{bent:?}");
    }

    #[test]
    fn what_has_no_interval_is_an_error() {
        assert_eq!(mean_interval(&[1.0], 0.05), Err(StatisticsError::TooFew(1)));
        let infinite = mean_interval(&[1.0, f64::NEG_INFINITY], 0.05);
        assert_eq!(infinite, Err(StatisticsError::NotFinite { index: 1 }));
        assert!(mean_interval(&[f64::MAX, f64::MIN], 0.05).is_err());
        let same = mean_interval(&[0.5, 0.5], 0.05).unwrap();
        assert_eq!((same.lower, same.upper), (0.5, 0.5));
        let none = PairedCounts::default().accuracy_gain(0.05);
        assert_eq!((none.lower, none.upper), (-1.0, 1.0));
    }

    proptest! {
        #[test]
        fn turning_roles_around_turns_intervals_around(
            table in prop::array::uniform4(0usize..80),
            differences in prop::collection::vec(-9.0..9.0f64, 2..40),
            tail in 1e-6..0.2f64,
        ) {
            let [a, b, c, d] = table;
            let (there, back) = (counts(a, b, c, d), counts(a, c, b, d));
            let (i, j) = (there.accuracy_gain(tail), back.accuracy_gain(tail));
            prop_assert!(close(i.lower, -j.upper) && close(i.upper, -j.lower));
            prop_assert!(i.lower <= i.estimate && i.estimate <= i.upper);
            prop_assert!(close(there.gain_p(), back.loss_p()));

            let negated: Vec<f64> = differences.iter().map(|d| -d).collect();
            let (i, j) = (mean_interval(&differences, tail)?, mean_interval(&negated, tail)?);
            prop_assert!(close(i.lower, -j.upper) && close(i.upper, -j.lower), "{:?} {:?}", i, j);
            prop_assert!(i.lower <= i.estimate && i.estimate <= i.upper);
        }

        #[test]
        fn more_certainty_takes_a_wider_interval(
            differences in prop::collection::vec(-9.0..9.0f64, 3..40),
            gained in 0usize..40,
            lost in 0usize..40,
        ) {
            let table = counts(7, gained, lost, 5);
            let (wide, narrow) = (table.accuracy_gain(0.01), table.accuracy_gain(0.05));
            prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            let (wide, narrow) =
                (mean_interval(&differences, 0.01)?, mean_interval(&differences, 0.05)?);
            prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
        }
    }
}
