use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::answer::AnswerKind;
use crate::data::{Task, TaskLimits, read_tasks};
use crate::engine::Engine;
use crate::engine::cpu::CpuEngine;
use crate::engine::cpu::adapter::PackedAdapter;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::gguf::GgufFile;
use crate::latro::learner::LearnerState;
use crate::latro::prompt::Prompter;
use crate::latro::sampling::sampler::{stream, uniform};
use crate::latro::settings::TrainSettings;
use crate::promotion::evaluate::evaluate;
use crate::promotion::forget::GeneralTokens;
use crate::promotion::gate::{Decision, GateSettings, Verdict, decide};
use crate::text::{TextFormat, Wording};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The tiny model, a few of its held-out questions and adapters.
struct Bench {
    model: CpuEngine,
    prompter: Prompter,
    questions: Vec<Task>,
    texts: Vec<GeneralTokens>,
    candidate: PackedAdapter,
    temp: TempDir,
}

const QUESTIONS: usize = 5;
const BATCH: usize = 2;

impl Bench {
    fn new() -> Self {
        let file = GgufFile::open(&fixture("tiny.gguf")).unwrap();
        let model = CpuEngine::load(&file, Compute::Exact, DeviceKind::Cpu).unwrap();
        let prompter =
            Prompter::new(TextFormat::from_gguf(&file).unwrap(), Wording::default()).unwrap();
        let tasks = read_tasks(&fixture("tiny-dev.jsonl"), &TaskLimits::default()).unwrap().tasks;
        let texts = forget::built_in()
            .iter()
            .take(3)
            .filter_map(|text| GeneralTokens::of(text, &prompter, 64).unwrap())
            .collect();
        let candidate = adapter(&model, 0.2);
        let questions = tasks[..QUESTIONS].to_vec();
        Self { model, prompter, questions, texts, candidate, temp: tempfile::tempdir().unwrap() }
    }

    fn comparison<'a>(&'a self, interrupt: &'a Interrupt) -> Comparison<'a, CpuEngine> {
        let settings = EvalSettings {
            think: true,
            forced: false,
            answer_kind: AnswerKind::Auto,
            max_new_tokens: 6,
            batch: BATCH,
            votes: 0,
            temperature: 1.0,
            seed: 0,
        };
        Comparison {
            model: &self.model,
            prompter: &self.prompter,
            baseline: None,
            candidate: &self.candidate,
            questions: &self.questions,
            texts: &self.texts,
            settings,
            interrupt,
        }
    }

    fn kept(&self) -> PathBuf {
        self.temp.path().join("training/comparison.jsonl")
    }

    /// Compares, and asks to stop once `stop_after` pieces of work are done.
    fn run(&self, stop_after: u64) -> Result<(Paired, u64), SessionError> {
        let (interrupt, first) = (Interrupt::new(), Cell::new(None));
        let watch = |done, _| {
            first.set(first.get().or(Some(done)));
            if done >= stop_after {
                interrupt.set();
            }
        };
        let paired = compare(&self.comparison(&interrupt), &hashes("c0"), &self.kept(), watch)?;
        Ok((paired, first.get().unwrap()))
    }
}

fn hashes(candidate: &str) -> Hashes {
    Hashes { base: "ba5e".into(), baseline: None, candidate: candidate.into() }
}

fn adapter(model: &CpuEngine, by: f32) -> PackedAdapter {
    let settings = TrainSettings { rank: 4, ..TrainSettings::default() };
    let mut tensors = LearnerState::fresh(model.spec(), &settings).params;
    let mut rng = stream(7, 0, 0, 0);
    for matrix in tensors.values_mut() {
        matrix.data.iter_mut().for_each(|x| *x += by * (uniform(&mut rng) as f32 - 0.5));
    }
    model.adapter(&tensors, 2.0).unwrap()
}

const ALL: u64 = 2 * QUESTIONS as u64 + 3;

#[test]
fn a_stopped_comparison_goes_on_with_the_same_numbers() {
    let bench = Bench::new();
    let (whole, _) = bench.run(u64::MAX).unwrap();
    let text = fs::read(bench.kept()).unwrap();
    fs::remove_file(bench.kept()).unwrap();

    for stop_after in [1, 5, 10] {
        let error = bench.run(stop_after).unwrap_err();
        assert!(error.is_interrupted(), "{error}");
    }
    let (resumed, begun) = bench.run(u64::MAX).unwrap();

    assert_eq!(resumed, whole);
    assert_eq!(fs::read(bench.kept()).unwrap(), text);
    assert!((10..ALL).contains(&begun), "{begun} were done before");
    let (again, begun) = bench.run(u64::MAX).unwrap();
    assert_eq!((again, begun), (whole, ALL), "nothing is computed twice");
}

