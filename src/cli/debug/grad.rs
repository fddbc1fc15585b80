//! `latrod debug grad`: the gradient of the loss for every LoRA tensor.

use std::path::PathBuf;

use serde_json::json;

use crate::arch::lora::zeros_like;
use crate::cli::CliError;
use crate::cli::debug::objective::ObjectiveArgs;
use crate::cli::debug::rollouts::read_rollouts;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{failed, load_model, read_adapter, say, usage};
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, with_engine};
use crate::kernels::Compute;
use crate::latro::log_prob::{Forward, score};
use crate::latro::objective::{Lesson, judge};
use crate::latro::optimizer::global_norm;
use crate::store::{AdapterShape, peft_tensors, write_safetensors};

/// Write the gradient of the loss for every LoRA tensor, under PEFT's names and in its row order
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The loss is the paper's, −(1/K) Σ [A·log p(z|x) + log p(y|x,z)] (arXiv 2411.04282, eq. 5), or that of
another preset, averaged over the tasks of the file.

Example:
  latrod debug grad --model smol.gguf --rollouts rollouts.jsonl --adapter adapter --out g.safetensors")]
pub struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// The rationales, as in `latrod debug score`
    #[arg(long)]
    rollouts: PathBuf,
    /// The PEFT adapter folder whose gradient is asked for
    #[arg(long)]
    adapter: PathBuf,
    #[command(flatten)]
    objective: ObjectiveArgs,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "exact")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// The safetensors file to write
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unusable files (exit code 64), a failing computation or an unwritable file (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(args: &Args) -> Result<(), CliError> {
    let rollouts = read_rollouts(&args.rollouts)?;
    let (file, model) = load_model::<E>(&args.model, args.compute, args.device)?;
    let (config, tensors) = read_adapter(&args.adapter, &file, &model)?;
    let adapter = model.adapter(&tensors, config.scale() as f32)?;
    let (interrupt, settings) = (Interrupt::new(), args.objective.settings());
    let mut sums = zeros_like(&tensors);
    let mut loss = 0.0;
    for rollout in &rollouts {
        let tree = rollout.tree();
        let reference = score(&model, None, &tree, &interrupt)?;
        let forward = Forward::new(&model, &adapter, &tree, &interrupt)?;
        let policy = &forward.scores().log_p;
        let lesson = Lesson {
            settings: &settings,
            beta: settings.beta,
            prompts: rollouts.len(),
            supervised: false,
        };
        let judged = judge(rollout, &tree, policy, &reference.log_p, lesson).map_err(usage)?;
        loss += judged.loss / rollouts.len() as f64;
        forward
            .backward(&model, &adapter, &tree, &judged.coefficients, &mut sums, &interrupt)
            .map_err(failed)?;
    }
    // Coefficients point uphill; the loss's gradient points the other way.
    sums.values_mut().flat_map(|m| &mut m.data).for_each(|g| *g = -*g);
    let named = peft_tensors(&sums, &AdapterShape::from(model.spec()))?;
    write_safetensors(&args.out, &named)?;
    let line = json!({
        "out": args.out, "tensors": named.len(), "tasks": rollouts.len(), "loss": loss,
        "grad_norm": global_norm(&sums),
    });
    say(line)
}
