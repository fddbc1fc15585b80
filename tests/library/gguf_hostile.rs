//! Damaged and foreign GGUF files given to the program: one clear sentence and exit code 64, never
//! a panic.

#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use common::gguf::{GgufBytes, small_llama};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

const MUTANTS: usize = 500;

/// How a run of `latrod inspect` ended.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn inspect(path: &Path, options: &[&str]) -> Outcome {
    let out = Command::new(env!("CARGO_BIN_EXE_latrod"))
        .arg("inspect")
        .arg(path)
        .args(options)
        .timeout(Duration::from_secs(30))
        .output()
        .expect("the program starts and ends in time");
    Outcome {
        code: out.status.code().expect("not killed by a signal"),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

fn save(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[track_caller]
fn assert_refused(outcome: &Outcome, what: &str) {
    let Outcome { code, stderr, stdout } = outcome;
    assert_eq!(*code, 64, "{what}: {stderr}");
    assert!(stdout.is_empty(), "{what}: {stdout}");
    assert_eq!(stderr.lines().count(), 1, "{what}: one sentence, not {stderr}");
    assert!(stderr.starts_with("latrod: ") && stderr.contains("model.gguf"), "{what}: {stderr}");
}

#[test]
fn a_sound_model_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&folder, &small_llama().build());

    let table = inspect(&path, &[]);
    let json = inspect(&path, &["--json", "--rank", "4"]);

    assert_eq!((table.code, table.stderr.as_str()), (0, ""));
    for part in ["llama", "Q4_1", "Q8_0", "possible        yes", "predicted memory"] {
        assert!(table.stdout.contains(part), "{part} in {}", table.stdout);
    }
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["shape"]["layers"], 2);
    assert_eq!(report["trainable"], true);
    assert_eq!(report["tokenizer"]["special"]["eos"], 39);
    // Embedding, output norm, and twice: two norms, q, k, v, o, and the FFN's three.
    let block = 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96;
    assert_eq!(report["parameters"], 40 * 64 + 64 + 2 * block);
    assert!(report["memory"]["total"].as_u64().unwrap() > 0);
}

#[test]
fn mutants_end_in_a_sentence_or_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let sound = small_llama().build();
    let header = sound.len() - sound.len() / 2;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;

    for i in 0..MUTANTS {
        let mut bytes = sound.clone();
        let what = if i % 4 == 0 {
            let n = below(bytes.len());
            bytes.truncate(n);
            format!("mutant {i}, cut off at {n}")
        } else {
            let flips: Vec<(usize, usize)> =
                (0..=below(4)).map(|_| (below(header), below(8))).collect();
            for &(at, bit) in &flips {
                bytes[at] ^= 1 << bit;
            }
            format!("mutant {i}, bits flipped at {flips:?}")
        };
        let outcome = inspect(&save(&folder, &bytes), &[]);
        if outcome.code == 0 && i % 4 != 0 {
            assert_eq!(outcome.stderr, "", "{what}");
        } else {
            assert_refused(&outcome, &what);
        }
    }
}

#[test]
fn foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![0; 4096];
    for bytes in [b"".as_slice(), b"GG", b"{\"not\": \"a model\"}", &zeros] {
        assert_refused(&inspect(&save(&folder, bytes), &[]), "foreign bytes");
    }
    let missing = folder.path().join("no-model.gguf");
    assert_refused(&inspect(&missing, &[]), "a missing file");
    let inside = save(&folder, b"x").join("model.gguf");
    assert_refused(&inspect(&inside, &[]), "a path through a file");
}

#[test]
fn models_that_cannot_be_trained_are_described_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let name = "token_embd.weight";
    let cases: [(GgufBytes, &str); 3] = [
        (
            small_llama().without("general.architecture").str("general.architecture", "mamba"),
            "the architecture mamba is not supported; supported: llama",
        ),
        (
            small_llama().without_tensor(name).tensor(name, &[64, 40], 20, vec![0; 1440]),
            "1 of its tensors have the type IQ4_NL, which is not supported",
        ),
        (
            small_llama().tensor("extra", &[7], 4711, vec![0; 7]),
            "1 of its tensors have the type number 4711, which is not supported",
        ),
    ];
    for (model, reason) in cases {
        let outcome = inspect(&save(&folder, &model.build()), &[]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        assert!(outcome.stdout.contains("possible        no"), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(reason), "{reason} in {}", outcome.stdout);
    }
}

#[test]
fn text_from_the_file_cannot_control_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let model = small_llama().without("general.name").str("general.name", "\u{1b}[2J\nboo");

    let outcome = inspect(&save(&folder, &model.build()), &[]);

    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.contains("\\u{1b}[2J\\nboo"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains('\u{1b}'));
}
