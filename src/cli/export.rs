//! `latrod export`: an adapter for PEFT or for llama.cpp.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::arch::spec::ModelSpec;
use crate::cli::shared::common::{failed, read_adapter_for, say, usage};
use crate::gguf::GgufFile;
use crate::store::adapter::WEIGHTS_FILE;
use crate::store::{
    AdapterConfig, AdapterManifest, AdapterShape, StoreError, read_safetensors, write_gguf_lora,
    write_peft, write_safetensors,
};

/// Who the adapter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A folder for PEFT and what builds on it: `adapter_config.json`, `adapter_model.safetensors`
    Peft,
    /// A GGUF file for llama.cpp's --lora
    Gguf,
}

/// Write an adapter for PEFT or for llama.cpp
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The adapter is a folder that `latrod train` or PEFT has written. A PEFT folder can be written without
the model; with --model the adapter is also compared with it. A GGUF adapter needs --model, because
llama.cpp orders some rows as the model's own file does.

Examples:
  latrod export --adapter sums-adapter --format gguf --model smol.gguf --out sums.gguf
  llama-cli -m smol.gguf --lora sums.gguf
  latrod export --adapter sums-adapter --format peft --out sums-peft")]
pub struct Args {
    /// The adapter's folder
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Who the adapter is for
    #[arg(long, value_enum)]
    format: Format,
    /// What to write: a new folder for peft, a new file for gguf
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The GGUF model that the adapter was made for
    #[arg(long, value_name = "FILE", required_if_eq("format", "gguf"))]
    model: Option<PathBuf>,
    /// Replace what is already at --out
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments, an adapter that is damaged or belongs to another model (exit code 64);
/// files that cannot be written (1).
pub fn run(args: Args) -> Result<(), CliError> {
    check_out(&args)?;
    let config = match (args.format, &args.model) {
        (Format::Gguf, None) => return Err(usage("--format gguf needs --model")),
        (Format::Gguf, Some(model)) => to_gguf(&args, model)?,
        (Format::Peft, Some(model)) => to_peft(&args, model)?,
        (Format::Peft, None) => copy_peft(&args)?,
    };
    let AdapterConfig { r, lora_alpha, target_modules, .. } = config;
    let layers = target_modules.iter().map(|t| t.peft_name()).collect::<Vec<_>>().join(", ");
    let out = args.out.display();
    say(format_args!("wrote {out}: rank {r}, alpha {lora_alpha}, on {layers}"))
}

fn to_gguf(args: &Args, model: &Path) -> Result<AdapterConfig, CliError> {
    let (file, spec) = open(model)?;
    let (config, tensors) = read_adapter_for(&args.adapter, &file, &spec)?;
    #[expect(clippy::cast_possible_truncation, reason = "the file format has 32 bits for it")]
    let alpha = config.lora_alpha as f32;
    let manifest = AdapterManifest::read(&args.adapter).map_err(usage)?;
    let prompt = manifest.map(|made| made.prompt()).unwrap_or_default();
    write_gguf_lora(&args.out, spec.family.name, alpha, &tensors, &prompt)?;
    Ok(config)
}

fn to_peft(args: &Args, model: &Path) -> Result<AdapterConfig, CliError> {
    let (file, spec) = open(model)?;
    let (config, tensors) = read_adapter_for(&args.adapter, &file, &spec)?;
    write_peft(&args.out, &config, &tensors, &AdapterShape::from(&spec))?;
    copy_manifest(args)?;
    Ok(config)
}

/// Without the model's shape the tensors are taken as they are, under their names.
fn copy_peft(args: &Args) -> Result<AdapterConfig, CliError> {
    let config = AdapterConfig::read(&args.adapter).map_err(usage)?;
    let tensors = read_safetensors(&args.adapter.join(WEIGHTS_FILE)).map_err(usage)?;
    config.write(&args.out)?;
    write_safetensors(&args.out.join(WEIGHTS_FILE), &tensors)?;
    copy_manifest(args)?;
    Ok(config)
}

/// The manifest says which model file the adapter was made for; PEFT takes no notice of it.
fn copy_manifest(args: &Args) -> Result<(), CliError> {
    match AdapterManifest::read(&args.adapter).map_err(usage)? {
        Some(manifest) => Ok(manifest.write(&args.out)?),
        None => Ok(()),
    }
}

/// A model's header; its weights are not needed.
fn open(model: &Path) -> Result<(GgufFile, ModelSpec), CliError> {
    let file = GgufFile::open(model).map_err(usage)?;
    let spec = ModelSpec::from_gguf(&file).map_err(usage)?;
    Ok((file, spec))
}

/// Refuses to write over anything that was not asked to be replaced, and over the inputs anyway.
fn check_out(args: &Args) -> Result<(), CliError> {
    let out = &args.out;
    let shown = out.display();
    for input in std::iter::once(&args.adapter).chain(&args.model) {
        let same = std::fs::canonicalize(out).ok().zip(std::fs::canonicalize(input).ok());
        if same.is_some_and(|(out, input)| out == input || input.starts_with(&out)) {
            return Err(usage(format!(
                "--out {shown} would write over {}, which is read; name another path",
                input.display()
            )));
        }
    }
    let taken = match std::fs::read_dir(out) {
        Ok(mut entries) => match args.format {
            Format::Peft => entries.next().is_some(),
            Format::Gguf => {
                return Err(usage(format!("--out {shown} is a folder; name a file for gguf")));
            }
        },
        Err(_) => out.try_exists().map_err(|e| failed(StoreError::io("look at", out)(e)))?,
    };
    if args.format == Format::Peft && out.is_file() {
        return Err(usage(format!("--out {shown} is a file; name a folder for peft")));
    }
    if taken && !args.force {
        return Err(usage(format!(
            "--out {shown} already exists; name a new path, or add --force to replace it"
        )));
    }
    Ok(())
}
