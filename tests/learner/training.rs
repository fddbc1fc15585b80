//! Training does what it promises: it repeats itself exactly, and it learns.

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
