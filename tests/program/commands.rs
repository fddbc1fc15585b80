//! `eval`, `ask` and `export` through the binary, on a model of random weights built here.

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use common::gguf::small_llama;
use latrod::arch::lora::{Factor, LoraKey, LoraTensors, Matrix, Target};
use latrod::arch::spec::ModelSpec;
use latrod::engine::device::DeviceKind;
use latrod::gguf::{GgufFile, TensorInfo};
use latrod::store::{
    AdapterConfig, AdapterManifest, AdapterShape, Training, file_sha256, read_peft,
    read_safetensors, write_peft,
};
use latrod::text::Wording;
use serde_json::Value;
use tempfile::TempDir;

const RANK: usize = 2;

/// How a run of the program ended.
#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.succeeded().stdout).expect("one JSON value")
    }

    /// One sentence, which holds all of `parts`, and nothing on standard output.
    #[track_caller]
    fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        let sentence = self.stderr.lines().last().unwrap_or_default();
        assert!(sentence.starts_with("latrod: "), "{self:?}");
        assert!(parts.iter().all(|part| sentence.contains(part)), "{parts:?} in {sentence}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }

    /// Refused by the parser of arguments, which explains itself in several lines.
    #[track_caller]
    fn misused(self, part: &str) {
        assert_eq!(self.code, 64, "{self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains(part), "{self:?}");
    }
}

/// A folder with a model and tasks.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(place.path("model.gguf"), small_llama().build()).unwrap();
        place.tasks(&[("ABBA", "B"), ("CAB", "A"), ("DEAF", "F"), ("FEED", "E")]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tasks(&self, tasks: &[(&str, &str)]) {
        let line =
            |(q, a): &(&str, &str)| format!("{{\"question\": \"{q}\", \"answer\": \"{a}\"}}\n");
        std::fs::write(self.path("tasks.jsonl"), tasks.iter().map(line).collect::<String>())
            .unwrap();
    }

    fn shape(&self) -> AdapterShape {
        AdapterShape::from(&self.spec())
    }

    fn spec(&self) -> ModelSpec {
        ModelSpec::from_gguf(&GgufFile::open(&self.path("model.gguf")).unwrap()).unwrap()
    }

    /// An adapter that changes nothing, whose folder says how it was trained.
    fn trained(&self, name: &str, method: &str, prompt: Wording) {
        let dir = self.adapter(name, 0.0);
        let sha256 = file_sha256(&self.path("model.gguf")).unwrap();
        let training = Training {
            method: method.into(),
            prompt,
            tasks_sha256: String::new(),
            settings: Value::Null,
        };
        AdapterManifest::new(&sha256, "small").with_training(Some(training)).write(&dir).unwrap();
    }

    /// An adapter folder of our own making; with a `strength` of 0 it changes nothing.
    fn adapter(&self, name: &str, strength: f32) -> PathBuf {
        let (dir, spec) = (self.path(name), self.spec());
        let targets = vec![Target::Q, Target::Up];
        let mut tensors = LoraTensors::new();
        for layer in 0..spec.layers {
            for &target in &targets {
                let (out, input) = spec.target_dims(target);
                let a = matrix(RANK, input, 0.1);
                let b = matrix(out, RANK, strength);
                tensors.insert(LoraKey { layer, target, factor: Factor::A }, a);
                tensors.insert(LoraKey { layer, target, factor: Factor::B }, b);
            }
        }
        let config = AdapterConfig {
            r: RANK,
            lora_alpha: 4.0,
            target_modules: targets,
            base_model_name_or_path: Some("small".into()),
        };
        write_peft(&dir, &config, &tensors, &self.shape()).unwrap();
        dir
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let out = Command::new(env!("CARGO_BIN_EXE_latrod"))
            .current_dir(self.folder.path())
            .args(args)
            .timeout(Duration::from_secs(60))
            .output()
            .expect("the program starts and ends in time");
        Outcome {
            code: out.status.code().expect("not killed by a signal"),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
        }
    }

    fn eval(&self, options: &[&str]) -> Outcome {
        let fixed = ["eval", "--model", "model.gguf", "--tasks", "tasks.jsonl"];
        let short: &[&str] = match options.contains(&"--max-new-tokens") {
            true => &[],
            false => &["--max-new-tokens", "8"],
        };
        self.run(&[&fixed[..], &["--threads", "1"], short, options].concat())
    }

    fn ask(&self, options: &[&str]) -> Outcome {
        let fixed = ["ask", "--model", "model.gguf", "--threads", "1", "--max-new-tokens", "12"];
        self.run(&[&fixed[..], options].concat())
    }
}

/// Small varied numbers.
fn matrix(rows: usize, cols: usize, size: f32) -> Matrix {
    let data = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * size).collect();
    Matrix { rows, cols, data }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn eval_reports_the_untouched_model() {
    let place = Place::new();

    let report = place.eval(&["--json", "--votes", "3"]).json();
    let again = place.eval(&["--json", "--votes", "3", "--batch", "1"]).json();

    let base = &report["base"];
    assert_eq!((&base["questions"], &base["majority_k"]), (&4.into(), &3.into()));
    assert_eq!(number(&base["accuracy"]), number(&base["correct"]) / 4.0);
    assert!(report.get("adapter").is_none() && report.get("comparison").is_none());
    for name in ["accuracy", "majority_accuracy", "response_tokens"] {
        assert_eq!(base[name], again["base"][name], "{name} depends on --batch");
    }
}

#[cfg(feature = "debug")]
#[test]
fn an_adapter_that_answers_at_once_has_the_log_probabilities_of_debug_score() {
    let place = Place::new();
    place.tasks(&[("CAB", "A")]);
    place.trained("direct", "sft", Wording::default());
    let ids = |text: &str| -> Value {
        let line = format!("{}\n", serde_json::to_string(text).unwrap());
        let out = Command::new(env!("CARGO_BIN_EXE_latrod"))
            .current_dir(place.folder.path())
            .args(["debug", "tokenize", "--model", "model.gguf", "--json", "--special"])
            .write_stdin(line)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["ids"].clone()
    };
    let rollout = serde_json::json!({
        "prompt_ids": ids("Question: CAB\nAnswer:"),
        "answer_ids": ids("\nThe answer is A.<|im_end|>"),
        "rationales": [[], []],
    });
    std::fs::write(place.path("rollouts.jsonl"), rollout.to_string()).unwrap();

    let report = place.eval(&["--json", "--adapter", "direct", "--compute", "exact"]).json();
    let fixed = ["debug", "score", "--tokens", "--model", "model.gguf", "--rollouts"];
    let score = place.run(&[&fixed[..], &["rollouts.jsonl"]].concat()).json();

    // The answer's own token in the first of two equal branches.
    let answer = rollout["answer_ids"].as_array().unwrap();
    let own = ids("A").as_array().unwrap()[0].clone();
    let there = &score["token_logp"][answer.iter().rposition(|id| *id == own).unwrap()];
    let here = &report["adapter"]["log_p_answer"];
    assert!((number(here) - number(there)).abs() < 1e-4, "{here} {there}");
}

#[test]
fn eval_compares_an_adapter_on_the_same_questions() {
    let place = Place::new();
    place.adapter("nothing", 0.0);
    place.adapter("something", 0.5);

    let same = place.eval(&["--json", "--adapter", "nothing"]).json();
    let other = place.eval(&["--json", "--adapter", "something"]).json();
    let alone = place.eval(&["--json", "--adapter", "something", "--no-baseline"]).json();

    assert_eq!(same["base"]["log_p_answer"], same["adapter"]["log_p_answer"]);
    assert_eq!(same["comparison"]["log_p_answer_per_token"]["p"], 1.0);
    assert_eq!(same["base"]["log_p_answer"], other["base"]["log_p_answer"]);
    let gain = number(&other["comparison"]["log_p_answer_per_token"]["mean"]);
    assert!(gain != 0.0, "{other}");
    assert_eq!(other["adapter"]["log_p_answer"], alone["adapter"]["log_p_answer"]);
    assert!(alone.get("base").is_none() && alone.get("comparison").is_none());
}

#[test]
fn an_adapter_is_asked_with_the_words_that_it_was_trained_with() {
    let place = Place::new();
    let suffix = |text: &str| Wording { suffix: text.into(), ..Wording::default() };
    place.trained("adapter", "latro", suffix(" ABBA"));

    let own = place.eval(&["--json", "--adapter", "adapter"]).json();
    let given = place.eval(&["--json", "--prompt-suffix", " ABBA"]).json();
    let other = place.eval(&["--json", "--adapter", "adapter", "--prompt-suffix", ""]).json();
    let plain = place.eval(&["--json"]).json();

    assert_eq!(own["base"]["log_p_answer"], given["base"]["log_p_answer"]);
    assert_eq!(other["base"]["log_p_answer"], plain["base"]["log_p_answer"]);
    assert_ne!(given["base"]["log_p_answer"], plain["base"]["log_p_answer"]);
}

#[test]
fn eval_prints_a_table_and_writes_every_answer() {
    let place = Place::new();
    place.adapter("adapter", 0.5);

    let table = place.eval(&["--adapter", "adapter", "--limit", "3", "--details", "all.jsonl"]);

    let table = table.succeeded().stdout;
    for part in ["untouched", "adapter", "McNemar", "95 % confidence", "of 3"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let text = std::fs::read_to_string(place.path("all.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[1]["question"], &lines[1]["base"]["wanted"]), (&"CAB".into(), &"A".into()));
    assert!(lines[1]["adapter"]["log_p_answer"].is_number());
}

#[test]
fn eval_sets_bad_lines_and_long_questions_aside() {
    let place = Place::new();
    let long = "A".repeat(300);
    let text = format!(
        "{{\"question\": \"AB\", \"answer\": \"A\"}}\nnonsense\n\
         {{\"question\": \"{long}\", \"answer\": \"A\"}}\n"
    );
    std::fs::write(place.path("tasks.jsonl"), text).unwrap();

    let outcome = place.eval(&["--json"]).succeeded();

    assert!(outcome.stderr.contains("1 bad line") && outcome.stderr.contains("line 2"));
    assert!(outcome.stderr.contains("1 question left out"), "{}", outcome.stderr);
    let report = outcome.json();
    assert_eq!((&report["bad_lines"], &report["left_out"]), (&1.into(), &1.into()));
    assert_eq!(report["base"]["questions"], 1);
}

#[test]
fn eval_refuses_what_it_cannot_use() {
    let place = Place::new();
    let adapter = place.adapter("other", 0.5);
    AdapterManifest::new(&"0".repeat(64), "another model").write(&adapter).unwrap();
    std::fs::write(place.path("empty.jsonl"), "").unwrap();

    place.eval(&["--adapter", "nowhere"]).refused(64, &["nowhere"]);
    place.eval(&["--adapter", "other"]).refused(64, &["another model"]);
    place.eval(&["--details", "no/such/folder.jsonl"]).refused(64, &["folder.jsonl"]);
    place.eval(&["--max-new-tokens", "300"]).refused(64, &["no question can be asked", "256"]);
    let tasks = |path| place.run(&["eval", "--model", "model.gguf", "--tasks", path]);
    tasks("nowhere.jsonl").refused(64, &["nowhere.jsonl"]);
    tasks("empty.jsonl").refused(64, &["holds no tasks"]);
    let model = |path| place.run(&["eval", "--model", path, "--tasks", "tasks.jsonl"]);
    model("nowhere.gguf").refused(64, &["nowhere.gguf"]);
    model("tasks.jsonl").refused(64, &["tasks.jsonl"]);
    place.eval(&["--votes", "1"]).misused("1 is not in 2..=1024");
    place.eval(&["--batch", "0"]).misused("0 is not in");
    place.eval(&["--no-baseline"]).misused("--adapter");
}

#[test]
fn a_device_that_the_build_lacks_is_refused() {
    let place = Place::new();
    place.tasks(&[("ABBA", "A")]);
    if DeviceKind::Cuda.is_built_in() {
        return;
    }

    let parts = ["no cuda", "--features cuda"];
    place.eval(&["--device", "cuda"]).refused(64, &parts);
    place.ask(&["ABBA", "--device", "cuda"]).refused(64, &parts);
    let train = ["train", "--model", "model.gguf", "--tasks", "tasks.jsonl", "--adapter", "new"];
    place.run(&[&train[..], &["--device", "cuda"]].concat()).refused(64, &parts);
}

#[test]
fn an_adapter_for_another_shape_is_refused() {
    let place = Place::new();
    let adapter = place.adapter("adapter", 0.5);
    let config = std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    let wider = config.replace("\"r\": 2", "\"r\": 3");
    assert_ne!(config, wider);
    std::fs::write(adapter.join("adapter_config.json"), wider).unwrap();

    place.eval(&["--adapter", "adapter"]).refused(64, &["lora_A", "another model"]);
    place.ask(&["--adapter", "adapter", "ABBA"]).refused(64, &["lora_A"]);
}

#[test]
fn ask_ends_with_the_answer_that_json_gives() {
    let place = Place::new();

    let text = place.ask(&["ABBA"]).succeeded().stdout;
    let json = place.ask(&["ABBA", "--json"]).json();
    let at_once = place.ask(&["ABBA", "--no-rationale"]).succeeded().stdout;

    let last = text.lines().last().unwrap();
    assert!(last.starts_with("The answer is "), "{text}");
    assert!(last.contains(json["answer"].as_str().unwrap()), "{text} {json}");
    assert!(text.starts_with(json["rationale"].as_str().unwrap()), "{text} {json}");
    assert_eq!(at_once.lines().count(), 1, "{at_once}");
}

#[test]
fn ask_samples_by_its_seed() {
    let place = Place::new();
    let ask = |seed: &str| {
        let options = ["--json", "--temperature", "1", "--seed", seed, "ABBA"];
        place.ask(&options).json()["rationale"].clone()
    };

    assert_eq!(ask("1"), ask("1"));
    assert_ne!(ask("1"), ask("2"));
}

#[test]
fn ask_refuses_what_it_cannot_use() {
    let place = Place::new();

    place.ask(&["  "]).refused(64, &["the question is empty"]);
    place.ask(&[&"A".repeat(300)]).refused(64, &["context ends at 256"]);
    place.ask(&["ABBA", "--adapter", "nowhere"]).refused(64, &["nowhere"]);
    place.ask(&["ABBA", "--temperature=-1"]).misused("--temperature");
    let threads = ["ask", "--model", "model.gguf", "--threads", "0", "ABBA"];
    place.run(&threads).refused(64, &["--threads"]);
}

/// The tensors of a GGUF file of f32 matrices, by name.
fn gguf_matrices(path: &Path) -> BTreeMap<String, Matrix> {
    let file = GgufFile::open(path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let matrix = |t: &TensorInfo| {
        let start = usize::try_from(t.file_offset()).unwrap();
        let own = &bytes[start..start + 4 * t.elements()];
        let data = own.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (t.name.clone(), Matrix { rows: t.rows(), cols: t.cols(), data })
    };
    file.tensors().iter().map(matrix).collect()
}

#[test]
fn export_writes_a_gguf_adapter_in_the_rows_of_the_model() {
    let place = Place::new();
    let adapter = place.adapter("adapter", 0.5);
    let (_, tensors) = read_peft(&adapter, &place.shape()).unwrap();

    let fixed = ["export", "--adapter", "adapter", "--format", "gguf", "--model", "model.gguf"];
    let said = place.run(&[&fixed[..], &["--out", "adapter.gguf"]].concat()).succeeded().stdout;

    assert!(said.contains("rank 2, alpha 4"), "{said}");
    let written = gguf_matrices(&place.path("adapter.gguf"));
    assert_eq!(written.len(), tensors.len());
    let key = LoraKey { layer: 1, target: Target::Q, factor: Factor::B };
    assert_eq!(written["blk.1.attn_q.weight.lora_b"], tensors[&key]);
    let file = GgufFile::open(&place.path("adapter.gguf")).unwrap();
    assert_eq!(file.metadata().str("general.architecture").unwrap(), "llama");
    assert_eq!(file.metadata().f32("adapter.lora.alpha").unwrap(), 4.0);
}

#[test]
fn export_writes_a_peft_folder_that_evaluates_alike() {
    let place = Place::new();
    let adapter = place.adapter("adapter", 0.5);
    let sha256 = file_sha256(&place.path("model.gguf")).unwrap();
    AdapterManifest::new(&sha256, "small").write(&adapter).unwrap();
    std::fs::write(adapter.join("metrics.jsonl"), "{}").unwrap();

    let fixed = ["export", "--adapter", "adapter", "--format", "peft"];
    place.run(&[&fixed[..], &["--out", "plain"]].concat()).succeeded();
    place.run(&[&fixed[..], &["--out", "checked", "--model", "model.gguf"]].concat()).succeeded();

    let tensors = |dir: &str| read_safetensors(&place.path(dir).join("adapter_model.safetensors"));
    assert_eq!(tensors("plain").unwrap(), tensors("adapter").unwrap());
    assert_eq!(tensors("checked").unwrap(), tensors("adapter").unwrap());
    assert!(!place.path("plain/metrics.jsonl").exists(), "only the adapter goes along");
    let ask = |dir| place.eval(&["--json", "--adapter", dir, "--no-baseline"]).json();
    assert_eq!(ask("plain")["adapter"]["log_p_answer"], ask("adapter")["adapter"]["log_p_answer"]);
}

#[test]
fn export_writes_over_nothing_unasked() {
    let place = Place::new();
    place.adapter("adapter", 0.5);
    std::fs::write(place.path("taken"), "precious").unwrap();
    let gguf = |out: &str, more: &[&str]| {
        let fixed = ["export", "--adapter", "adapter", "--format", "gguf", "--model", "model.gguf"];
        place.run(&[&fixed[..], &["--out", out], more].concat())
    };
    let peft =
        |out| place.run(&["export", "--adapter", "adapter", "--format", "peft", "--out", out]);

    gguf("taken", &[]).refused(64, &["taken", "--force"]);
    assert_eq!(std::fs::read_to_string(place.path("taken")).unwrap(), "precious");
    gguf("taken", &["--force"]).succeeded();
    gguf("model.gguf", &["--force"]).refused(64, &["model.gguf"]);
    gguf("adapter", &["--force"]).refused(64, &["adapter"]);
    gguf("no/such/folder.gguf", &[]).refused(1, &["no/such/folder.gguf"]);
    peft("adapter").refused(64, &["adapter"]);
    peft("taken").refused(64, &["is a file"]);
    peft("new").succeeded();
    peft("new").refused(64, &["--force"]);
}

#[test]
fn export_refuses_what_it_cannot_use() {
    let place = Place::new();
    let adapter = place.adapter("adapter", 0.5);
    std::fs::write(adapter.join("adapter_model.safetensors"), "torn").unwrap();
    let export = |adapter, more: &[&str]| {
        let fixed = ["export", "--adapter", adapter, "--out", "out", "--format"];
        place.run(&[&fixed[..], more].concat())
    };

    export("adapter", &["peft"]).refused(64, &["adapter_model.safetensors"]);
    export("adapter", &["gguf", "--model", "model.gguf"]).refused(64, &["damaged"]);
    export("adapter", &["gguf", "--model", "nowhere.gguf"]).refused(64, &["nowhere.gguf"]);
    export("nowhere", &["peft"]).refused(64, &["nowhere"]);
    export("adapter", &["gguf"]).misused("--model");
    export("adapter", &["onnx"]).misused("onnx");
    assert!(!place.path("out").join("adapter_model.safetensors").exists());
}

/// The tiny real model and its held-out questions.
fn tiny(file: &str) -> String {
    format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_real_model_answers_some_questions_and_a_vote_no_fewer() {
    let place = Place::new();
    let (model, tasks) = (tiny("tiny.gguf"), tiny("tiny-dev.jsonl"));
    let fixed = ["eval", "--model", &model, "--tasks", &tasks, "--json", "--limit", "60"];
    let eval = |more: &[&str]| place.run(&[&fixed[..], more].concat()).json()["base"].clone();

    let voted = eval(&["--votes", "5", "--max-new-tokens", "64"]);
    let exact = eval(&["--compute", "exact", "--max-new-tokens", "64"]);

    let accuracy = number(&voted["accuracy"]);
    assert!((0.15..0.65).contains(&accuracy), "{voted}");
    assert!(number(&voted["majority_accuracy"]) > accuracy - 0.2, "{voted}");
    assert!((number(&exact["accuracy"]) - accuracy).abs() < 0.15, "{exact} {voted}");
    assert!(number(&exact["log_p_answer"]) < 0.0);
}

#[test]
fn a_real_model_shows_its_work() {
    let place = Place::new();
    let model = tiny("tiny.gguf");

    let answer = place.run(&["ask", "--model", &model, "What is one plus five plus four?"]);

    let text = answer.succeeded().stdout;
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("The answer is ") && last.ends_with('.'), "{text}");
    let phrases = text.to_lowercase().matches("the answer is").count();
    assert_eq!(phrases, 1, "the rationale ends before the phrase: {text}");
}

#[test]
fn commands_left_out_of_a_build_name_their_feature() {
    let place = Place::new();
    let left_out = [
        ("plot", "charts", cfg!(feature = "charts")),
        ("debug", "debug", cfg!(feature = "debug")),
        ("command", "operator", cfg!(feature = "operator")),
    ];
    for (command, feature, here) in left_out {
        let help = place.run(&[command, "--help"]);
        if here {
            assert!(help.succeeded().stdout.contains(&format!("Usage: latrod {command}")));
            continue;
        }
        let parts = [&format!("no `{command}`"), &format!("without the feature {feature}")[..]];
        help.refused(64, &parts);
        place.run(&[command, "--json", "a", "-x"]).refused(64, &parts);
        assert!(!place.run(&["--help"]).succeeded().stdout.contains(&format!("  {command} ")));
    }
}
