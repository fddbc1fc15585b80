//! `latrod inspect`: what is in a GGUF file, whether it can be trained, and what that would take.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::CliError;
use crate::arch::lora::Target;
use crate::arch::spec::{ModelSpec, SpecError, WEIGHT_TYPES};
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{failed, say, size_argument, usage};
use crate::engine::device::DeviceKind;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::gguf::{Array, GgmlType, GgufError, GgufFile, TensorInfo, Value, printable};
use crate::kernels::Compute;
use crate::latro::prompt::Prompter;
use crate::latro::settings::TrainSettings;
use crate::memory::fit::{Fitting, fit_given};
use crate::memory::plan::{MemoryPlan, MemorySettings};
use crate::text::{TextFormat, Wording};

/// Show what is in a GGUF model, whether it can be trained, and the memory that would take
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  latrod inspect model.gguf
      Reads only the file's header, so it is quick for models of any size.
  latrod inspect model.gguf -k 16 --max-new-tokens 500 --rank 32
      The memory that training with the settings of the LaTRO paper would take.
  latrod inspect model.gguf --memory-limit 600M
      How training would keep to 600 MiB, or that it cannot.
  latrod inspect model.gguf --json | jq .memory.total
      The predicted peak in bytes, for scripts.

The exit code is 0 also for a model that cannot be trained; --json has \"trainable\" for that.")]
pub struct Args {
    /// The model, a .gguf file
    model: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Memory plan: rationales per prompt
    #[arg(long, short = 'k', value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    num_generations: u32,
    /// Memory plan: prompts in a step
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    prompts_per_step: u32,
    /// Memory plan: rationales that are sampled together, at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Memory plan: length of a prompt in tokens
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Memory plan: longest rationale in tokens
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Memory plan: length of an answer in tokens
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    answer_tokens: u32,
    /// Memory plan: rank of the adapter, on all linear layers
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    rank: u32,
    /// Memory plan: exact or fast
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Memory plan: threads that compute
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Memory plan: the most that training may take, for example 600M or 2G; as `latrod train` does,
    /// samples fewer rationales together and cuts rows into smaller pieces to keep to it
    #[arg(long, value_parser = size_argument)]
    memory_limit: Option<u64>,
}

/// Prints the report.
///
/// # Errors
/// [`CliError::Usage`] when the file cannot be read or is no GGUF file, or training does not fit the
/// memory limit.
pub fn run(args: Args) -> Result<(), CliError> {
    let file = GgufFile::open(&args.model).map_err(usage)?;
    let mut report = Report::new(&file).map_err(usage)?;
    if let Ok(spec) = ModelSpec::from_gguf(&file) {
        let weights = WeightBytes::of(&file);
        let limit = Some(args.memory_limit.unwrap_or(u64::MAX));
        let fitting = fit_given(&spec, &weights, &settings(&args), limit, Path::new("/"))?;
        report.memory = Some(fitting.into());
    }
    say(if args.json { serde_json::to_string(&report).map_err(failed)? } else { report.table() })
}

/// All that is printed, in the form of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    gguf_version: u32,
    file_bytes: u64,
    name: Option<String>,
    architecture: Option<String>,
    tensors: usize,
    /// Values in all tensors.
    parameters: u64,
    /// Bytes of all tensors whose type has a known geometry.
    tensor_bytes: u64,
    quantization: Vec<QuantizationShare>,
    shape: Option<Shape>,
    tokenizer: TokenizerSummary,
    chat_template: bool,
    trainable: bool,
    /// The devices that this program was built for.
    devices: Vec<DeviceKind>,
    /// Why it cannot be trained, one sentence each.
    problems: Vec<String>,
    memory: Option<Memory>,
}

/// The plan and what it was made for.
#[derive(Debug, Serialize)]
struct Memory {
    #[serde(flatten)]
    plan: MemoryPlan,
    /// Rationales that are sampled together.
    batch: usize,
    /// Rows of a piece, and of logits.
    #[serde(flatten)]
    row_chunks: RowChunks,
}

impl From<Fitting> for Memory {
    fn from(Fitting { settings, plan }: Fitting) -> Self {
        Self { plan, batch: settings.batch, row_chunks: settings.row_chunks }
    }
}

/// What one tensor type contributes.
#[derive(Debug, Serialize)]
struct QuantizationShare {
    #[serde(rename = "type")]
    ggml_type: String,
    tensors: usize,
    bytes: u64,
    /// Of all tensors' bytes, 0 to 1.
    share: f64,
    /// Whether this program computes with the type.
    supported: bool,
}

