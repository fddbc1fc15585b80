//! Paired tests: is the difference between two models on the same questions more than chance?
//!
//! Two answers: for numbers such as log p(answer), the paired t-test; for right and wrong, the exact
//! test of McNemar. Pure; what follows from a p-value is decided elsewhere.

use statrs::{
    distribution::{ContinuousCDF, StudentsT},
    function::beta::checked_beta_reg,
};

/// Pairs that cannot be tested.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// The lists are not about the same questions.
    #[error("{before} results before and {after} after: a paired test needs the same questions")]
    Unpaired {
        /// Length of the first list.
        before: usize,
        /// Length of the second list.
        after: usize,
    },
    /// A variance needs two values.
    #[error("a paired t-test needs at least 2 questions, not {0}")]
    TooFew(usize),
    /// NaN or infinite.
    #[error("result {index} is not a finite number")]
    NotFinite {
        /// Position in the lists.
        index: usize,
    },
    /// Finite numbers whose sums are not.
    #[error("the results are too large to be averaged")]
    Overflow,
}

/// What a paired t-test says of the differences after − before.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct PairedT {
    /// Number of pairs.
    pub pairs: usize,
    /// Mean difference.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Ends of its 95 % confidence interval.
    pub confidence_95: [f64; 2],
    /// Probability of a mean at least this far from 0, to either side, if there is no difference.
    pub p: f64,
}

/// Tests whether the mean of the differences dᵢ = afterᵢ − beforeᵢ is 0.
///
/// With mean d̄, s² = Σ(dᵢ − d̄)² / (n − 1), SE = s / √n, t = d̄ / SE and ν = n − 1:
/// p = I_{ν/(ν+t²)}(ν/2, 1/2) (regularized incomplete beta function; two-sided), and the interval is
/// d̄ ± t₀.₉₇₅(ν) · SE. Differences that are all equal have SE 0; then p is 1 if they are 0, else 0.
///
/// # Errors
/// If the lists differ in length, hold fewer than two values or one that is not finite.
pub fn paired_t(before: &[f64], after: &[f64]) -> Result<PairedT, StatisticsError> {
    check_paired(before.len(), after.len())?;
    let pairs = before.len();
    if pairs < 2 {
        return Err(StatisticsError::TooFew(pairs));
    }
    let differences: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    if let Some(index) = differences.iter().position(|d| !d.is_finite()) {
        return Err(StatisticsError::NotFinite { index });
    }
    let n = count(pairs);
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let standard_error = (variance / n).sqrt();
    let reach = t_quantile_975(n - 1.0) * standard_error;
    Ok(PairedT {
        pairs,
        mean,
        standard_error,
        confidence_95: [mean - reach, mean + reach],
        p: two_sided_p(mean, standard_error, n - 1.0),
    })
}

/// What the exact test of McNemar says.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct McNemar {
    /// Number of questions.
    pub questions: usize,
    /// Wrong before, right after.
    pub gained: usize,
    /// Right before, wrong after.
    pub lost: usize,
    /// Probability of a split at least this uneven, to either side, if gains and losses are equally
    /// likely.
    pub p: f64,
}

/// Tests whether as many questions were gained as lost; `true` is a right answer.
///
/// Only the n = gained + lost questions that changed count. Under no difference the gains are
/// binomial(n, 1/2), so p = min(1, 2 · P(X ≤ min(gained, lost))).
///
/// # Errors
/// If the lists differ in length.
pub fn mcnemar(before: &[bool], after: &[bool]) -> Result<McNemar, StatisticsError> {
    check_paired(before.len(), after.len())?;
    let changed = |from: bool| before.iter().zip(after).filter(|p| *p == (&from, &!from)).count();
    let (gained, lost) = (changed(false), changed(true));
    Ok(McNemar { questions: before.len(), gained, lost, p: sign_test_p(gained, lost) })
}

/// min(1, 2 · P(X ≤ min(a, b))) for X ~ binomial(a + b, 1/2), by P(X ≤ k) = I_{1/2}(n − k, k + 1).
fn sign_test_p(a: usize, b: usize) -> f64 {
    let (few, many) = (a.min(b), a.max(b));
    if few == many {
        return 1.0; // also where nothing changed
    }
    (2.0 * beta(count(many), count(few) + 1.0, 0.5)).min(1.0)
}

fn two_sided_p(mean: f64, standard_error: f64, degrees: f64) -> f64 {
    if mean == 0.0 {
        return 1.0;
    }
    let t = mean / standard_error; // infinite for equal differences, and p is then 0
    beta(degrees / 2.0, 0.5, degrees / (degrees + t * t))
}

/// The 97.5 % quantile of Student's distribution with `degrees` ≥ 1 degrees of freedom.
fn t_quantile_975(degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |t| t.inverse_cdf(0.975))
}

/// `I_x(a, b)` for a, b > 0 and 0 ≤ x ≤ 1, which all callers see to.
fn beta(a: f64, b: f64, x: f64) -> f64 {
    checked_beta_reg(a, b, x).unwrap_or(f64::NAN)
}

const fn check_paired(before: usize, after: usize) -> Result<(), StatisticsError> {
    if before == after { Ok(()) } else { Err(StatisticsError::Unpaired { before, after }) }
}