#[test]
fn the_numbers_are_those_of_plain_evaluations() {
    let bench = Bench::new();
    let interrupt = Interrupt::new();
    let comparison = bench.comparison(&interrupt);

    let (paired, _) = bench.run(u64::MAX).unwrap();

    let ask = |lora| {
        let policy = crate::latro::sampling::generate::Policy {
            model: &bench.model,
            lora,
            interrupt: &interrupt,
        };
        let settings = comparison.settings;
        evaluate(policy, &bench.prompter, &bench.questions, settings, |_| {}).unwrap()
    };
    let (base, tuned) = (ask(None), ask(Some(&bench.candidate)));
    assert_eq!(paired.questions.len(), QUESTIONS);
    for ((pair, base), tuned) in paired.questions.iter().zip(&base).zip(&tuned) {
        assert_eq!((pair.baseline.correct, pair.candidate.correct), (base.correct, tuned.correct));
        assert_eq!(pair.baseline.log_p_answer, base.log_p_answer);
        assert_eq!(pair.candidate.log_p_answer, tuned.log_p_answer);
        assert_ne!(base.log_p_answer, tuned.log_p_answer, "the adapter does something");
    }
    let forget = paired.forget.unwrap();
    assert!(forget.texts == 3 && forget.kl_nats_per_token > 0.0, "{forget:?}");
}

#[test]
fn whatever_a_kill_or_a_bad_disk_leaves_of_the_file_the_result_is_the_same() {
    let bench = Bench::new();
    let (whole, _) = bench.run(u64::MAX).unwrap();
    let good = fs::read(bench.kept()).unwrap();
    let lines: Vec<usize> = (0..good.len()).filter(|i| good[*i] == b'\n').collect();

    let mut cases: Vec<Vec<u8>> =
        [1, lines[0], lines[3] + 1, good.len() - 1].map(|length| good[..length].to_vec()).into();
    let mut garbled = good.clone();
    garbled[lines[2] + 2] = b'#';
    cases.push(garbled);
    cases.push([b"\xff\xfe{}\n".as_slice(), &good].concat());
    for bytes in cases {
        fs::write(bench.kept(), &bytes).unwrap();

        assert_eq!(bench.run(u64::MAX).unwrap().0, whole, "{} bytes", bytes.len());
        assert_eq!(fs::read(bench.kept()).unwrap(), good);
    }
}

#[test]
fn results_of_another_comparison_are_not_taken() {
    let bench = Bench::new();
    bench.run(u64::MAX).unwrap();
    let interrupt = Interrupt::new();
    let begun = |comparison: &Comparison<'_, CpuEngine>, hashes: &Hashes| {
        let (interrupt, first) = (comparison.interrupt, Cell::new(None));
        let watch = |done, _| {
            first.set(first.get().or(Some(done)));
            interrupt.set();
        };
        let _ = compare(comparison, hashes, &bench.kept(), watch);
        first.get().unwrap()
    };
    let comparison = bench.comparison(&interrupt);
    assert_eq!(begun(&comparison, &hashes("c0")), ALL);

    let longer = EvalSettings { max_new_tokens: 7, ..comparison.settings };
    let fewer = &bench.questions[..QUESTIONS - 1];
    let baseline = Hashes { baseline: Some("aa".into()), ..hashes("c0") };
    let others = [
        begun(&comparison, &hashes("c1")),
        begun(&comparison, &baseline),
        begun(&Comparison { settings: longer, ..comparison }, &hashes("c0")),
        begun(&Comparison { questions: fewer, ..comparison }, &hashes("c0")),
        begun(&Comparison { texts: &bench.texts[..2], ..comparison }, &hashes("c0")),
    ];

    assert_eq!(others, [0; 5]);
}

#[test]
fn the_file_holds_no_text_of_a_task() {
    let mut bench = Bench::new();
    bench.questions[0].question += " Canary one?";
    bench.questions[1].answer = "canary".into();

    bench.run(u64::MAX).unwrap();

    let kept = fs::read_to_string(bench.kept()).unwrap().to_lowercase();
    assert!(!kept.contains("canary") && !kept.contains("plus"), "{kept}");
}

#[test]
fn a_candidate_that_computes_no_numbers_is_compared_and_rejected() {
    let mut bench = Bench::new();
    bench.candidate = adapter(&bench.model, f32::NAN);

    let (paired, _) = bench.run(u64::MAX).unwrap();
    let (again, begun) = bench.run(u64::MAX).unwrap();

    assert_eq!(begun, ALL);
    let settings = GateSettings { min_questions: 2, ..GateSettings::default() };
    for paired in [paired, again] {
        let Decision { verdict, .. } = decide(&settings, &paired);
        assert_eq!(verdict, Verdict::Reject);
        assert!(paired.questions.iter().all(|q| q.baseline.log_p_answer.is_finite()));
        assert_eq!(paired.forget, None);
    }
}

#[test]
fn general_prompts_come_from_a_file_or_are_built_in() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("general.jsonl");

    assert_eq!(general_texts(Path::new("")).unwrap(), forget::built_in());
    fs::write(&path, "{\"text\": \"one\"}\n{\"prompt\": \"two?\", \"text\": \"three\"}\n").unwrap();
    assert_eq!(general_texts(&path).unwrap().len(), 2);
    fs::write(&path, "{\"text\": \"one\"}\ncanary\n").unwrap();
    let error = general_texts(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("canary"), "{error}");
    fs::write(&path, b"\xff").unwrap();
    assert!(general_texts(&path).unwrap_err().to_string().contains("UTF-8"));
    assert!(general_texts(&temp.path().join("absent")).is_err());
}
