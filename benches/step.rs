//! Measures LaTRO steps on a real model: rationales of exactly `--new` tokens, then the update.
//!
//! One JSON line a step, with the field names of the usual references, so that lines of several
//! programs can be put beside each other: `rollout_s` sampling, `score_s` the forward passes of
//! reference and policy, `update_s` the backward pass and AdamW.
//!
//! ```text
//! cargo bench --bench step -- --model smol.gguf -k 8 --prompt 76 --new 128
//! ```

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use latrod::cli::choice::choice;
use latrod::engine::device::DeviceKind;
use latrod::engine::interrupt::Interrupt;
use latrod::engine::{Engine, with_engine};
use latrod::gguf::GgufFile;
use latrod::kernels::Compute;
use latrod::latro::learner::{Learner, LearnerState, Sampled};
use latrod::latro::prompt::Prompter;
use latrod::latro::rollout::RolloutGroup;
use latrod::latro::sampling::branch::Stop;
use latrod::latro::sampling::generate::{Limits, Policy, generate};
use latrod::latro::sampling::sampler::{Pick, stream};
use latrod::latro::settings::TrainSettings;
use latrod::system::memory::peak_memory_mib;
use latrod::text::{TextFormat, Wording};
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// Rationales of each question
    #[arg(long, short = 'k', default_value_t = 8)]
    num_generations: usize,
    /// Questions in a step, all of whose rationales are sampled together
    #[arg(long, default_value_t = 1)]
    prompts_per_step: usize,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 76)]
    prompt: usize,
    /// Tokens of each rationale
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// Steps to measure
    #[arg(long, default_value_t = 3)]
    iters: u64,
    /// exact or fast
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Where to compute
    #[arg(long, value_parser = choice::<DeviceKind>(), default_value = "cpu")]
    device: DeviceKind,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Sample only, and learn nothing
    #[arg(long)]
    rollout_only: bool,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Rationales of a fixed length never stop by themselves.
struct Never;

impl Stop for Never {
    fn push(&mut self, _: u32) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    latrod::kernels::threads::start(args.threads);
    with_engine!(args.device, E => run::<E>(&args))
}

fn run<E: Engine>(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let file = GgufFile::open(&args.model)?;
    let model = E::load(&file, args.compute, args.device)?;
    let load_s = start.elapsed().as_secs_f64();
    let prompter = Prompter::new(TextFormat::from_gguf(&file)?, Wording::default())?;
    let settings = TrainSettings {
        num_generations: args.num_generations,
        prompts_per_step: args.prompts_per_step,
        skip_flat: false,
        ..TrainSettings::edge()
    };
    let interrupt = Interrupt::new();
    let mut learner = Learner {
        state: LearnerState::fresh(model.spec(), &settings),
        model: &model,
        prompter: &prompter,
        settings: &settings,
        batch: args.num_generations * args.prompts_per_step,
        interrupt: &interrupt,
    };
    let prompt = |task| (0..args.prompt as u32).map(|i| 5 + (i + task) % 100).collect();
    let prompts: Vec<Vec<u32>> = (0..args.prompts_per_step as u32).map(prompt).collect();
    for iter in 1..=args.iters {
        let sampled = sample(&learner, args, &prompts, iter)?;
        if args.rollout_only {
            let line = json!({
                "iter": iter, "num_generations": args.num_generations,
                "prompts_per_step": args.prompts_per_step, "prompt_tokens": args.prompt,
                "new_tokens": args.new, "threads": args.threads, "compute": args.compute, "device": args.device,
                "load_s": round(load_s),
                "rollout_s": round(sampled.seconds),
                "rollout_tok_s": round(sampled.tokens as f64 / sampled.seconds),
                "rss_mb": peak_memory_mib().round(),
            });
            println!("{line}");
            continue;
        }
        let m = learner.update(&sampled)?;
        let line = json!({
            "iter": iter, "num_generations": args.num_generations,
            "prompts_per_step": args.prompts_per_step, "prompt_tokens": args.prompt,
            "new_tokens": args.new, "threads": args.threads, "compute": args.compute,
            "device": args.device,
            "load_s": round(load_s),
            "rollout_s": round(m.rollout_s), "score_s": round(m.reference_s + m.forward_s),
            "update_s": round(m.backward_s + m.update_s), "total_s": round(m.total_s),
            "rollout_tok_s": round(m.rollout_tokens_per_s), "reward": m.reward,
            "rss_mb": peak_memory_mib().round(),
        });
        println!("{line}");
    }
    Ok(())
}

fn sample(
    learner: &Learner<'_, impl Engine>,
    args: &Args,
    prompts: &[Vec<u32>],
    step: u64,
) -> Result<Sampled, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let adapter = learner.adapter()?;
    let policy =
        Policy { model: learner.model, lora: Some(&adapter), interrupt: learner.interrupt };
    let limits = Limits {
        branches: args.num_generations,
        max_new_tokens: args.new,
        batch: learner.batch,
        continuation: 0,
        pick: Pick::Sample { temperature: 1.0 },
    };
    let rng = |task: usize, branch: usize| stream(0, step, task as u64, branch as u64);
    let rationales = generate(policy, prompts, limits, rng, |_| Never, |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let answer = learner.prompter.answer("72")?;
    let group = |(prompt, rationales): (&Vec<u32>, _)| RolloutGroup {
        prompt: prompt.clone(),
        answer: answer.clone(),
        rationales,
        ..RolloutGroup::default()
    };
    let rollouts = prompts.iter().zip(rationales).map(group).collect();
    let tokens = (learner.batch * args.new) as u64;
    Ok(Sampled { step, trips: 0, rollouts, tasks: vec![], tokens, length_limit: 0, seconds })
}

fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
