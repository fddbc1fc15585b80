//! Damaged models: whatever is wrong with the file, the program ends in time, by itself, and with
//! a sentence if it cannot do its work.

use std::ops::Range;
use std::path::Path;
use std::{fs, thread};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::support::{Outcome, Train, fixture, latrod, repeats, text};

/// Mutants that work side by side.
const WORKERS: usize = 2;

/// The tiny model with the places where it can be hurt.
struct Sound {
    bytes: Vec<u8>,
    /// Where the tensors' data begins.
    data: usize,
    /// Where the f32 norms lie.
    norms: Vec<Range<usize>>,
}

impl Sound {
    fn read() -> Self {
        let path = fixture("tiny.gguf");
        let file = latrod::gguf::GgufFile::open(&path).unwrap();
        let places = |wanted: fn(&str) -> bool| -> Vec<Range<usize>> {
            let named = file.tensors().iter().filter(|t| wanted(&t.name));
            named
                .map(|t| {
                    let start = t.file_offset() as usize;
                    start..start + t.bytes().expect("a known type") as usize
                })
                .collect()
        };
        let data = places(|_| true).iter().map(|place| place.start).min().unwrap();
        Self { bytes: fs::read(&path).unwrap(), data, norms: places(|name| name.contains("norm")) }
    }

    /// The `i`-th damaged copy, and what was done to it.
    fn mutant(&self, i: usize) -> (Vec<u8>, String) {
        let mut rng = ChaCha8Rng::seed_from_u64(i as u64);
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        let mut bytes = self.bytes.clone();
        let what = match i % 5 {
            0 => {
                let n = below(bytes.len());
                bytes.truncate(n);
                format!("cut off at {n}")
            }
            1 => {
                let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30];
                let value = strange[below(strange.len())];
                let norm = &self.norms[below(self.norms.len())];
                let at = norm.start + 4 * below(norm.len() / 4);
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                format!("{value} in a norm, at {at}")
            }
            kind => {
                // Two of three hit the header, which is a small part of the file.
                let range = if kind == 4 { self.bytes.len() } else { self.data };
                let flips: Vec<_> = (0..=below(4)).map(|_| (below(range), below(8))).collect();
                flips.iter().for_each(|&(at, bit)| bytes[at] ^= 1 << bit);
                format!("bits flipped at {flips:?}")
            }
        };
        (bytes, format!("mutant {i}, {what}"))
    }
}

/// What the program makes of a model: mostly its logits, since that is quick.
fn try_model(i: usize, folder: &Path, model: &Path) -> Outcome {
    match (i + i / 10) % 10 {
        0 => train(&folder.join(format!("adapter-{i}")), model),
        1 => eval(model),
        odd => logits(model, if odd % 2 == 0 { "exact" } else { "fast" }),
    }
}

fn train(adapter: &Path, model: &Path) -> Outcome {
    let train = Train::quick(adapter).with("--model", text(model));
    train.with("--steps", "1").with("--eval-questions", "2").run()
}

fn eval(model: &Path) -> Outcome {
    let tasks = fixture("tiny-dev.jsonl");
    let files = ["--model", text(model), "--tasks", text(&tasks)];
    let little = ["--limit", "2", "--max-new-tokens", "24", "--threads", "1"];
    latrod(&[&["eval"], &files[..], &little].concat())
}

fn logits(model: &Path, compute: &str) -> Outcome {
    let (ids, out) = (model.with_extension("json"), model.with_extension("npy"));
    fs::write(&ids, "[[1, 20, 30, 40, 50], [2]]").unwrap();
    let files = ["--model", text(model), "--ids", text(&ids), "--out", text(&out)];
    latrod(&[&["debug", "logits", "--compute", compute], &files[..]].concat())
}

#[track_caller]
fn assert_civil(outcome: &Outcome, what: &str) {
    let Outcome { code, stderr, .. } = outcome;
    assert!([0, 1, 64].contains(code), "{what}: code {code}, {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    if *code != 0 {
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("latrod: "), "{what}: {stderr}");
    }
}

#[test]
fn damaged_models_never_break_the_program() {
    let mutants = repeats("LATROD_MUTANTS", 60);
    let folder = tempfile::tempdir().unwrap();
    let sound = Sound::read();

    let work = |worker: usize| -> [usize; 2] {
        let mut ended = [0; 2];
        for i in (worker..mutants).step_by(WORKERS) {
            let (bytes, what) = sound.mutant(i);
            let model = folder.path().join(format!("{i}.gguf"));
            fs::write(&model, bytes).unwrap();
            let outcome = try_model(i, folder.path(), &model);
            assert_civil(&outcome, &what);
            ended[usize::from(outcome.code != 0)] += 1;
            fs::remove_file(&model).unwrap();
        }
        ended
    };
    let ended: Vec<[usize; 2]> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|w| scope.spawn(move || work(w))).collect();
        workers.into_iter().map(|w| w.join().expect("no mutant broke the program")).collect()
    });

    let sum = |i: usize| ended.iter().map(|e| e[i]).sum::<usize>();
    println!("{mutants} mutants: {} went through, {} were refused", sum(0), sum(1));
}

#[test]
fn a_model_of_nans_does_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut sound = Sound::read();
    let norm = sound.norms[0].clone();
    for value in sound.bytes[norm].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let model = folder.path().join("nan.gguf");
    fs::write(&model, &sound.bytes).unwrap();

    for outcome in [train(&folder.path().join("adapter"), &model), eval(&model)] {
        assert_civil(&outcome, "NaN in a norm");
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("logits that are not numbers"), "{}", outcome.stderr);
    }
}

/// The tiny model with the bytes after `before` replaced.
fn patched(before: &[u8], skip: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = fs::read(fixture("tiny.gguf")).unwrap();
    let found = bytes.windows(before.len()).position(|w| w == before).expect("it is there");
    let at = found + before.len() + skip;
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn models_that_cannot_be_trained_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    // After the key: its type (u32), the length of the text (u64). After a tensor's name: the
    // number of dimensions (u32), the two dimensions (u64), then the type.
    let architecture = patched(b"general.architecture", 4 + 8, b"mamba");
    let iq4_nl = patched(b"blk.0.attn_q.weight", 4 + 16, &20u32.to_le_bytes());
    let unknown = patched(b"blk.0.attn_q.weight", 4 + 16, &4711u32.to_le_bytes());
    for (bytes, named) in [(architecture, "mamba"), (iq4_nl, "IQ4_NL"), (unknown, "4711")] {
        fs::write(&model, bytes).unwrap();

        for outcome in [train(&folder.path().join("adapter"), &model), eval(&model)] {
            outcome.refused(64, &[text(&model), named]);
        }
    }
}
