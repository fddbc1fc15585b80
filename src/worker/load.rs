//! The model: looked at, weighed against the memory there is, identified and loaded.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::hash::{Stamp, sha256};
use super::protocol::{Failure, FailureKind, Loaded, PlanMib, Setup};
use crate::arch::spec::ModelSpec;
use crate::engine::Engine;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::gguf::{GgmlType, GgufFile, printable};
use crate::kernels::threads;
use crate::latro::prompt::Prompter;
use crate::latro::settings::TrainSettings;
use crate::memory::{Limit, Needs};
use crate::session::Questions;
use crate::text::TextFormat;

/// Tokens of an answer with its phrase, for the plan before the tasks are known.
const ANSWER_TOKENS: usize = 32;

/// A loaded model with what jobs must know of it.
pub struct Model<E> {
    path: PathBuf,
    stamp: Stamp,
    pub engine: E,
    pub prompter: Prompter,
    pub sha256: String,
    pub weights: WeightBytes,
    /// Threads that compute.
    pub threads: usize,
    /// How rows are cut, as planned.
    pub row_chunks: RowChunks,
    /// Rationales sampled together, at most.
    pub batch: usize,
    pub limit: Limit,
}

/// Loads the model, on the pool of threads that it makes for this process.
///
/// # Errors
/// [`FailureKind::Settings`], [`FailureKind::Model`], [`FailureKind::ModelChanged`] and
/// [`FailureKind::Memory`]; for the last before a weight is read.
pub fn load<E: Engine>(setup: &Setup) -> Result<(Model<E>, Loaded), Failure> {
    let start = Instant::now();
    setup.settings.validate().map_err(|e| Failure::new(FailureKind::Settings, e.join("; ")))?;
    let path = &setup.model;
    let stamp = Stamp::of(path).map_err(|error| unreadable(path, &error))?;
    let file = GgufFile::open(path)?;
    let spec = ModelSpec::from_gguf(&file).map_err(|e| Failure::new(FailureKind::Model, e))?;
    let weights = WeightBytes::of(&file);
    let threads = threads::start(setup.threads);
    let mut needs = Needs {
        device: setup.device,
        spec: &spec,
        weights,
        threads,
        compute: setup.compute,
        row_chunks: RowChunks::default(),
        settings: &setup.settings,
        prompt_tokens: setup.prompt_tokens.min(spec.context_length),
        answer_tokens: ANSWER_TOKENS,
    };
    let limit = Limit::find(setup.memory_limit_mib, Path::new("/"));
    let (batch, plan) = needs.fit_row_chunks(setup.batch, limit)?;
    let sha256 = sha256(&file, stamp, setup.hash_cache.as_deref())?;
    check_expected(setup, &sha256)?;
    let mut engine = E::load(&file, setup.compute, setup.device)?;
    let row_chunks = needs.row_chunks;
    engine.set_row_chunks(row_chunks);
    let prompter = Prompter::new(TextFormat::from_gguf(&file)?, setup.settings.wording())?;
    let loaded = Loaded {
        sha256: sha256.clone(),
        threads,
        batch,
        plan: PlanMib::from(&plan),
        limit_mib: limit.bytes >> 20,
        load_s: start.elapsed().as_secs_f64(),
        ..described(setup, &file, &spec)?
    };
    let model = Model {
        path: path.clone(),
        stamp,
        engine,
        prompter,
        sha256,
        weights,
        threads,
        row_chunks,
        batch,
        limit,
    };
    model.check_unchanged()?;
    Ok((model, loaded))
}

/// Refuses a model other than the one that the daemon knows.
fn check_expected(setup: &Setup, sha256: &str) -> Result<(), Failure> {
    match &setup.expected_sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(sha256) => Err(Failure::new(
            FailureKind::ModelChanged,
            format!(
                "{} is another model than before (sha256 {sha256}, expected {expected}); put the \
                 old file back, or start over with this one",
                setup.model.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// What the model's file says of it. What only loading shows is left at its default.
fn described(setup: &Setup, file: &GgufFile, spec: &ModelSpec) -> Result<Loaded, Failure> {
    Ok(Loaded {
        file: setup.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        name: file.metadata().opt_str("general.name")?.map(printable),
        sha256: String::new(),
        architecture: spec.family.name.into(),
        quantization: quantization(file),
        file_bytes: file.file_len(),
        tensors: file.tensors().len(),
        parameters: file.tensors().iter().map(|t| t.elements() as u64).sum(),
        layers: spec.layers,
        hidden: spec.hidden,
        vocab: spec.vocab,
        context_length: spec.context_length,
        compute: setup.compute,
        device: setup.device,
        threads: 0,
        batch: 0,
        plan: PlanMib::default(),
        limit_mib: 0,
        load_s: 0.0,
    })
}

impl<E: Engine> Model<E> {
    /// What a run with these settings and questions needs of memory.
    pub fn needs<'a>(&'a self, settings: &'a TrainSettings, questions: &Questions) -> Needs<'a> {
        Needs {
            device: self.engine.device(),
            spec: self.engine.spec(),
            weights: self.weights,
            threads: self.threads,
            compute: self.engine.compute(),
            row_chunks: self.row_chunks,
            settings,
            prompt_tokens: questions.longest_prompt,
            answer_tokens: questions.longest_answer,
        }
    }
}

impl<E> Model<E> {
    /// The path of its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the path still leads to the file that was loaded.
    ///
    /// # Errors
    /// [`FailureKind::Model`] if it leads nowhere, [`FailureKind::ModelChanged`] if it leads to
    /// another file, or this one was written to.
    pub fn check_unchanged(&self) -> Result<(), Failure> {
        let now = Stamp::of(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if now == self.stamp {
            return Ok(());
        }
        let sentence =
            format!("{} has changed since it was loaded; load it again", self.path.display());
        Err(Failure::new(FailureKind::ModelChanged, sentence))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let sentence = format!("cannot read the model {}: {error}; check the path", path.display());
    Failure::new(FailureKind::Model, sentence)
}

/// The type that most bytes of the file's tensors have.
fn quantization(file: &GgufFile) -> String {
    let mut bytes: BTreeMap<GgmlType, u64> = BTreeMap::new();
    for tensor in file.tensors() {
        *bytes.entry(tensor.ggml_type).or_default() += tensor.bytes().unwrap_or(0);
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map_or_else(String::new, |(kind, _)| kind.name().into())
}
