//! Runs that are stopped: nothing is lost, and going on gives the same bits as never having stopped.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::support::{
    Outcome, Train, adapter_bytes, command, fixture, metrics, numbers, repeats, text,
};

/// Steps beyond any patience.
const FOREVER: &str = "100000";

/// A short run with everything that a step and an evaluation write.
fn short(dir: &Path) -> Train {
    Train::quick(dir)
        .with("--eval-tasks", text(&fixture("tiny-dev.jsonl")))
        .with("--eval-questions", "4")
        .with("--eval-every", "3")
        .with("--steps", "6")
}

fn start(train: &Train) -> Child {
    let mut command = command(&train.args());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(name: &str, child: &Child) {
    let (option, id) = (format!("-{name}"), child.id().to_string());
    let sent = std::process::Command::new("kill").args([&option, &id]).status().unwrap();
    assert!(sent.success(), "the run is still there");
}

/// Waits until a run has done a step.
fn wait_for_a_step(dir: &Path, child: &mut Child) {
    let start = Instant::now();
    while numbers(&metrics_so_far(dir), "step").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first step");
        assert!(start.elapsed() < Duration::from_secs(60), "no step in a minute");
        sleep(Duration::from_millis(5));
    }
}

/// The whole lines of a file that is being written.
fn metrics_so_far(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a run's lines say, but for the clock and the memory.
fn without_clock(mut lines: Vec<Value>) -> Vec<Value> {
    for fields in lines.iter_mut().filter_map(Value::as_object_mut) {
        fields.retain(|name, _| !name.ends_with("_s") && name != "peak_memory_mib");
    }
    lines
}

#[track_caller]
fn assert_same_run(dir: &Path, expected: &Path) {
    assert!(adapter_bytes(dir) == adapter_bytes(expected), "the same adapter, bit by bit");
    assert_eq!(without_clock(metrics(dir)), without_clock(metrics(expected)));
    for folder in [dir.to_owned(), dir.join("training")] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().ends_with("-tmp"), "{name:?} was left behind");
        }
    }
}

#[test]
fn killed_at_any_moment_a_run_ends_as_if_it_had_not_been() {
    let kills = repeats("LATROD_KILLS", 8);
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected");
    let begun = Instant::now();
    short(&expected).run().done();
    // From before anything is loaded to after several steps.
    let longest = begun.elapsed().as_millis() as u64 / 2;
    let mut rng = ChaCha8Rng::seed_from_u64(3);

    let (mut killed, mut runs) = (0, 0);
    while killed < kills {
        runs += 1;
        let dir = folder.path().join(format!("run-{runs}"));
        while killed < kills {
            let mut child = start(&short(&dir));
            sleep(Duration::from_millis(rng.next_u64() % longest));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "killed, not failed");
            killed += 1;
        }
        short(&dir).run().done();
        assert_same_run(&dir, &expected);
    }
    println!("{killed} kills in {runs} runs of 6 steps, within {longest} ms of a start");
}

#[test]
fn asked_to_stop_a_run_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let train = Train::quick(folder.path()).with("--steps", FOREVER);
    for name in ["TERM", "INT"] {
        let before = metrics(folder.path()).len();
        let mut child = start(&train);
        let begun = Instant::now();
        while metrics_so_far(folder.path()).len() <= before {
            assert!(begun.elapsed() < Duration::from_secs(60), "no step in a minute");
            sleep(Duration::from_millis(5));
        }

        signal(name, &child);
        let asked = Instant::now();
        assert!(child.wait().is_ok());
        let waited = asked.elapsed();

        let outcome: Outcome = child.wait_with_output().unwrap().into();
        outcome.refused(75, &["run the same command again to go on"]);
        assert!(waited < Duration::from_secs(10), "it took {waited:?} to stop");
    }

    let done = metrics(folder.path());
    let elapsed = numbers(&done, "elapsed_s").into_iter().fold(0.0, f64::max);
    let limit = ((elapsed + 0.3) / 60.0).to_string();
    let said = train.with("--max-minutes", &limit).run().done();

    assert!(said.contains(&format!("going on after step {}\n", done.len())), "{said}");
    let steps = numbers(&metrics(folder.path()), "step");
    assert!(steps.len() > done.len());
    assert!(steps.iter().zip(1..).all(|(step, i)| *step == f64::from(i)), "each step once");
}

#[test]
fn stopped_politely_a_run_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, dir) = (folder.path().join("expected"), folder.path().join("stopped"));
    let begun = Instant::now();
    short(&expected).run().done();
    let part = begun.elapsed() / 3;

    for _ in 0..3 {
        let mut child = start(&short(&dir));
        sleep(part);
        if child.try_wait().unwrap().is_none() {
            signal("TERM", &child);
        }
        child.wait().unwrap();
    }
    short(&dir).run().done();

    assert_same_run(&dir, &expected);
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let train = Train::quick(folder.path()).with("--steps", FOREVER);
    let mut first = start(&train);
    wait_for_a_step(folder.path(), &mut first);

    let second = train.run();

    first.kill().unwrap();
    first.wait().unwrap();
    let owner = first.id().to_string();
    second.refused(75, &["in use by another latrod", &owner]);
    let third = train.with("--max-minutes", "0").run();
    assert!(third.done().contains("\ngoing on after step"), "the lock went with its owner");
}

#[test]
fn a_run_goes_on_with_its_own_settings_only() {
    let folder = tempfile::tempdir().unwrap();
    let train = Train::quick(folder.path());
    train.run().done();
    let before = adapter_bytes(folder.path());

    for (option, value, named) in [
        ("--num-generations", "8", "num_generations = 4"),
        ("--learning-rate", "0.01", "learning_rate = 0.001"),
        ("--seed", "1", "seed = 0"),
        ("--target-modules", "q_proj", "target_modules"),
        ("--method", "sft", "method"),
        ("--compute", "exact", "--compute"),
        ("--batch", "3", "--batch 64"),
        ("--tasks", text(&fixture("tiny-dev.jsonl")), "tasks"),
    ] {
        let outcome = train.clone().with(option, value).run();

        outcome.refused(64, &[text(folder.path()), named, "another folder"]);
    }

    assert!(before == adapter_bytes(folder.path()), "and nothing was touched");
    train.run().done();
}

#[test]
fn a_run_that_is_lengthened_goes_on_as_if_it_had_been_so_long_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, dir) = (folder.path().join("expected"), folder.path().join("lengthened"));
    // With another schedule the learning rate depends on the run's length.
    let train = |dir: &Path, steps| {
        Train::quick(dir).with("--lr-scheduler", "constant").with("--steps", steps)
    };
    train(&expected, "4").run().done();
    train(&dir, "2").run().done();

    let said = train(&dir, "4").run().done();

    assert!(said.contains("going on after step 2"), "{said}");
    assert_same_run(&dir, &expected);
}

#[test]
fn a_run_without_its_checkpoint_starts_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, dir) = (folder.path().join("expected"), folder.path().join("anew"));
    let train = |dir: &Path| Train::quick(dir).with("--steps", "1").with("--num-generations", "5");
    train(&expected).run().done();
    Train::quick(&dir).with("--steps", "1").run().done();
    let stale = dir.join("training/good-00000016.safetensors");
    fs::rename(dir.join("training/checkpoint.safetensors"), &stale).unwrap();
    fs::remove_file(dir.join("adapter_model.safetensors")).unwrap();

    train(&dir).run().done();

    assert!(!stale.exists(), "another run's good state is nothing to go back to");
    assert_same_run(&dir, &expected);
}
