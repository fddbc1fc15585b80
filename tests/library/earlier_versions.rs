//! What a latrod with other formats left on disk is read, or refused with a sentence that says what to do, and
//! never changed. `tests/fixtures/earlier` was made by `scripts/make_earlier_state.sh`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use latrod::arch::spec::ModelSpec;
use latrod::gguf::GgufFile;
use latrod::intake::{Spool, SpoolSettings};
use latrod::store::ledger::{Ledger, LedgerError};
use latrod::store::{AdapterManifest, AdapterShape, read_peft};
use rusqlite::Connection;
use tempfile::TempDir;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// A copy of a folder of the fixture, to be worked on.
fn copy_of(folder: &str) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture("earlier").join(folder), dir.path());
    dir
}

/// Names and bytes of all files, without the lock.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else if path.file_name().is_some_and(|name| name != ".lock") {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

/// A state folder with the earlier ledger.
fn state() -> (TempDir, PathBuf) {
    let dir = copy_of("state");
    let path = dir.path().join("ledger.db");
    let dump = fs::read_to_string(fixture("earlier/ledger.sql")).unwrap();
    Connection::open(&path).unwrap().execute_batch(&dump).unwrap();
    (dir, path)
}

#[test]
fn a_run_is_refused_and_left_as_it_is() {
    let run = copy_of("run");
    let before = contents(run.path());
    let tasks = tempfile::tempdir().unwrap();
    let path = tasks.path().join("tasks.jsonl");
    fs::write(&path, "{\"question\": \"1 + 1\", \"answer\": \"2\"}\n").unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_latrod"));
    command.arg("train").args(["--steps", "1", "--max-new-tokens", "8", "--held-out", "0"]);
    command.arg("--tasks").arg(path);
    command.arg("--model").arg(fixture("tiny.gguf")).arg("--adapter").arg(run.path());
    let output = command.assert().failure().code(1).get_output().clone();

    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(sentence.contains("has the format \"checkpoint-1\""), "{sentence}");
    assert!(sentence.contains("start again in another folder"), "{sentence}");
    assert_eq!(contents(run.path()), before);
}

#[cfg(feature = "charts")]
#[test]
fn metrics_are_drawn_or_the_line_is_named() {
    let picture = tempfile::tempdir().unwrap();
    let picture = picture.path().join("curve.svg");

    let mut command = Command::new(env!("CARGO_BIN_EXE_latrod"));
    command.arg("plot").arg(fixture("earlier/run/metrics.jsonl")).arg("--out").arg(&picture);
    let output = command.output().unwrap();

    let sentence = String::from_utf8(output.stderr).unwrap();
    let named = sentence.contains("line 1 of ") && sentence.contains("is not a metrics line");
    assert!(picture.exists() != named, "{sentence}");
}

#[test]
fn the_adapter_of_a_run_is_read() {
    let run = copy_of("run");
    let model = GgufFile::open(&fixture("tiny.gguf")).unwrap();
    let spec = ModelSpec::from_gguf(&model).unwrap();

    let (config, tensors) = read_peft(run.path(), &AdapterShape::from(&spec)).unwrap();

    assert_eq!(config.r, 1);
    assert_eq!(tensors.len(), 2 * spec.layers);
    assert!(AdapterManifest::check(run.path(), &model.sha256().unwrap()).unwrap().is_some());
}

#[test]
fn a_ledger_is_refused_and_left_as_it_is() {
    let (dir, path) = state();
    let before = contents(dir.path());

    let error = Ledger::open(&path, &latrod::report::SCHEMAS).unwrap_err();

    assert!(matches!(error, LedgerError::Older { version: 1, .. }), "{error}");
    assert!(error.to_string().contains("move the file away"), "{error}");
    assert!(!error.is_corrupt(), "it is not set aside as damaged");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn tasks_come_back_once_the_ledger_was_moved_away() {
    let (dir, path) = state();
    fs::rename(&path, dir.path().join("ledger.db.old")).unwrap();

    let (ledger, _) = Ledger::open(&path, &latrod::report::SCHEMAS).unwrap();
    let folder = dir.path().join("spool");
    let mut spool = Spool::new(SpoolSettings { folder, ..SpoolSettings::default() }, dir.path());
    let restored = spool.restore(&ledger, 1_790_000_000).unwrap();
    spool.scan(&ledger, Duration::ZERO, 1_790_000_000).unwrap();

    assert_eq!(restored, 8);
    let counts = ledger.task_counts().unwrap();
    assert_eq!(counts.train + counts.held_out, 8);
}
