//! Runs the program and reads what it leaves behind: the one place that knows its arguments.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `LATROD_BIN` | the program to test, for example a release build | the one built with the tests |
//! | `LATROD_KILLS` | how often a run is killed | 8 |
//! | `LATROD_MUTANTS` | how many damaged models are tried | 60 |

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

/// Longer than any command here takes on a busy machine; whatever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// What the tiny model has learned to expect behind a question (`scripts/make_tiny_model.py`).
pub const SUFFIX: &str = " Let's think step by step.";

/// How a command ended.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(out: Output) -> Self {
        Self {
            code: out.status.code().expect("ended by itself"),
            stdout: String::from_utf8(out.stdout).expect("text"),
            stderr: String::from_utf8(out.stderr).expect("text"),
        }
    }
}

impl Outcome {
    /// Asserts that all went well, and returns standard output.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Asserts that it ended with `code` and one sentence that contains `parts`.
    #[track_caller]
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        let said: Vec<&str> = self.stderr.lines().collect();
        assert!(said.len() == 1 && said[0].starts_with("latrod: "), "one sentence, not {said:?}");
        for part in parts {
            assert!(said[0].contains(part), "{part:?} in {said:?}");
        }
    }
}

/// The program under test.
pub fn program() -> OsString {
    std::env::var_os("LATROD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_latrod").into())
}

/// A command of the program, to be started by the test.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command
}

/// Runs the program to its end.
pub fn latrod(args: &[&str]) -> Outcome {
    assert_cmd::Command::from_std(command(args))
        .timeout(LIMIT)
        .output()
        .expect("the program starts")
        .into()
}

/// How many times a test repeats itself: what the variable says, or `default`.
pub fn repeats(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |n| n.parse().expect("a number"))
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}

/// The arguments of a training run.
#[derive(Clone)]
pub struct Train(Vec<String>);

impl Train {
    /// A run of a few quick steps on the tiny model, without evaluations.
    pub fn quick(adapter: &Path) -> Self {
        Self(Vec::from(["train".into()]))
            .with("--model", text(&fixture("tiny.gguf")))
            .with("--tasks", text(&fixture("tiny-train.jsonl")))
            .with("--adapter", text(adapter))
            .with("--steps", "4")
            .with("--num-generations", "4")
            .with("--prompts-per-step", "2")
            .with("--max-new-tokens", "24")
            .with("--prompt-suffix", SUFFIX)
            .with("--rank", "4")
            .with("--learning-rate", "1e-3")
            .with("--eval-questions", "0")
            .with("--threads", "1")
    }

    /// Adds an option, or gives it another value.
    pub fn with(mut self, option: &str, value: &str) -> Self {
        match self.0.iter().position(|arg| arg == option) {
            Some(at) => value.clone_into(&mut self.0[at + 1]),
            None => self.0.extend([option.into(), value.into()]),
        }
        self
    }

    pub fn args(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    pub fn run(&self) -> Outcome {
        latrod(&self.args())
    }
}

/// The adapter's weights, as they are on disk.
pub fn adapter_bytes(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("adapter_model.safetensors")).expect("an adapter")
}

/// The lines of JSON in a text.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The lines of a run's `metrics.jsonl`; none if there is no such file yet.
pub fn metrics(dir: &Path) -> Vec<Value> {
    lines(&fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default())
}

/// The named number of every line that has it.
pub fn numbers(lines: &[Value], name: &str) -> Vec<f64> {
    lines.iter().filter_map(|line| line[name].as_f64()).collect()
}
