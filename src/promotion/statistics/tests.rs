use proptest::prelude::*;

use super::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
}

/// Outcomes of `gained + lost` questions that changed and some that did not.
fn outcomes(gained: usize, lost: usize) -> (Vec<bool>, Vec<bool>) {
    let pairs = [(false, true, gained), (true, false, lost), (true, true, 5), (false, false, 7)];
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

        assert_eq!((test.questions, test.gained, test.lost), (gained + lost + 12, gained, lost));
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
