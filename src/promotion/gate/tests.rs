use proptest::prelude::*;

use super::*;
use crate::settings::Settings;

/// Numbers that look random and are the same everywhere (`SplitMix64`, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// How a simulated policy does on questions of varying difficulty.
#[derive(Clone, Copy)]
struct Policy {
    /// Added to log p per token of every question.
    shift: f64,
    /// Standard deviation of what the policy makes of a question, beside its difficulty.
    noise: f64,
    /// Added to the probability of a right answer.
    accuracy: f64,
    /// The share of questions that it has become bad at, by 5 nats per token, and what all others
    /// gain for it: its mean stays as it is.
    broken: f64,
}

const SAME: Policy = Policy { shift: 0.0, noise: 0.4, accuracy: 0.0, broken: 0.0 };

/// Difficulties of `n` questions: log p per token and the chance of a right answer.
fn questions(n: usize, dice: &mut Dice) -> Vec<(f64, f64)> {
    (0..n).map(|_| (-2.0 + dice.normal(), dice.uniform())).collect()
}

fn ask(questions: &[(f64, f64)], policy: Policy, dice: &mut Dice) -> Vec<Answered> {
    let answer = |&(log_p, chance): &(f64, f64)| {
        let broken = dice.uniform() < policy.broken;
        let loss = if broken { 5.0 } else { 0.0 } - 5.0 * policy.broken;
        let per_token = log_p + policy.shift + policy.noise * dice.normal() - loss;
        Answered {
            correct: dice.uniform() < chance + policy.accuracy,
            log_p_answer: 4.0 * per_token,
            answer_tokens: 4,
        }
    };
    questions.iter().map(answer).collect()
}

fn paired(baseline: &[Answered], candidate: &[Answered]) -> Paired {
    let pair = |(b, c): (&Answered, &Answered)| Pair { baseline: *b, candidate: *c };
    let questions = baseline.iter().zip(candidate).map(pair).collect();
    Paired { questions, forget: Some(near()), attempt: 1 }
}

fn near() -> Forget {
    Forget { kl_nats_per_token: 0.01, worst_text_nats_per_token: 0.02, texts: 40, tokens: 1200 }
}

/// In how many of `trials` does a candidate on `n` questions get promoted?
fn promotions(trials: u64, n: usize, candidate: Policy) -> usize {
    let settings = GateSettings::default();
    let promoted = |seed: &u64| {
        let mut dice = Dice(*seed);
        let asked = questions(n, &mut dice);
        let (b, c) = (ask(&asked, SAME, &mut dice), ask(&asked, candidate, &mut dice));
        decide(&settings, &paired(&b, &c)).verdict == Verdict::Promote
    };
    (0..trials).filter(promoted).count()
}

fn answered(correct: bool, per_token: f64) -> Answered {
    Answered { correct, log_p_answer: 5.0 * per_token, answer_tokens: 5 }
}

/// `n` questions of which the candidate answers a share more, with a gain of likelihood that varies.
fn simple(n: usize, more_right: usize, gain: f64) -> Paired {
    let wobble = |i: usize| if i.is_multiple_of(2) { 0.2 } else { -0.2 };
    let baseline: Vec<_> = (0..n).map(|i| answered(i < n / 4, -2.0)).collect();
    let candidate: Vec<_> =
        (0..n).map(|i| answered(i < n / 4 + more_right, -2.0 + gain + wobble(i))).collect();
    paired(&baseline, &candidate)
}

#[test]
fn a_clear_gain_is_promoted_and_the_sentence_has_the_numbers() {
    let decision = decide(&GateSettings::default(), &simple(100, 10, 0.5));

    assert_eq!((decision.verdict, decision.finding), (Verdict::Promote, Finding::LikelihoodGained));
    assert!(decision.reason.contains("accuracy 35.0 % (+10.0 points"), "{}", decision.reason);
    assert!(decision.reason.contains("100 questions"), "{}", decision.reason);
    let json = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
    assert!(json.contains("\"verdict\":\"promote\""), "{json}");
}

#[test]
fn accuracy_alone_promotes_while_likelihood_is_not_worse() {
    let settings = GateSettings::default();

    let same_likelihood = decide(&settings, &simple(100, 20, 0.0));
    let less_likely = decide(&settings, &simple(100, 20, -0.5));

    assert_eq!(same_likelihood.finding, Finding::AccuracyGained);
    assert_eq!(same_likelihood.verdict, Verdict::Promote);
    assert_eq!(less_likely.finding, Finding::LikelihoodFell);
    assert_eq!(less_likely.verdict, Verdict::Reject);
}

