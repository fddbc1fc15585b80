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
mod tests;
