//! Runs that go well and runs that don't.

use proptest::prelude::*;

use super::*;
use crate::latro::metrics::healthy_step;
use crate::latro::settings::Method;

/// Shows `sentinel` a run of steps, each made from a healthy one; the first trip ends it.
fn watch(
    sentinel: &mut Sentinel,
    steps: std::ops::Range<u64>,
    change: impl Fn(u64, &mut StepMetrics),
) -> Option<Trip> {
    steps.into_iter().find_map(|i| {
        let mut step = healthy_step(i);
        change(i, &mut step);
        sentinel.observe(&step)
    })
}

/// What a run trips on that is healthy for 40 steps and then changed.
fn trip_after_good_start(change: impl Fn(u64, &mut StepMetrics)) -> Option<TripKind> {
    let mut sentinel = Sentinel::default();
    assert_eq!(watch(&mut sentinel, 0..40, |_, _| {}), None);
    watch(&mut sentinel, 40..200, change).map(|trip| trip.kind)
}

#[test]
fn ordinary_learning_does_not_trip() {
    // Becomes sure of itself, brief, and far from the reference, because it gets better.
    let learning = |i: u64, s: &mut StepMetrics| {
        let done = (i as f64 / 150.0).min(1.0);
        s.reward = -20.0 + 19.9 * done;
        s.entropy = 1.5 - 1.499 * done;
        s.rationale_tokens = 60.0 - 55.0 * done;
        s.kl = 2.0 * done * s.rationale_tokens;
        s.clipped_ratio = 0.9 - 0.9 * done;
        s.grad_norm = 10.0 * (1.0 - 0.99 * done) * if i.is_multiple_of(7) { 12.0 } else { 1.0 };
    };

    assert_eq!(watch(&mut Sentinel::default(), 0..400, learning), None);
}

#[test]
fn each_accident_is_told_from_the_others() {
    use TripKind::{EntropyCollapse, GradientExplosion, Kl, ShortRationales, Truncation};

    assert_eq!(trip_after_good_start(|_, s| s.kl = 6.0 * 50.0), Some(Kl));
    assert_eq!(trip_after_good_start(|_, s| s.entropy = 0.001), Some(EntropyCollapse));
    assert_eq!(trip_after_good_start(|_, s| s.grad_norm = 900.0), Some(GradientExplosion));
    assert_eq!(trip_after_good_start(|_, s| s.rationale_tokens = 0.5), Some(ShortRationales));
    assert_eq!(trip_after_good_start(|_, s| s.clipped_ratio = 1.0), Some(Truncation));
}

#[test]
fn one_odd_step_is_forgiven() {
    let odd = |i: u64, s: &mut StepMetrics| {
        if i.is_multiple_of(20) {
            (s.kl, s.grad_norm, s.clipped_ratio) = (450.0, 9000.0, 1.0);
        }
    };

    assert_eq!(trip_after_good_start(odd), None);
}

#[test]
fn guesses_beside_long_rationales_are_a_collapse_unless_they_pay() {
    let guessing = |pays: f64| {
        trip_after_good_start(move |_, s: &mut StepMetrics| {
            (s.short_share, s.reward) = (0.7, s.reward + pays);
        })
    };

    assert_eq!(guessing(0.0), Some(TripKind::ShortRationales));
    assert_eq!(guessing(1.0), None);
}

#[test]
fn what_was_so_from_the_start_is_no_collapse() {
    let odd_but_steady = |_, s: &mut StepMetrics| {
        (s.entropy, s.rationale_tokens, s.clipped_ratio) = (0.001, 1.0, 1.0);
    };

    assert_eq!(watch(&mut Sentinel::default(), 0..200, odd_but_steady), None);
}

#[test]
fn the_third_trip_gives_up_and_every_step_after_it() {
    let mut sentinel = Sentinel::default();
    let mut bad = healthy_step(1);
    bad.loss = f64::NAN;

    let responses: Vec<_> =
        (0..4).filter_map(|_| sentinel.observe(&bad)).map(|trip| trip.response).collect();

    let back = Response::StepBack { learning_rate_factor: 0.5, beta_factor: 2.0 };
    assert_eq!(responses, [back, back, Response::GiveUp, Response::GiveUp]);
    assert!(sentinel.stopped());
}

#[test]
fn supervised_steps_have_no_rationales_to_judge() {
    let mut sentinel = Sentinel::default();
    let supervised = |_, s: &mut StepMetrics| {
        (s.method, s.rationale_tokens, s.entropy) = (Method::Sft, 0.0, 0.0);
    };

    assert_eq!(watch(&mut sentinel, 0..100, supervised), None);
}

#[test]
fn it_goes_on_after_a_restart_as_if_there_had_been_none() {
    let mut sentinel = Sentinel::default();
    watch(&mut sentinel, 0..30, |_, _| {});
    watch(&mut sentinel, 30..32, |_, s| s.kl = 9.0 * 50.0);

    let saved = serde_json::to_string(&sentinel).unwrap();
    let mut restored: Sentinel = serde_json::from_str(&saved).unwrap();

    assert_eq!(restored, sentinel);
    let trip = watch(&mut restored, 32..33, |_, s| s.kl = 9.0 * 50.0).unwrap();
    assert_eq!(trip.kind, TripKind::Kl);
    assert!(trip.sentence.contains("9.00"), "{}", trip.sentence);
}

proptest! {
    #[test]
    fn constant_healthy_numbers_never_trip(
        reward in -100.0..5.0, entropy in 0.0..5.0, kl_per_token in -1.0..2.9,
        grad_norm in 0.0..1e4, rationale_tokens in 0.0..500.0, clipped_ratio in 0.0..=1.0,
    ) {
        let steady = |_, s: &mut StepMetrics| {
            (s.reward, s.entropy, s.kl) = (reward, entropy, 16.0 * kl_per_token);
            (s.grad_norm, s.rationale_tokens) = (grad_norm, rationale_tokens);
            s.clipped_ratio = clipped_ratio;
        };
        prop_assert_eq!(watch(&mut Sentinel::default(), 0..100, steady), None);
    }

    #[test]
    fn a_number_that_is_not_finite_always_trips(
        steps in 0u64..50, which in 0usize..7,
        bad in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ) {
        let mut sentinel = Sentinel::default();
        prop_assert_eq!(watch(&mut sentinel, 0..steps, |_, _| {}), None);
        let mut step = healthy_step(steps);
        let fields = [
            &mut step.loss, &mut step.reward, &mut step.grad_norm, &mut step.parameter_norm,
            &mut step.kl, &mut step.entropy, &mut step.log_p_answer,
        ];
        *fields.into_iter().nth(which).unwrap() = bad;
        let trip = sentinel.observe(&step);
        prop_assert_eq!(trip.map(|t| t.kind), Some(TripKind::NotFinite));
    }
}
