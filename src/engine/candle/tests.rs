//! The whole model on candle's CPU device against the one of this program's own kernels.

use std::path::Path;

use crate::arch::lora::{LoraTensors, zeros_like};
use crate::data::Task;
use crate::engine::candle::CandleEngine;
use crate::engine::candle::ops::tensor::check::{close, numbers};
use crate::engine::cpu::CpuEngine;
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, Input, ModelError};
use crate::gguf::GgufFile;
use crate::kernels::{Compute, Floats};
use crate::latro::learner::{Learner, LearnerState};
use crate::latro::log_prob::{Forward, score};
use crate::latro::metrics::StepMetrics;
use crate::latro::prompt::Prompter;
use crate::latro::settings::TrainSettings;
use crate::latro::tree::{Branch, Tree};
use crate::ops::head::TokenScores;
use crate::text::{TextFormat, Wording};

fn file() -> GgufFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
    GgufFile::open(&path).unwrap()
}

/// The tiny model on the CPU and on candle's.
fn engines(compute: Compute) -> (CpuEngine, CandleEngine) {
    let file = file();
    let cpu = CpuEngine::load(&file, compute, DeviceKind::Cpu).unwrap();
    (cpu, CandleEngine::load(&file, compute, DeviceKind::Candle).unwrap())
}

/// An adapter whose factors are all far from 0.
fn factors(engine: &impl Engine) -> LoraTensors {
    let settings = TrainSettings { rank: 4, ..TrainSettings::edge() };
    let mut tensors = LearnerState::fresh(engine.spec(), &settings).params;
    for (seed, matrix) in tensors.values_mut().enumerate() {
        let moved = numbers(matrix.data.len(), seed as u64);
        matrix.data.iter_mut().zip(moved).for_each(|(x, y)| *x += 0.1 * y);
    }
    tensors
}

/// A prompt with branches of different lengths, one of them without a rationale.
fn tree() -> Tree {
    let prompt: Vec<u32> = (5..45).collect();
    let (long, answer): (Vec<u32>, _) = ((50..110).collect(), [7, 8, 9]);
    let branch = |rationale, stop| Branch { rationale, stop, answer: &answer };
    Tree::new(&prompt, [branch(&long, Some(3)), branch(&long[3..9], None), branch(&[], None)])
}

fn logits(engine: &impl Engine) -> Floats {
    let tokens: Vec<u32> = (5..75).collect();
    let positions: Vec<u32> = (0..70).collect();
    let adapter = engine.adapter(&factors(engine), 2.0).unwrap();
    let input = Input::causal(&tokens, &positions);
    let hidden = engine.hidden(input, None, Some(&adapter), &Interrupt::new()).unwrap();
    let mut logits = Floats::default();
    engine.logits(&hidden, &[0, 3, 69], &mut logits).unwrap();
    logits
}

#[test]
fn logits_agree_in_exact_mode_and_are_near_in_fast_mode() {
    for (compute, most) in [(Compute::Exact, 1e-4), (Compute::Fast, 5e-2)] {
        let (cpu, candle) = engines(compute);

        close(&logits(&candle), &logits(&cpu), most);
    }
}

/// Scores without and with an adapter, and the gradient of its factors.
fn scores_and_gradients(engine: &impl Engine) -> (TokenScores, TokenScores, LoraTensors) {
    let (tree, interrupt) = (tree(), Interrupt::new());
    let coefficients = numbers(tree.targets.len(), 3);
    let tensors = factors(engine);
    let adapter = engine.adapter(&tensors, 2.0).unwrap();
    let reference = score(engine, None, &tree, &interrupt).unwrap();
    let forward = Forward::new(engine, &adapter, &tree, &interrupt).unwrap();
    let policy = forward.scores().clone();
    let mut sums = zeros_like(&tensors);
    forward.backward(engine, &adapter, &tree, &coefficients, &mut sums, &interrupt).unwrap();
    (reference, policy, sums)
}

#[test]
fn scores_and_all_gradients_of_a_tree_agree() {
    let (cpu, candle) = engines(Compute::Exact);

    let (wanted, got) = (scores_and_gradients(&cpu), scores_and_gradients(&candle));

    close(&got.0.log_p, &wanted.0.log_p, 1e-4);
    close(&got.0.entropy, &wanted.0.entropy, 1e-4);
    close(&got.1.log_p, &wanted.1.log_p, 1e-4);
    assert_eq!(got.2.len(), wanted.2.len());
    for ((key, sum), wanted) in got.2.iter().zip(wanted.2.values()) {
        assert!(wanted.data.iter().any(|x| x.abs() > 1e-3), "{key:?} has a gradient");
        close(&sum.data, &wanted.data, 1e-4);
    }
}

/// The metrics of two steps.
fn steps(engine: &impl Engine) -> Vec<StepMetrics> {
    let prompter =
        Prompter::new(TextFormat::from_gguf(&file()).unwrap(), Wording::default()).unwrap();
    let settings = TrainSettings {
        num_generations: 4,
        max_new_tokens: 12,
        skip_flat: false,
        ..TrainSettings::edge()
    };
    let task = |question: &str, answer: &str| Task::new(question.into(), answer.into());
    let tasks = [task("one plus two", "three"), task("two plus two", "four")];
    let interrupt = Interrupt::new();
    let mut learner = Learner {
        state: LearnerState::fresh(engine.spec(), &settings),
        model: engine,
        prompter: &prompter,
        settings: &settings,
        batch: 8,
        interrupt: &interrupt,
    };
    let step = |_| {
        let sampled = learner.sample(&tasks, |_| {}).unwrap();
        learner.update(&sampled).unwrap()
    };
    (0..2).map(step).collect()
}

#[test]
fn a_step_has_the_same_metrics() {
    let (cpu, candle) = engines(Compute::Exact);

    let (wanted, got) = (steps(&cpu), steps(&candle));

    for (got, wanted) in got.iter().zip(&wanted) {
        let numbers = |m: &StepMetrics| {
            [m.reward, m.log_p_answer, m.entropy, m.grad_norm, m.parameter_norm].map(|x| x as f32)
        };
        assert_eq!(got.rationale_tokens, wanted.rationale_tokens);
        for (got, wanted) in numbers(got).iter().zip(numbers(wanted)) {
            close(&[*got], &[wanted], 1e-3);
        }
    }
}

#[test]
fn it_stops_when_asked_and_refuses_foreign_tokens() {
    let (_, engine) = engines(Compute::Exact);
    let stop = Interrupt::new();
    stop.set();

    let stopped = score(&engine, None, &tree(), &stop).unwrap_err();
    let foreign = Input::causal(&[u32::MAX], &[0]);
    let foreign = engine.hidden(foreign, None, None, &Interrupt::new()).unwrap_err();

    assert!(matches!(stopped, ModelError::Interrupted), "{stopped}");
    assert!(matches!(foreign, ModelError::Token { .. }), "{foreign}");
}

#[test]
fn a_device_that_the_build_lacks_is_refused_in_a_sentence() {
    if DeviceKind::Cuda.is_built_in() {
        return;
    }

    let error = CandleEngine::load(&file(), Compute::Exact, DeviceKind::Cuda).unwrap_err();

    assert!(error.to_string().contains("build with --features cuda"), "{error}");
}
