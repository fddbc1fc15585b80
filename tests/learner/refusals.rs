//! Arguments and files that don't go together: one sentence, and nothing is touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::{Outcome, Train, fixture, latrod, text};

/// `debug score` of given rollouts with an adapter.
fn score(rollouts: &Path, adapter: &Path) -> Outcome {
    let model = fixture("tiny.gguf");
    let files = ["--rollouts", text(rollouts), "--adapter", text(adapter)];
    latrod(&[&["debug", "score", "--model", text(&model)], &files[..]].concat())
}

/// A copy of the fixture's adapter that can be spoilt.
fn copy_of_adapter(dir: &Path) -> PathBuf {
    let copy = dir.join("adapter");
    fs::create_dir(&copy).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("parity/adapter").join(file), copy.join(file)).unwrap();
    }
    copy
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("adapter");
    for (option, value, named) in [
        ("--num-generations", "1", "num_generations is 1"),
        ("--num-generations", "18446744073709551615", "num_generations"),
        ("--prompts-per-step", "0", "prompts_per_step"),
        ("--prompts-per-step", "18446744073709551615", "prompts_per_step"),
        ("--rank", "0", "rank"),
        ("--rank", "9999999999999", "rank"),
        ("--alpha", "NaN", "alpha"),
        ("--learning-rate", "0", "learning_rate"),
        ("--temperature", "0", "temperature"),
        ("--beta", "inf", "beta"),
        ("--max-new-tokens", "18446744073709551615", "max_new_tokens"),
        ("--max-new-tokens", "512", "fewer new tokens"),
        ("--batch", "0", "--batch"),
        ("--threads", "0", "--threads"),
        ("--threads", "100000", "--threads"),
        ("--held-out", "1", "--held-out"),
        ("--max-minutes", "NaN", "--max-minutes"),
    ] {
        let outcome = Train::quick(&dir).with(option, value).run();

        outcome.refused(64, &[named]);
    }
    assert!(!dir.exists(), "nothing was written");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = copy_of_adapter(folder.path());
    let rollouts = fixture("parity/rollouts.jsonl");
    score(&rollouts, &adapter).done();

    let manifest = format!(
        r#"{{"base_sha256": "{}", "base_name": "other.gguf", "created_by": "latrod"}}"#,
        "0".repeat(64)
    );
    fs::write(adapter.join("latrod.json"), manifest).unwrap();
    score(&rollouts, &adapter).refused(64, &[text(&adapter), "made for other.gguf"]);
    fs::remove_file(adapter.join("latrod.json")).unwrap();

    let config = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    fs::write(adapter.join("adapter_config.json"), config.replace("\"r\": 2", "\"r\": 3")).unwrap();
    score(&rollouts, &adapter).refused(64, &["expected", "another model or has another rank"]);
}

#[test]
fn damaged_adapters_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = copy_of_adapter(folder.path());
    let path = adapter.join("adapter_model.safetensors");
    let sound = fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    flipped[40] ^= 0x20;
    let huge_header = [&u64::MAX.to_le_bytes(), &sound[8..]].concat();
    for bytes in [&sound[..0], &sound[..7], &sound[..sound.len() / 2], &flipped, &huge_header] {
        fs::write(&path, bytes).unwrap();

        let outcome = score(&fixture("parity/rollouts.jsonl"), &adapter);

        outcome.refused(64, &[text(&adapter)]);
    }
}

#[test]
fn training_never_overwrites_an_adapter_it_did_not_make() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = copy_of_adapter(folder.path());
    let before = fs::read(adapter.join("adapter_model.safetensors")).unwrap();

    let outcome = Train::quick(&adapter).run();

    outcome.refused(64, &[text(&adapter), "another folder"]);
    assert!(before == fs::read(adapter.join("adapter_model.safetensors")).unwrap());
}

#[test]
fn broken_rollouts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollouts.jsonl");
    let long = format!("{:?}", vec![5; 600]);
    for (line, named) in [
        (String::new(), "no rollouts"),
        ("{\"prompt_ids\": [1".into(), "line 1"),
        (r#"{"prompt_ids": [], "answer_ids": [1], "rationales": [[2], [3]]}"#.into(), "line 1"),
        (r#"{"prompt_ids": [1], "answer_ids": [], "rationales": [[2], [3]]}"#.into(), "line 1"),
        (r#"{"prompt_ids": [1], "answer_ids": [1], "rationales": [[2]]}"#.into(), "at least 2"),
        (r#"{"prompt_ids": [1], "answer_ids": [1], "rationales": []}"#.into(), "at least 2"),
        (r#"{"prompt_ids": [-1], "answer_ids": [1], "rationales": [[2], [3]]}"#.into(), "line 1"),
        (
            r#"{"prompt_ids": [1], "answer_ids": [1], "rationales": [[2], [999999]]}"#.into(),
            "999999",
        ),
        (
            format!(r#"{{"prompt_ids": {long}, "answer_ids": [1], "rationales": [[2], [3]]}}"#),
            "512",
        ),
    ] {
        fs::write(&path, &line).unwrap();

        let outcome = score(&path, &fixture("parity/adapter"));

        outcome.refused(64, &[named]);
    }
}
