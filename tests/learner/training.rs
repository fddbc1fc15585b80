//! Training does what it promises: it repeats itself exactly, and it learns.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::support::{Train, adapter_bytes, fixture, metrics, numbers, text};

#[test]
fn the_same_seed_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: &str, threads: &str| {
        let dir = folder.path().join(name);
        Train::quick(&dir).with("--seed", seed).with("--threads", threads).run().done();
        adapter_bytes(&dir)
    };

    let first = run("first", "5", "2");

    assert!(first == run("again", "5", "2"), "the same command, the same adapter");
    assert!(first == run("alone", "5", "1"), "threads don't change the numbers");
    assert!(first != run("other", "6", "2"), "another seed, another adapter");
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let train = Train::quick(folder.path());
    train.run().done();
    let (adapter, lines) = (adapter_bytes(folder.path()), metrics(folder.path()));

    let said = train.run().done();

    let (memory, rest) = said.split_once('\n').unwrap();
    assert!(memory.starts_with("memory: "), "{memory}");
    assert_eq!(rest, "going on after step 4\n");
    assert!(adapter == adapter_bytes(folder.path()));
    assert_eq!(lines, metrics(folder.path()));
}

#[test]
fn latro_teaches_the_tiny_model_to_work_in_steps() {
    let folder = tempfile::tempdir().unwrap();

    Train::quick(folder.path())
        .with("--eval-tasks", text(&fixture("tiny-dev.jsonl")))
        .with("--eval-questions", "200")
        .with("--steps", "25")
        .with("--num-generations", "8")
        .with("--prompts-per-step", "4")
        .with("--max-new-tokens", "48")
        .with("--rank", "8")
        .with("--alpha", "16")
        .with("--threads", "2")
        .run()
        .done();

    // Measured: 0.47 before; 0.90, 0.91 and 0.98 after, with three seeds.
    let accuracy = numbers(&metrics(folder.path()), "accuracy");
    let [before, after] = accuracy[..] else { panic!("two evaluations, not {accuracy:?}") };
    assert!((0.2..=0.6).contains(&before), "{before}");
    assert!(after >= 0.8, "{after}");
}

#[test]
fn supervised_training_makes_the_answers_likelier() {
    let folder = tempfile::tempdir().unwrap();

    Train::quick(folder.path())
        .with("--method", "sft")
        .with("--eval-tasks", text(&fixture("tiny-dev.jsonl")))
        .with("--eval-questions", "50")
        .with("--steps", "20")
        .with("--prompts-per-step", "8")
        .run()
        .done();

    let lines = metrics(folder.path());
    let held_out: Vec<_> = lines.iter().filter(|l| l["kind"] == "eval").cloned().collect();
    let log_p = numbers(&held_out, "log_p_answer");
    assert!(log_p.len() == 2 && log_p[1] > log_p[0] + 0.05, "{log_p:?}");
    let loss = numbers(&lines, "loss");
    let mean = |steps: &[f64]| steps.iter().sum::<f64>() / steps.len() as f64;
    assert!(mean(&loss[15..]) < mean(&loss[..5]), "{loss:?}");
}

#[test]
fn a_run_begins_with_another_adapter_and_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    Train::quick(&first).run().done();
    let before = adapter_bytes(&first);
    let go_on = Train::quick(&second).with("--start-from", text(&first));

    go_on.run().done();
    go_on.run().done();

    let norm = |dir: &Path, i: usize| numbers(&metrics(dir), "parameter_norm")[i];
    assert!((norm(&second, 0) - norm(&first, 3)).abs() < 0.02 * norm(&first, 3));
    assert!(before == adapter_bytes(&first) && before != adapter_bytes(&second));
    let other = folder.path().join("other");
    let other = Train::quick(&other).with("--start-from", text(&first)).with("--rank", "8");
    other.run().refused(64, &["rank 8", "rank 4", text(&first)]);
}

#[test]
fn a_run_ends_with_the_adapter_that_did_best() {
    let folder = tempfile::tempdir().unwrap();
    let [best, last] = ["best", "last"].map(|name| folder.path().join(name));
    // So fast that it unlearns again.
    let train = |dir: &Path, steps: &str| {
        Train::quick(dir)
            .with("--eval-tasks", text(&fixture("tiny-dev.jsonl")))
            .with("--eval-questions", "30")
            .with("--eval-every", "1")
            .with("--learning-rate", "0.01")
            .with("--lr-scheduler", "constant")
            .with("--warmup-steps", "0")
            .with("--steps", steps)
    };

    let said = train(&best, "5").run().done();

    let evaluations: Vec<Value> =
        metrics(&best).into_iter().filter(|line| line["kind"] == "eval").collect();
    let (accuracy, log_p) =
        (numbers(&evaluations, "accuracy"), numbers(&evaluations, "log_p_answer_per_token"));
    // The first one of equal ones.
    let step = (1..accuracy.len())
        .rev()
        .max_by(|a, b| (accuracy[*a], log_p[*a]).partial_cmp(&(accuracy[*b], log_p[*b])).unwrap())
        .unwrap();
    assert!(step < 5, "it unlearns: {accuracy:?}");
    assert!(said.contains(&format!("that of step {step}, the best")), "{said}");
    train(&last, &step.to_string()).with("--keep", "last").run().done();
    assert!(adapter_bytes(&best) == adapter_bytes(&last));
}