#[expect(clippy::cast_precision_loss, reason = "a count of questions")]
const fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
    }

    /// Outcomes of `gained + lost` questions that changed and some that did not.
    fn outcomes(gained: usize, lost: usize) -> (Vec<bool>, Vec<bool>) {
        let pairs =
            [(false, true, gained), (true, false, lost), (true, true, 5), (false, false, 7)];
        pairs.iter().flat_map(|&(b, a, n)| std::iter::repeat_n((b, a), n)).unzip()
    }

    #[test]
    fn paired_t_agrees_with_scipy() {
        // scipy 1.17.1, stats.ttest_rel(after, before) and its confidence_interval(0.95)
        let before = [-2.31, -0.52, -3.10, -1.75, -0.08, -4.44, -2.02, -1.11];
        let after = [-1.90, -0.61, -2.20, -1.02, -0.11, -3.20, -2.05, -0.40];

        let test = paired_t(&before, &after).unwrap();

        assert_eq!(test.pairs, 8);
        assert!(close(test.mean, 0.48), "{test:?}");
        assert!(close(test.standard_error, 0.175_224_345_992_705_7), "{test:?}");
        assert!(close(test.p, 0.028_945_511_883_927_504), "{test:?}");
        assert!(close(test.confidence_95[0], 0.065_660_261_996_163_43), "{test:?}");
        assert!(close(test.confidence_95[1], 0.894_339_738_003_836_7), "{test:?}");
    }

    #[test]
    fn two_pairs_and_overwhelming_evidence_agree_with_scipy() {
        let two = paired_t(&[1.5, 1.0], &[1.0, 2.0]).unwrap();
        let gains = [0.31, 0.29, 0.33, 0.35, 0.28, 0.30, 0.32, 0.36, 0.27, 0.30].repeat(6);
        let many = paired_t(&[0.0; 60], &gains).unwrap();

        assert!(close(two.p, 0.795_167_235_300_866_5), "{two:?}");
        assert!(close(two.confidence_95[1], 9.779_653_552_131_02), "{two:?}");
        assert!((many.p / 9.480_733_059_981_085e-64 - 1.0).abs() < 1e-6, "{many:?}");
    }

    #[test]
    fn equal_differences_are_certain_and_none_is_nothing() {
        let same = paired_t(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]).unwrap();
        let all = paired_t(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]).unwrap();

        assert_eq!((same.p, same.confidence_95), (1.0, [0.0, 0.0]));
        assert_eq!((all.p, all.confidence_95), (0.0, [1.0, 1.0]));
    }

    #[test]
    fn what_cannot_be_tested_is_an_error() {
        assert_eq!(paired_t(&[1.0], &[1.0]), Err(StatisticsError::TooFew(1)));
        let odd = Err(StatisticsError::Unpaired { before: 1, after: 0 });
        assert_eq!(paired_t(&[1.0], &[]), odd);
        let nan = paired_t(&[0.0, 0.0, f64::NAN], &[0.0, 1.0, 0.0]);
        assert_eq!(nan, Err(StatisticsError::NotFinite { index: 2 }));
        assert!(mcnemar(&[true], &[]).is_err());
    }

    #[test]
    fn mcnemar_agrees_with_scipy() {
        // scipy 1.17.1, stats.binomtest(gained, gained + lost, 0.5).pvalue
        for (gained, lost, p) in [
            (10, 2, 0.038_574_218_75),
            (3, 3, 1.0),
            (25, 9, 0.009_041_185_490_787_03),
            (1, 0, 1.0),
            (0, 6, 0.031_25),
            (120, 80, 0.005_685_155_996_750_306),
            (600, 500, 0.002_819_544_991_436_428_4),
            (0, 0, 1.0),
        ] {
            let (before, after) = outcomes(gained, lost);

            let test = mcnemar(&before, &after).unwrap();

            assert_eq!(
                (test.questions, test.gained, test.lost),
                (gained + lost + 12, gained, lost)
            );
            assert!(close(test.p, p), "{test:?} {p}");
        }
    }

    #[test]
    fn p_agrees_with_flipping_signs() {
        // Under no difference every sign is as likely as its opposite: count the 2^14 flips whose
        // mean is at least as far from 0. The t-test approximates this.
        let d = [
            0.913, -0.226, 0.701, 1.437, 0.119, -0.654, 0.832, 0.307, 1.178, -0.441, 0.569, 0.251,
            -0.108, 0.623,
        ];
        let observed = d.iter().sum::<f64>().abs() - 1e-12;
        let far = (0u32..1 << d.len()).filter(|flips| {
            let signed = |(i, x): (usize, &f64)| if flips >> i & 1 == 1 { -x } else { *x };
            d.iter().enumerate().map(signed).sum::<f64>().abs() >= observed
        });
        let exact = far.count() as f64 / f64::from(1u32 << d.len());

        let p = paired_t(&[0.0; 14], &d).unwrap().p;

        assert!((p - exact).abs() < 0.01, "{p} {exact}");
        assert!((0.01..0.05).contains(&p), "{p}");
    }

    proptest! {
        #[test]
        fn mcnemar_agrees_with_adding_up_binomials(gained in 0usize..60, lost in 0usize..60) {
            let n = gained + lost;
            let mut term = 0.5f64.powi(n as i32);
            let mut sum = 0.0;
            for k in 0..=gained.min(lost) {
                sum += term;
                term *= (n - k) as f64 / (k + 1) as f64;
            }
            prop_assert!(close(sign_test_p(gained, lost), (2.0 * sum).min(1.0)));
        }

        #[test]
        fn turning_the_question_around_turns_the_answer_around(
            pairs in prop::collection::vec((-9.0..9.0f64, -9.0..9.0f64), 2..30),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (up, down) = (paired_t(&a, &b).unwrap(), paired_t(&b, &a).unwrap());
            prop_assert!(close(up.p, down.p) && close(up.mean, -down.mean));
            prop_assert!((0.0..=1.0).contains(&up.p));
            // The interval excludes 0 exactly where p is under 5 %.
            prop_assert_eq!(up.confidence_95[0] > 0.0 || up.confidence_95[1] < 0.0, up.p < 0.05);
        }
    }
}