/// The numbers of [`ModelSpec`] that describe a model's size.
#[derive(Debug, Serialize)]
struct Shape {
    layers: usize,
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context_length: usize,
    tied_embeddings: bool,
}

/// The metadata that a tokenizer would be built from.
#[derive(Debug, Serialize)]
struct TokenizerSummary {
    model: Option<String>,
    pre: Option<String>,
    vocab: Option<usize>,
    /// Token ids by role, for example `bos`.
    special: BTreeMap<String, u64>,
}

impl Report {
    fn new(file: &GgufFile) -> Result<Self, GgufError> {
        let m = file.metadata();
        let text = |key| m.opt_str(key).map(|s| s.map(printable));
        let tensor_bytes =
            file.tensors().iter().filter_map(TensorInfo::bytes).fold(0, u64::saturating_add);
        let quantization = quantization(file, tensor_bytes);
        let spec = ModelSpec::from_gguf(file);
        let mut problems = problems(&quantization, &spec);
        problems.extend(match TextFormat::from_gguf(file) {
            Ok(format) => {
                Prompter::new(format, Wording::default()).err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        });
        let spec = spec.ok();
        Ok(Self {
            path: file.path().display().to_string(),
            gguf_version: file.version(),
            file_bytes: file.file_len(),
            name: text("general.name")?,
            architecture: text("general.architecture")?,
            tensors: file.tensors().len(),
            parameters: file
                .tensors()
                .iter()
                .fold(0, |n: u64, t| n.saturating_add(t.elements() as u64)),
            tensor_bytes,
            quantization,
            tokenizer: tokenizer(file)?,
            chat_template: m.opt_str("tokenizer.chat_template")?.is_some(),
            devices: DeviceKind::built_in().collect(),
            trainable: problems.is_empty(),
            problems,
            memory: None,
            shape: spec.as_ref().map(shape),
        })
    }

    fn table(&self) -> String {
        let mut t = Table::default();
        t.row("file", &self.path);
        t.row("format", format!("GGUF version {}, {}", self.gguf_version, size(self.file_bytes)));
        t.row("name", self.name.as_deref().unwrap_or("not stated"));
        t.row("architecture", self.architecture.as_deref().unwrap_or("not stated"));
        t.row("parameters", format!("{} in {} tensors", grouped(self.parameters), self.tensors));
        if let Some(s) = &self.shape {
            t.row("blocks", format!("{} of width {}, FFN {}", s.layers, s.hidden, s.ffn));
            let (q, kv) = (s.heads, s.kv_heads);
            t.row("heads", format!("{q} for queries, {kv} for keys, {} wide", s.head_dim));
            let head = if s.tied_embeddings { "tied to the embedding" } else { "of its own" };
            t.row("output", format!("{} tokens, matrix {head}", grouped(s.vocab as u64)));
            t.row("context", format!("{} tokens", grouped(s.context_length as u64)));
        }
        self.tokenizer.rows(&mut t);
        t.row("chat template", if self.chat_template { "yes" } else { "no" });

        t.heading("quantization");
        for q in &self.quantization {
            let note = if q.supported { "" } else { "  not supported" };
            let (n, bytes, percent) = (q.tensors, size(q.bytes), 100.0 * q.share);
            t.row(&q.ggml_type, format!("{n:>5} tensors {bytes:>12} {percent:>6.1} %{note}"));
        }

        t.heading("training");
        t.row("possible", if self.trainable { "yes" } else { "no" });
        for problem in &self.problems {
            t.row("because", problem);
        }
        let devices: Vec<&str> = self.devices.iter().map(|device| device.name()).collect();
        t.row("devices", devices.join(", "));
        if let Some(memory) = &self.memory {
            memory.rows(&mut t);
        }
        t.0
    }
}

impl Memory {
    fn rows(&self, t: &mut Table) {
        let Self { plan, batch, row_chunks } = self;
        t.heading("predicted memory");
        for (name, bytes) in [
            ("program", plan.program),
            ("weights", plan.weights),
            ("loading", plan.loading),
            ("adapter", plan.adapter),
            ("optimizer", plan.optimizer),
            ("sampling", plan.sampling()),
            ("  cache", plan.kv_cache),
            ("  pass", plan.sampling_pass),
            ("training", plan.training()),
            ("  gradients", plan.gradients),
            ("  inputs", plan.activations),
            ("  block", plan.block),
            ("  head", plan.head),
            ("peak", plan.total),
        ] {
            t.row(name, format!("{:>12}", size(bytes)));
        }
        t.row("", "loading, sampling and training take turns, as do block and head in training;");
        t.row("", "the peak has the largest of each");
        t.row("batch", format!("{batch} rationales together"));
        let RowChunks { rows, head_rows } = row_chunks;
        t.row("pieces", format!("{rows} rows, {head_rows} rows of logits"));
    }
}

impl TokenizerSummary {
    fn rows(&self, t: &mut Table) {
        let model = self.model.as_deref().unwrap_or("none");
        let pre = self.pre.as_ref().map(|p| format!(", pre {p}")).unwrap_or_default();
        let vocab = self.vocab.map(|n| format!(", {} tokens", grouped(n as u64)));
        t.row("tokenizer", format!("{model}{pre}{}", vocab.unwrap_or_default()));
        let special: Vec<String> =
            self.special.iter().map(|(role, id)| format!("{role} {id}")).collect();
        if !special.is_empty() {
            t.row("special tokens", special.join(", "));
        }
    }
}

fn settings(args: &Args) -> MemorySettings {
    let run = TrainSettings {
        rank: args.rank as usize,
        num_generations: args.num_generations as usize,
        prompts_per_step: args.prompts_per_step as usize,
        max_new_tokens: args.max_new_tokens as usize,
        target_modules: Target::ALL.to_vec(),
        ..TrainSettings::edge()
    };
    let tokens = (args.prompt_tokens as usize, args.answer_tokens as usize);
    MemorySettings::of_run(&run, args.batch as usize, tokens, (args.threads as usize, args.compute))
}

fn shape(s: &ModelSpec) -> Shape {
    Shape {
        layers: s.layers,
        hidden: s.hidden,
        ffn: s.ffn,
        heads: s.heads,
        kv_heads: s.kv_heads,
        head_dim: s.head_dim,
        vocab: s.vocab,
        context_length: s.context_length,
        tied_embeddings: s.tied_embeddings,
    }
}

/// The types in the file, the one with the most bytes first.
fn quantization(file: &GgufFile, tensor_bytes: u64) -> Vec<QuantizationShare> {
    let mut mix: BTreeMap<GgmlType, (usize, u64)> = BTreeMap::new();
    for t in file.tensors() {
        let (tensors, bytes) = mix.entry(t.ggml_type).or_default();
        *tensors += 1;
        *bytes = bytes.saturating_add(t.bytes().unwrap_or(0));
    }
    let mut shares: Vec<_> = mix
        .into_iter()
        .map(|(kind, (tensors, bytes))| QuantizationShare {
            ggml_type: kind.name().into(),
            tensors,
            bytes,
            share: bytes as f64 / tensor_bytes.max(1) as f64,
            supported: WEIGHT_TYPES.contains(&kind),
        })
        .collect();
    shares.sort_by_key(|s| std::cmp::Reverse(s.bytes));
    shares
}

fn tokenizer(file: &GgufFile) -> Result<TokenizerSummary, GgufError> {
    let m = file.metadata();
    let role = |key: &str| {
        let role = key.strip_prefix("tokenizer.ggml.")?.strip_suffix("_token_id")?;
        Some(printable(role))
    };
    let mut special = BTreeMap::new();
    for (key, _) in m.iter() {
        if let Some(role) = role(key) {
            special.insert(role, m.u64(key)?);
        }
    }
    let tokens = match m.get("tokenizer.ggml.tokens") {
        Some(Value::Array(tokens @ Array::Strings(_))) => Some(tokens.len()),
        _ => None,
    };
    let text = |key| m.opt_str(key).map(|s| s.map(printable));
    Ok(TokenizerSummary {
        model: text("tokenizer.ggml.model")?,
        pre: text("tokenizer.ggml.pre")?,
        vocab: tokens,
        special,
    })
}

/// Why the model cannot be trained, one sentence each; empty when it can.
fn problems(mix: &[QuantizationShare], spec: &Result<ModelSpec, SpecError>) -> Vec<String> {
    let mut problems: Vec<String> = mix
        .iter()
        .filter(|q| !q.supported)
        .map(|q| {
            let (n, kind) = (q.tensors, &q.ggml_type);
            format!("{n} of its tensors have the type {kind}, which is not supported")
        })
        .collect();
    match spec {
        // Said already, and for all such tensors.
        Err(SpecError::WrongTensor { .. }) if !problems.is_empty() => {}
        Err(e) => problems.push(e.to_string()),
        Ok(_) => {}
    }
    problems
}

/// Lines of a label and a value.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, label: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{}", format!("  {label:<16}{value}").trim_end());
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }
}

/// A number with its digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the unit that suits it.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 10_240.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(134_515_008), "134,515,008");
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(size(20 << 30), "20.0 GiB");
    }
}
