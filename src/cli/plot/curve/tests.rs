//! Lines that `train` could have written, and some that it could not.

use super::*;
use crate::latro::metrics::{EvalMetrics, StepMetrics, healthy_step};

fn step(i: u64, reward: f64) -> String {
    let metrics = StepMetrics { reward, elapsed_s: 30.0 * i as f64, ..healthy_step(i) };
    serde_json::to_string(&MetricLine::Step(metrics)).unwrap()
}

fn eval(i: u64, correct: usize) -> String {
    let metrics = EvalMetrics {
        step: i,
        elapsed_s: 30.0 * i as f64,
        questions: 200,
        correct,
        accuracy: correct as f64 / 200.0,
        majority_k: None,
        majority_accuracy: None,
        log_p_answer: -9.0,
        log_p_answer_per_token: -1.5,
        response_tokens: 30.0,
        finished_share: 1.0,
        forced_accuracy: None,
        readable_share: 1.0,
        delta_log_p: None,
        delta_p: None,
        eval_s: 3.0,
    };
    serde_json::to_string(&MetricLine::Eval(metrics)).unwrap()
}

fn run(label: &str) -> RunCurve {
    let lines: Vec<String> = (1..40).map(|i| step(i, -20.0 + 0.3 * i as f64)).collect();
    let text = format!("{}\n{}\n{}\n", eval(0, 40), lines.join("\n"), eval(40, 90));
    RunCurve::read(label, Over::Time, text.as_bytes()).unwrap()
}

#[test]
fn steps_and_evaluations_become_points() {
    let text = format!("{}\n\n{}\n{}", eval(0, 50), step(1, -8.0), step(2, f64::NAN));

    let curve = RunCurve::read("a run", Over::Time, text.as_bytes()).unwrap();

    assert_eq!(curve.accuracy, [(0.0, 25.0)]);
    assert_eq!(curve.log_p_answer, [(0.0, -1.5)]);
    assert_eq!(curve.reward, [(30.0, -8.0)], "a reward that is not finite is left out");
}

#[test]
fn points_stand_at_the_tokens_sampled_or_the_steps_done_before_them() {
    let text = format!("{}\n{}\n{}\n{}", eval(0, 50), step(1, -8.0), step(2, -7.0), eval(2, 90));
    let read = |over| RunCurve::read("a run", over, text.as_bytes()).unwrap();

    let (tokens, steps) = (read(Over::Tokens), read(Over::Steps));

    assert_eq!(tokens.reward, [(800.0, -8.0), (1600.0, -7.0)]);
    assert_eq!(tokens.accuracy, [(0.0, 25.0), (1600.0, 45.0)]);
    assert_eq!(steps.accuracy, [(0.0, 25.0), (2.0, 45.0)]);
    let svg = draw(&[tokens], Over::Tokens, None).unwrap();
    assert!(svg.contains("sampled tokens"));
}

#[test]
fn a_broken_line_is_named() {
    for bad in ["{", "[]", r#"{"kind":"stop"}"#, r#"{"kind":"step","step":1}"#, "\u{0}"] {
        let text = format!("{}\n{bad}\n", step(1, -8.0));

        let error =
            RunCurve::read("run.jsonl", Over::Time, text.as_bytes()).unwrap_err().to_string();

        assert!(error.starts_with("line 2 of run.jsonl is not"), "{error}");
        assert!(!error.contains("line 1"), "{error}");
    }
    let error = RunCurve::read("x", Over::Time, &b"\xff\xfe\n"[..]).unwrap_err().to_string();
    assert!(error.starts_with("line 1 of x"), "{error}");
}

#[test]
fn a_line_without_end_is_not_read_to_its_end() {
    let endless = std::io::BufReader::new(std::io::repeat(b' '));

    let error = RunCurve::read("zeros", Over::Time, endless).unwrap_err().to_string();

    assert!(error.contains("line 1") && error.contains("longer"), "{error}");
}

#[test]
fn lines_without_end_are_not_read_to_their_end() {
    struct Blank;
    impl std::io::Read for Blank {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            to.fill(b' ');
            to.chunks_mut(1 << 15).for_each(|line| line[0] = b'\n');
            Ok(to.len())
        }
    }
    let lines = std::io::BufReader::with_capacity(1 << 15, Blank);

    let error = RunCurve::read("blank", Over::Time, lines).unwrap_err();

    assert!(matches!(error, CurveError::TooLarge { .. }), "{error}");
}

#[test]
fn a_step_of_an_earlier_version_is_refused_by_the_name_it_lacks() {
    let mut line = serde_json::to_value(MetricLine::Step(healthy_step(1))).unwrap();
    let object = line.as_object_mut().unwrap();
    let norm = object.remove("grad_norm").unwrap();
    object.insert("gradient_norm".into(), norm);

    let error = RunCurve::read("old", Over::Time, line.to_string().as_bytes()).unwrap_err();

    let wanted = "line 1 of old is not a metrics line of train (missing field `grad_norm`)";
    assert!(error.to_string().starts_with(wanted), "{error}");
}

#[test]
fn nothing_to_draw_is_an_error() {
    assert!(matches!(RunCurve::read("x", Over::Time, &b"\n"[..]), Err(CurveError::Empty(_))));
    assert!(matches!(draw(&[], Over::Time, None), Err(CurveError::Empty(_))));
}

#[test]
fn the_picture_holds_all_panels_labels_and_the_title() {
    let svg = draw(&[run("LaTRO"), run("SFT <1>")], Over::Time, Some("chain_sum & co")).unwrap();

    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for text in ["Held-out accuracy", "per token", "Mean reward", "minutes", "LaTRO"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("SFT &lt;1&gt;") && svg.contains("chain_sum &amp; co"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_run_without_evaluations_shows_its_reward_alone() {
    let curve = RunCurve::read("short", Over::Time, step(1, -3.0).as_bytes()).unwrap();

    let svg = draw(&[curve], Over::Time, None).unwrap();

    assert!(svg.contains("Mean reward") && !svg.contains("accuracy"));
}

#[test]
fn a_long_run_makes_a_small_picture() {
    let reward = (0..100_000).map(|i| (f64::from(i), f64::from(i % 97))).collect();
    let curve = RunCurve { label: "long".into(), reward, ..RunCurve::default() };

    let svg = draw(&[curve], Over::Time, None).unwrap();

    assert!(svg.len() < 100_000, "{}", svg.len());
    assert!(svg.contains("hours"));
}

#[test]
fn absurd_numbers_make_an_absurd_picture_and_no_panic() {
    for value in [0.0, -5e3, 5e3, 1e308, -1e308, 1e-320] {
        for at in [0.0, 1e-320, 1e308] {
            let points = vec![(at, value), (0.0, -value)];
            let curve = RunCurve {
                label: String::new(),
                accuracy: points.clone(),
                log_p_answer: points.clone(),
                reward: points.clone(),
                length: points.clone(),
                guesses: points,
            };

            assert!(draw(&[curve], Over::Time, None).is_ok());
        }
    }
}
