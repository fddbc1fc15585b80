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
    assert!(close(t_quantile(0.025, 49.0), 2.009_575_237_129_239_2), "{}", t_quantile(0.025, 49.0));
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
