use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::engine::cpu::CpuEngine;
use crate::engine::cpu::adapter::PackedAdapter;
use crate::engine::device::DeviceKind;
use crate::gguf::GgufFile;
use crate::kernels::Compute;
use crate::latro::learner::LearnerState;
use crate::latro::sampling::sampler::{stream, uniform};
use crate::latro::settings::TrainSettings;
use crate::ops::check;
use crate::text::{TextFormat, Wording};

fn tiny() -> (CpuEngine, Prompter) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
    let file = GgufFile::open(&path).unwrap();
    let model = CpuEngine::load(&file, Compute::Exact, DeviceKind::Cpu).unwrap();
    (model, Prompter::new(TextFormat::from_gguf(&file).unwrap(), Wording::default()).unwrap())
}

/// A fresh adapter whose B is not zero any more.
fn moved(model: &CpuEngine, by: f32) -> PackedAdapter {
    let settings = TrainSettings { rank: 4, ..TrainSettings::default() };
    let mut tensors = LearnerState::fresh(model.spec(), &settings).params;
    let mut rng = stream(7, 0, 0, 0);
    for matrix in tensors.values_mut() {
        let noise = |x: &mut f32| *x += by * (uniform(&mut rng) as f32 - 0.5);
        matrix.data.iter_mut().for_each(noise);
    }
    model.adapter(&tensors, 2.0).unwrap()
}

/// Logits of every row, `[tokens][vocabulary]`, by one product over all rows.
fn all_logits(model: &CpuEngine, lora: Option<&PackedAdapter>, ids: &[u32]) -> Vec<Vec<f32>> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let hidden = model.hidden(Input::causal(ids, &positions), None, lora, &Interrupt::new());
    let rows: Vec<usize> = (0..ids.len()).collect();
    let mut logits = Floats::default();
    model.logits(&hidden.unwrap(), &rows, &mut logits).unwrap();
    logits.chunks(model.spec().vocab).map(<[f32]>::to_vec).collect()
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let exp: Vec<f64> = logits.iter().map(|l| f64::from(*l).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

#[test]
fn kl_agrees_with_plain_softmax_in_f64_over_several_chunks() {
    let (model, prompter) = tiny();
    let adapter = moved(&model, 0.3);
    let text = GeneralText {
        prompt: Some("What is one plus two?".into()),
        text: "Zoe has ten beads and finds three more. ".repeat(6),
    };
    let tokens = GeneralTokens::of(&text, &prompter, 400).unwrap().unwrap();
    assert!(tokens.predicted() > 2 * CHUNK_ROWS, "{}", tokens.predicted());

    let sum = text_kl(&model, &adapter, &tokens, &Interrupt::new()).unwrap();

    let base = all_logits(&model, None, tokens.ids());
    let adapted = all_logits(&model, Some(&adapter), tokens.ids());
    let rows = tokens.given - 1..tokens.ids().len() - 1;
    let plain: f64 = rows
        .map(|row| {
            let (p, q) = (softmax(&base[row]), softmax(&adapted[row]));
            p.iter().zip(&q).map(|(p, q)| p * (p.ln() - q.ln())).sum::<f64>()
        })
        .sum();
    assert!(plain > 0.1, "the adapter does something: {plain}");
    assert!((sum - plain).abs() < 1e-4 * plain, "{sum} {plain}");
}

#[test]
fn an_adapter_that_changes_nothing_is_at_no_distance() {
    let (model, prompter) = tiny();
    let adapter = moved(&model, 0.0);
    let text = GeneralText { prompt: None, text: "one plus two".into() };
    let tokens = GeneralTokens::of(&text, &prompter, 400).unwrap().unwrap();

    let sum = text_kl(&model, &adapter, &tokens, &Interrupt::new()).unwrap();

    assert!((0.0..1e-9).contains(&sum), "{sum}");
}

#[test]
fn it_stops_when_asked_and_notices_what_is_no_number() {
    let (model, prompter) = tiny();
    let text = GeneralText { prompt: None, text: "one plus two".into() };
    let tokens = GeneralTokens::of(&text, &prompter, 400).unwrap().unwrap();
    let stop = Interrupt::new();
    stop.set();

    let stopped = text_kl(&model, &moved(&model, 0.1), &tokens, &stop);
    let broken = moved(&model, f32::NAN);
    let broken = text_kl(&model, &broken, &tokens, &Interrupt::new());

    assert!(matches!(stopped, Err(ModelError::Interrupted)), "{stopped:?}");
    assert!(matches!(broken, Err(ModelError::NonFinite { .. })), "{broken:?}");
}

#[test]
fn distances_of_distributions_agree_with_f64() {
    let p = check::numbers(100, 1);
    let q: Vec<f32> = check::numbers(100, 2).iter().map(|x| x * 3.0 + 40.0).collect();
    let plain: f64 = softmax(&p).iter().zip(softmax(&q)).map(|(p, q)| p * (p / q).ln()).sum();

    assert!((kl(&p, &q) - plain).abs() < 1e-12, "{} {plain}", kl(&p, &q));
    assert_eq!(kl(&p, &p), 0.0);
    assert!(kl(&[f32::NAN, 0.0], &[0.0, 0.0]).is_nan());
}

#[test]
fn the_built_in_texts_are_of_several_kinds_and_all_different() {
    let texts = built_in();

    assert_eq!(texts.len(), 40);
    assert_eq!(texts.iter().filter(|t| t.prompt.is_some()).count(), 12);
    let different: BTreeMap<&str, ()> = texts.iter().map(|t| (t.text.as_str(), ())).collect();
    assert_eq!(different.len(), texts.len());
    let (_, prompter) = tiny();
    for text in &texts {
        let tokens = GeneralTokens::of(text, &prompter, 4096).unwrap().unwrap();
        assert!(tokens.predicted() >= 8, "{text:?}");
    }
}

#[test]
fn bad_lines_are_named_by_number_without_their_text() {
    let (line, reason) = parse("{\"text\": \"a\"}\n\n{\"txt\": \"secret\"}\n").unwrap_err();
    assert_eq!(line, 3);
    assert!(!reason.contains("secret"), "{reason}");

    assert_eq!(parse("\n").unwrap_err().0, 0);
    let many = "{\"text\": \"a\"}\n".repeat(MAX_TEXTS + 1);
    assert_eq!(parse(&many).unwrap_err().0, MAX_TEXTS + 1);
}

#[test]
fn a_text_is_cut_to_the_context_and_nothing_left_is_nothing() {
    let (_, prompter) = tiny();
    let text = GeneralText { prompt: Some("one".into()), text: "two three four five".into() };
    let given = prompter.prompt("one").unwrap().len();

    assert_eq!(GeneralTokens::of(&text, &prompter, given).unwrap(), None);
    let cut = GeneralTokens::of(&text, &prompter, given + 2).unwrap().unwrap();
    assert_eq!(cut.predicted(), 2);
    let long = GeneralText { prompt: None, text: "a ".repeat(9000) };
    assert!(GeneralTokens::of(&long, &prompter, 1 << 20).unwrap().unwrap().ids().len() <= 257);
}

#[test]
fn means_are_over_tokens() {
    let forget = summarize(&[(1.0, 10), (3.0, 10), (0.0, 20)]).unwrap();

    assert_eq!((forget.kl_nats_per_token, forget.worst_text_nats_per_token), (0.1, 0.3));
    assert_eq!((forget.texts, forget.tokens), (3, 40));
    assert_eq!(summarize(&[]), None);
}