#[test]
fn who_begins_to_think_may_be_sure_of_mistakes() {
    // Answers at once, and finds many things possible; or thinks, and finds one.
    let answers_at_once: Vec<_> = (0..200).map(|i| answered(i < 17, -2.7)).collect();
    let thinks = |i: usize| if i < 49 { answered(true, -0.05) } else { answered(false, -5.8) };
    let paired = paired(&answers_at_once, &(0..200).map(thinks).collect::<Vec<_>>());

    let decision = decide(&GateSettings::default(), &paired);

    let evidence = decision.evidence.unwrap();
    assert!(evidence.log_p_per_token.gain.upper < 0.0, "{evidence:?}");
    assert!(evidence.p_per_token.unwrap().gain.lower > 0.0, "{evidence:?}");
    assert_eq!((decision.verdict, decision.finding), (Verdict::Promote, Finding::AccuracyGained));
    assert_eq!(check(&GateSettings::default(), &paired).verdict, Check::Keep);
}

#[test]
fn likelihood_does_not_make_up_for_lost_answers() {
    let mut lost = simple(100, 0, 0.5);
    for pair in &mut lost.questions[..3] {
        pair.candidate.correct = false;
    }

    let strict = decide(&GateSettings::default(), &lost);
    let lenient = GateSettings { max_accuracy_loss_percent: 3.0, ..GateSettings::default() };

    assert_eq!((strict.verdict, strict.finding), (Verdict::Reject, Finding::AccuracyFell));
    assert_eq!(decide(&lenient, &lost).verdict, Verdict::Promote);
}

#[test]
fn too_few_questions_decide_nothing() {
    for n in [0, 1, 2, 49] {
        let decision = decide(&GateSettings::default(), &simple(n, n / 2, 5.0));

        assert_eq!((decision.verdict, decision.finding), (Verdict::Undecided, Finding::TooFew));
        assert_eq!(decision.evidence.is_some(), n >= 2);
        assert!(decision.reason.contains("50 are needed"), "{}", decision.reason);
    }
    assert_eq!(decide(&GateSettings::default(), &simple(50, 10, 5.0)).verdict, Verdict::Promote);
}

#[test]
fn a_candidate_that_forgot_is_rejected_however_much_it_gained() {
    let settings = GateSettings { max_kl_nats_per_token: 0.05, ..GateSettings::default() };
    let mut gained = simple(100, 20, 1.0);
    for (forget, finding) in [
        (Some(0.049), Finding::LikelihoodGained),
        (Some(0.051), Finding::Forgot),
        (Some(f64::NAN), Finding::Forgot),
        (None, Finding::Forgot),
    ] {
        gained.forget = forget.map(|kl_nats_per_token| Forget { kl_nats_per_token, ..near() });
        assert_eq!(decide(&settings, &gained).finding, finding, "{forget:?}");
    }
    let off = GateSettings { max_kl_nats_per_token: 0.0, ..GateSettings::default() };
    assert_eq!(decide(&off, &gained).verdict, Verdict::Promote);
}

#[test]
fn likelihoods_that_are_no_numbers_promote_nothing_and_keep_nothing() {
    for bad in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY] {
        let mut broken = simple(100, 20, 1.0);
        broken.questions[7].candidate.log_p_answer = bad;

        let decision = decide(&GateSettings::default(), &broken);
        let checked = check(&GateSettings::default(), &broken);

        assert_eq!((decision.verdict, decision.finding), (Verdict::Reject, Finding::NotFinite));
        assert_eq!((checked.verdict, checked.finding), (Check::RollBack, Finding::NotFinite));
    }
}

#[test]
fn fresh_tasks_roll_back_what_is_proven_worse_and_nothing_else() {
    let settings = GateSettings::default();
    let verdict = |more_right: i64, gain: f64| {
        let mut fresh = simple(100, more_right.max(0) as usize, gain);
        for pair in &mut fresh.questions[..(-more_right).max(0) as usize] {
            pair.candidate.correct = false;
        }
        check(&settings, &fresh).verdict
    };

    assert_eq!(verdict(0, 0.0), Check::Keep);
    assert_eq!(verdict(10, 0.3), Check::Keep);
    assert_eq!(verdict(0, -0.3), Check::RollBack);
    assert_eq!(verdict(-20, 0.3), Check::RollBack);
    assert_eq!(verdict(20, -0.3), Check::Keep, "more right answers, if with less confidence");
    assert_eq!(check(&settings, &simple(10, 0, -9.0)).verdict, Check::Keep);
}

#[test]
fn the_shares_of_all_attempts_add_up_to_what_one_may_err() {
    let settings = GateSettings::default();

    let all: f64 = (1..=100_000).map(|k| 2.0 * settings.tail(k)).sum();

    assert!(all < 0.05 && all > 0.0499, "{all}");
    assert_eq!(settings.tail(0), settings.tail(1));
    let plain = GateSettings { correct_repeats: false, ..settings };
    assert!((plain.tail(9) - 0.025).abs() < 1e-12);
}

