//! Every family on both engines: against candle-transformers' models, each other and finite differences.

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2};

use super::candle::CandleEngine;
use super::cpu::CpuEngine;
use super::device::DeviceKind;
use super::interrupt::Interrupt;
use super::{Engine, Input};
use crate::arch::FAMILIES;
use crate::arch::lora::{LoraTensors, zeros_like};
use crate::gguf::GgufFile;
use crate::gguf::fixture::{GgufBytes, small_in_f32};
use crate::kernels::{Compute, Floats};
use crate::latro::learner::LearnerState;
use crate::latro::log_prob::{Forward, score};
use crate::latro::settings::TrainSettings;
use crate::latro::tree::{Branch, Tree};
use crate::ops::check::numbers;

const TOKENS: [u32; 9] = [1, 17, 3, 3, 30, 8, 25, 0, 12];
/// At which rationales are as if they were sampled.
const TEMPERATURE: f32 = 0.7;

fn load<E: Engine>(model: &GgufBytes, device: DeviceKind) -> E {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, model.build()).unwrap();
    E::load(&GgufFile::open(&path).unwrap(), Compute::Exact, device).unwrap()
}

/// The logits behind the last of `tokens`.
fn logits(engine: &impl Engine, tokens: &[u32]) -> Vec<f32> {
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let input = Input::causal(tokens, &positions);
    let hidden = engine.hidden(input, None, None, &Interrupt::new()).unwrap();
    let mut logits = Floats::default();
    engine.logits(&hidden, &[tokens.len() - 1], &mut logits).unwrap();
    logits.to_vec()
}

/// The same from candle-transformers, which shares no code with the engines but candle's tensors.
fn oracle(family: &str, model: &GgufBytes, tokens: &[u32]) -> Vec<f32> {
    let mut file = Cursor::new(model.build());
    let content = Content::read(&mut file).unwrap();
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = match family {
        "llama" => {
            let model = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
            model.unwrap().forward(&tokens, 0)
        }
        "qwen2" => {
            let model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
            model.unwrap().forward(&tokens, 0)
        }
        other => panic!("no oracle for {other}"),
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(got: &[f32], wanted: &[f32], most: f32, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0f32, |m, w| m.max(w.abs()));
    for (g, w) in got.iter().zip(wanted) {
        assert!((g - w).abs() <= most * largest, "{what}: {g} is not {w}");
    }
}

#[test]
fn every_family_agrees_with_candle_transformers() {
    for family in FAMILIES {
        let model = small_in_f32(family.name);
        let wanted = oracle(family.name, &model, &TOKENS);

        let cpu: CpuEngine = load(&model, DeviceKind::Cpu);
        let candle: CandleEngine = load(&model, DeviceKind::Candle);

        assert_eq!(cpu.spec().family, family);
        close(&logits(&cpu, &TOKENS), &wanted, 1e-5, family.name);
        close(&logits(&candle, &TOKENS), &wanted, 1e-5, family.name);
    }
}

/// An adapter on every layer, whose factors are all far from 0.
fn factors(engine: &impl Engine) -> LoraTensors {
    let settings = TrainSettings { rank: 2, ..TrainSettings::edge() };
    let mut tensors = LearnerState::fresh(engine.spec(), &settings).params;
    for (seed, matrix) in tensors.values_mut().enumerate() {
        matrix.data = numbers(matrix.data.len(), seed as u64);
    }
    tensors
}

fn tree() -> Tree {
    let (long, answer) = ([4, 9, 16, 2], [7, 21]);
    let branch = |rationale, stop| Branch { rationale, stop, answer: &answer };
    Tree::new(&TOKENS, [branch(&long, Some(3)), branch(&long[1..2], None)]).tempered(TEMPERATURE)
}

/// Σ cᵢ · log p(target i), and its gradient by the engine's backward pass.
fn objective<E: Engine>(
    engine: &E,
    tensors: &LoraTensors,
    with_gradient: bool,
) -> (f64, LoraTensors) {
    let (tree, interrupt) = (tree(), Interrupt::new());
    let coefficients = numbers(tree.targets.len(), 5);
    let adapter = engine.adapter(tensors, 0.5).unwrap();
    let value = |log_p: &[f32]| {
        log_p.iter().zip(&coefficients).map(|(p, c)| f64::from(*p) * f64::from(*c)).sum()
    };
    let mut sums = zeros_like(tensors);
    if !with_gradient {
        let scores = score(engine, Some(&adapter), &tree, &interrupt).unwrap();
        return (value(&scores.log_p), sums);
    }
    let forward = Forward::new(engine, &adapter, &tree, &interrupt).unwrap();
    let value = value(&forward.scores().log_p);
    forward.backward(engine, &adapter, &tree, &coefficients, &mut sums, &interrupt).unwrap();
    (value, sums)
}

/// Along a random direction in each factor: what the whole backward pass says, and central
/// differences of the forward pass.
fn check_gradients<E: Engine>(engine: &E, what: &str) {
    let tensors = factors(engine);
    let (_, gradients) = objective(engine, &tensors, true);
    for (seed, (key, gradient)) in gradients.iter().enumerate() {
        let direction = numbers(gradient.data.len(), 1000 + seed as u64);
        let h = 2e-3;
        let moved = |by: f32| {
            let mut tensors = tensors.clone();
            let data = &mut tensors.get_mut(key).unwrap().data;
            data.iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
            objective(engine, &tensors, false).0
        };
        let numeric = (moved(h) - moved(-h)) / f64::from(2.0 * h);
        let pairs = gradient.data.iter().zip(&direction);
        let analytic: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let error = (analytic - numeric).abs();
        assert!(error <= 2e-2 * (numeric.abs() + 0.05), "{what} {key:?}: {analytic} {numeric}");
    }
}

#[test]
fn every_familys_gradients_agree_with_finite_differences() {
    for family in FAMILIES {
        let model = small_in_f32(family.name);
        check_gradients::<CpuEngine>(&load(&model, DeviceKind::Cpu), family.name);
        check_gradients::<CandleEngine>(&load(&model, DeviceKind::Candle), family.name);
    }
}

/// Of the rationale's tokens at its temperature, and of the answer's at 1.
fn check_temperature<E: Engine>(engine: &E, what: &str) {
    let Tree { targets, branches, .. } = tree();
    let scores = score(engine, None, &tree(), &Interrupt::new()).unwrap().log_p;
    let span = &branches[0];
    let mut tokens = TOKENS.to_vec();
    // The stop is predicted where the answer follows.
    let spoken = span.rationale.clone().take(span.rationale.len() - 1).chain(span.answer.clone());
    for i in spoken {
        let scale = if span.rationale.contains(&i) { 1.0 / TEMPERATURE } else { 1.0 };
        let logits: Vec<f64> =
            logits(engine, &tokens).iter().map(|l| f64::from(*l * scale)).collect();
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        let wanted = logits[targets[i] as usize] - sum.ln();
        let error = (f64::from(scores[i]) - wanted).abs();
        assert!(error < 1e-4, "{what} {i}: {} is not {wanted}", scores[i]);
        tokens.push(targets[i]);
    }
}

#[test]
fn the_policy_at_a_temperature_is_the_softmax_of_divided_logits() {
    for family in FAMILIES {
        let model = small_in_f32(family.name);
        check_temperature::<CpuEngine>(&load(&model, DeviceKind::Cpu), family.name);
        check_temperature::<CandleEngine>(&load(&model, DeviceKind::Candle), family.name);
    }
}
