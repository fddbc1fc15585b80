//! `latrod debug score`: rewards and advantages of given rationales.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::CliError;
use crate::cli::debug::objective::ObjectiveArgs;
use crate::cli::debug::rollouts::read_rollouts;
use crate::cli::shared::choice::choice;
use crate::cli::shared::common::{load_adapter, load_model, say, usage};
use crate::engine::device::DeviceKind;
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, with_engine};
use crate::kernels::Compute;
use crate::latro::log_prob::score;
use crate::latro::objective::{Lesson, judge};

/// Score given rationales: log-probabilities, rewards and advantages, one JSON line a task
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rollouts are JSON lines {\"prompt_ids\": [..], \"answer_ids\": [..], \"rationales\": [[..], ..]}.
Rewards are those of the paper (arXiv 2411.04282, eq. 4), sums of log-probabilities in nats, or of
another preset. With seam policy a line also has \"answers\": [{\"ids\", \"span\", \"right\"}, ..] and \"guess\".

Example:
  latrod debug score --model smol.gguf --rollouts rollouts.jsonl --adapter adapter --beta 0.05")]
pub struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// The rationales to score
    #[arg(long)]
    rollouts: PathBuf,
    /// A PEFT adapter folder: the policy. Without it policy and reference are the same
    #[arg(long)]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    objective: ObjectiveArgs,
    /// exact: f32; fast: activations rounded to 8 bits
    #[arg(long, value_parser = choice::<Compute>(), default_value = "exact")]
    compute: Compute,
    /// Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// Print JSON (the only format; accepted for uniformity)
    #[arg(long)]
    json: bool,
    /// Also print every token's log-probability and entropy under the policy
    #[arg(long)]
    tokens: bool,
}

/// Runs the command.
///
/// # Errors
/// Unusable files (exit code 64) or a failing computation (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    with_engine!(args.device, E => run_on::<E>(args))
}

fn run_on<E: Engine>(args: &Args) -> Result<(), CliError> {
    let rollouts = read_rollouts(&args.rollouts)?;
    let (file, model) = load_model::<E>(&args.model, args.compute, args.device)?;
    let adapter = args.adapter.as_ref().map(|dir| load_adapter(dir, &file, &model)).transpose()?;
    let interrupt = Interrupt::new();
    let settings = args.objective.settings();
    for rollout in &rollouts {
        let tree = rollout.tree();
        let reference = score(&model, None, &tree, &interrupt)?;
        let policy = match &adapter {
            Some(a) => score(&model, Some(a), &tree, &interrupt)?,
            None => reference.clone(),
        };
        let (beta, settings) = (settings.beta, &settings);
        let lesson = Lesson { settings, beta, prompts: 1, supervised: false };
        let judged =
            judge(rollout, &tree, &policy.log_p, &reference.log_p, lesson).map_err(usage)?;
        let mut line = json!({
            "logp_rationale": judged.log_p_rationale,
            "ref_logp_rationale": judged.ref_log_p_rationale,
            "logp_answer": judged.rewards.iter().map(|r| r.log_p_answer).collect::<Vec<_>>(),
            "reward": judged.rewards.iter().map(|r| r.reward).collect::<Vec<_>>(),
            "advantage": judged.advantages,
            "loss": judged.loss,
        });
        if args.tokens {
            line["token_logp"] = json!(policy.log_p);
            line["token_entropy"] = json!(policy.entropy);
        }
        say(line)?;
    }
    Ok(())
}