#[test]
fn settings_that_mean_nothing_are_named() {
    let nonsense = GateSettings {
        min_questions: 1,
        confidence: 1.0,
        correct_repeats: true,
        max_accuracy_loss_percent: -1.0,
        max_kl_nats_per_token: f64::NAN,
        ..GateSettings::default()
    };

    let fields: Vec<_> = nonsense.problems().into_iter().map(|(field, _)| field).collect();

    let all = ["min_questions", "confidence", "max_accuracy_loss_percent", "max_kl_nats_per_token"];
    assert_eq!(fields, all);
    assert!(GateSettings::default().problems().is_empty());
}

#[test]
fn without_a_difference_promotions_are_as_rare_as_promised() {
    // 5 % are allowed; three standard deviations of 2000 trials at 5 % are 1.5 %.
    for n in [50, 120] {
        let promoted = promotions(2000, n, SAME);
        assert!(promoted <= 100, "{promoted} of 2000 at n = {n}");
    }
    // Most questions gain a little, some lose much.
    let skewed = promotions(2000, 120, Policy { broken: 0.05, ..SAME });
    assert!(skewed <= 100, "{skewed} of 2000");
}

#[test]
fn many_candidates_on_the_same_questions_don_t_wear_the_gate_down() {
    let settings = GateSettings::default();
    let ever = |settings: &GateSettings| {
        let promoted = |seed: &u64| {
            let mut dice = Dice(1_000_000 + seed);
            let asked = questions(60, &mut dice);
            let baseline = ask(&asked, SAME, &mut dice);
            (1..=40).any(|attempt| {
                let candidate = ask(&asked, SAME, &mut dice);
                let paired = Paired { attempt, ..paired(&baseline, &candidate) };
                decide(settings, &paired).verdict == Verdict::Promote
            })
        };
        (0..300).filter(promoted).count()
    };

    let corrected = ever(&settings);
    let plain = ever(&GateSettings { correct_repeats: false, ..settings });

    assert!(corrected <= 15, "{corrected} of 300");
    assert!(plain > 3 * corrected.max(5), "{plain} of 300 without the correction");
}

#[test]
fn a_poisoned_candidate_is_never_promoted_and_a_better_one_mostly() {
    let poisoned = Policy { shift: -0.5, accuracy: -0.2, ..SAME };
    let better = Policy { shift: 0.3, accuracy: 0.1, ..SAME };

    assert_eq!(promotions(2000, 60, poisoned), 0);
    let promoted = promotions(500, 100, better);
    assert!(promoted > 400, "{promoted} of 500");
}

fn any_answered() -> impl Strategy<Value = Answered> {
    (any::<bool>(), -60.0..0.0f64, 1usize..30).prop_map(|(correct, log_p_answer, answer_tokens)| {
        Answered { correct, log_p_answer, answer_tokens }
    })
}

proptest! {
    #[test]
    fn nothing_is_promoted_against_itself(
        asked in prop::collection::vec(any_answered(), 0..120),
        attempt in any::<u32>(),
    ) {
        let same = Paired { attempt, ..paired(&asked, &asked) };
        prop_assert!(decide(&GateSettings::default(), &same).verdict != Verdict::Promote);
        prop_assert_eq!(check(&GateSettings::default(), &same).verdict, Check::Keep);
    }

    #[test]
    fn of_two_only_one_can_be_better(
        pairs in prop::collection::vec((any_answered(), any_answered()), 2..90),
        shift in -20.0..20.0f64,
        right in 0.0..1.0f64,
        max_accuracy_loss_percent in 0.0..100.0f64,
        confidence in 0.5..0.999f64,
    ) {
        let settings = GateSettings {
            min_questions: 2, confidence, max_accuracy_loss_percent, ..GateSettings::default()
        };
        let (a, mut b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let n = b.len() as f64;
        for (i, answered) in b.iter_mut().enumerate() {
            answered.log_p_answer += shift;
            answered.correct |= (i as f64) < right * n;
        }
        let verdict = |x: &[Answered], y: &[Answered]| decide(&settings, &paired(x, y)).verdict;
        prop_assert!(verdict(&a, &b) != Verdict::Promote || verdict(&b, &a) != Verdict::Promote);
        // What is promoted would not be rolled back at once on the same questions.
        if verdict(&a, &b) == Verdict::Promote {
            prop_assert_eq!(check(&settings, &paired(&a, &b)).verdict, Check::Keep);
        }
    }

    #[test]
    fn any_numbers_give_a_decision_that_can_be_stored(
        pairs in prop::collection::vec((any::<bool>(), any::<f64>(), any::<f64>(), any::<usize>()), 0..70),
        attempt in any::<u32>(),
    ) {
        let questions = pairs.into_iter().map(|(correct, b, c, answer_tokens)| Pair {
            baseline: Answered { correct, log_p_answer: b, answer_tokens },
            candidate: Answered { correct: !correct, log_p_answer: c, answer_tokens },
        });
        let paired = Paired { questions: questions.collect(), forget: Some(near()), attempt };
        let decision = decide(&GateSettings::default(), &paired);
        let json = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
        let _ = check(&GateSettings::default(), &paired);
    }
}