/// Sixty sums with worked rationales, in GSM8K's form.
fn worked(tasks: &std::path::Path) {
    let line = |i: usize| {
        let (a, b) = (i % 9, i / 9);
        let sum = a + b;
        serde_json::json!({
            "question": format!("What is {a} + {b}?"),
            "answer": format!("{a} and {b} are {sum}, since <<{a}+{b}={sum}>>they are.\n#### {sum}"),
        })
    };
    let all: String = (0..60).map(|i| format!("{}\n", line(i))).collect();
    fs::write(tasks, all).unwrap();
}

#[test]
fn worked_rationales_are_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = folder.path().join("tasks.jsonl");
    worked(&tasks);
    let dir = folder.path().join("run");
    let train = Train::quick(&dir)
        .with("--method", "sft_rationale")
        .with("--tasks", text(&tasks))
        .with("--max-new-tokens", "64")
        .with("--steps", "12")
        .with("--prompts-per-step", "8");

    train.run().done();

    let loss = numbers(&metrics(&dir), "loss");
    assert!(loss[10] + loss[11] < 0.9 * (loss[0] + loss[1]), "{loss:?}");
    let without = Train::quick(&folder.path().join("none")).with("--method", "sft_rationale");
    without.run().refused(64, &["no task has a rationale", "#### 18"]);
}

#[test]
fn a_warm_start_learns_from_right_rationales_before_it_compares_any() {
    let folder = tempfile::tempdir().unwrap();

    Train::quick(folder.path())
        .with("--warm-start-steps", "3")
        .with("--prompts-per-step", "4")
        .with("--max-new-tokens", "48")
        .run()
        .done();

    let spread = numbers(&metrics(folder.path()), "advantage_spread");
    assert!(spread[..3].iter().all(|s| *s == 0.0) && spread[3] > 0.0, "{spread:?}");
    let norms = numbers(&metrics(folder.path()), "grad_norm");
    assert!(norms.iter().all(|norm| *norm > 0.0), "{norms:?}");
}

#[test]
fn a_warm_start_takes_worked_rationales_where_tasks_have_some() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = folder.path().join("tasks.jsonl");
    worked(&tasks);
    let train = |name: &str| {
        Train::quick(&folder.path().join(name))
            .with("--tasks", text(&tasks))
            .with("--warm-start-steps", "6")
            .with("--prompts-per-step", "8")
            .with("--max-new-tokens", "64")
            .with("--steps", "8")
    };

    train("worked").run().done();
    train("own").with("--warm-start", "own").run().done();

    let lines = metrics(&folder.path().join("worked"));
    let (loss, tokens) = (numbers(&lines, "loss"), numbers(&lines, "rollout_tokens"));
    assert!(loss[4] + loss[5] < loss[0] + loss[1], "{loss:?}");
    assert!(tokens[..6].iter().all(|n| *n == 0.0) && tokens[6] > 0.0, "{tokens:?}");
    let own = numbers(&metrics(&folder.path().join("own")), "rollout_tokens");
    assert!(own[..6].iter().all(|n| *n > 0.0), "{own:?}");
}

#[test]
fn the_model_itself_says_whether_to_think() {
    let folder = tempfile::tempdir().unwrap();
    let train = Train::quick(folder.path())
        .with("--method", "auto")
        .with("--max-new-tokens", "48")
        .with("--steps", "1");

    let said = train.run().done();
    let again = train.clone().with("--steps", "2").run().done();

    assert!(said.contains("it learns to think (latro)"), "{said}");
    assert!(!again.contains("probability"), "decided once: {again}");
    assert!(metrics(folder.path()).iter().all(|line| line["method"] == "latro"));
    let manifest = fs::read_to_string(folder.path().join("latrod.json")).unwrap();
    assert!(manifest.contains("\"method\": \"latro\""), "{manifest}");
}

#[test]
fn a_step_that_finds_nothing_to_teach_asks_up_to_three_times_as_many() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = folder.path().join("tasks.jsonl");
    let line = |i: usize| serde_json::json!({ "question": format!("What is {i}?"), "answer": "an elephant" });
    let all: String = (0..20).map(|i| format!("{}\n", line(i))).collect();
    fs::write(&tasks, all).unwrap();
    let asked = |teaching: &str| {
        let dir = folder.path().join(teaching);
        Train::quick(&dir)
            .with("--tasks", text(&tasks))
            .with("--steps", "1")
            .with("--teaching-prompts", teaching)
            .run()
            .done();
        numbers(&metrics(&dir), "prompts_per_step")
    };

    assert_eq!(asked("4"), [6.0]);
    assert_eq!(asked("0"), [2.0]);
}
