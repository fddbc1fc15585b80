//! Compares the memory plan with what two steps really take, one child process a setting.
//!
//! ```text
//! cargo bench --bench memory -- --model smol.gguf
//! ```
//!
//! Without settings of its own it runs a list of them and prints a table; with `--one` it runs the
//! setting that the other arguments state in this process, and prints its peaks phase by phase.

use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use latrod::arch::spec::ModelSpec;
use latrod::cli::choice::choice;
use latrod::engine::Engine;
use latrod::engine::cpu::CpuEngine;
use latrod::engine::device::DeviceKind;
use latrod::engine::interrupt::Interrupt;
use latrod::engine::row_chunks::RowChunks;
use latrod::engine::weights::WeightBytes;
use latrod::gguf::GgufFile;
use latrod::kernels::Compute;
use latrod::latro::learner::{Learner, LearnerState, Sampled};
use latrod::latro::prompt::Prompter;
use latrod::latro::rollout::RolloutGroup;
use latrod::latro::sampling::branch::Stop;
use latrod::latro::sampling::generate::{Limits, Policy, generate};
use latrod::latro::sampling::sampler::{Pick, stream};
use latrod::latro::settings::TrainSettings;
use latrod::memory::plan::{MemoryPlan, MemorySettings};
use latrod::settings::Choice;
use latrod::system::memory::peak_memory_mib;
use latrod::text::{TextFormat, Wording};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Tokens of an answer with its phrase, whatever the tokenizer.
const ANSWER: usize = 8;

#[derive(Parser)]
struct Args {
    /// The GGUF model
    #[arg(long)]
    model: PathBuf,
    /// Settings of the list to run, by number; all if none is given
    #[arg(long)]
    only: Vec<usize>,
    /// Run the one setting below
    #[arg(long)]
    one: bool,
    #[command(flatten)]
    setting: Setting,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(clap::Args, Clone, Copy)]
struct Setting {
    /// Rationales
    #[arg(long, short = 'k', default_value_t = 8)]
    num_generations: usize,
    /// Rationales that are sampled together
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 76)]
    prompt: usize,
    /// Tokens of each rationale
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// Rank of the adapter
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// exact or fast
    #[arg(long, value_parser = choice::<Compute>(), default_value = "fast")]
    compute: Compute,
    /// Rows of a piece
    #[arg(long, default_value_t = RowChunks::default().rows)]
    rows: usize,
    /// Rows of logits
    #[arg(long, default_value_t = RowChunks::default().head_rows)]
    head_rows: usize,
}

/// K, batch, prompt, new, rank, compute, rows, rows of logits.
type Numbers = (usize, usize, usize, usize, usize, Compute, usize, usize);

/// The list: K, batch, prompt, new, rank, compute, rows, rows of logits.
const LIST: [Numbers; 14] = [
    (2, 1, 32, 16, 16, Compute::Fast, 256, 128),
    (2, 2, 512, 16, 16, Compute::Fast, 256, 128),
    (8, 8, 32, 16, 4, Compute::Fast, 256, 128),
    (8, 8, 76, 64, 16, Compute::Fast, 256, 128),
    (8, 8, 76, 64, 16, Compute::Exact, 256, 128),
    (8, 2, 76, 64, 16, Compute::Fast, 256, 128),
    (8, 8, 76, 64, 64, Compute::Fast, 256, 128),
    (8, 8, 76, 64, 16, Compute::Fast, 64, 128),
    (8, 8, 76, 64, 16, Compute::Fast, 64, 16),
    (8, 8, 512, 64, 16, Compute::Fast, 256, 128),
    (8, 8, 76, 256, 16, Compute::Fast, 256, 128),
    (16, 16, 76, 128, 16, Compute::Fast, 256, 128),
    (32, 32, 76, 128, 4, Compute::Fast, 256, 128),
    (32, 4, 76, 128, 16, Compute::Exact, 256, 128),
];

fn main() -> Outcome<()> {
    let args = Args::parse();
    if args.one {
        return run(&args);
    }
    println!("   K batch prompt  new rank compute rows head | predicted  measured MiB  error %");
    for (number, &(k, batch, prompt, new, rank, compute, rows, head_rows)) in
        LIST.iter().enumerate()
    {
        if !args.only.is_empty() && !args.only.contains(&number) {
            continue;
        }
        let setting =
            Setting { num_generations: k, batch, prompt, new, rank, compute, rows, head_rows };
        let predicted = mib(plan(&args, &setting)?.total);
        let measured = child(&args, &setting)?;
        let name = compute.word().to_owned();
        println!(
            "{k:4} {batch:5} {prompt:6} {new:4} {rank:4} {name:>7} {rows:4} {head_rows:4} | \
             {predicted:9.1} {measured:9.1} {:13.1}",
            100.0 * (predicted / measured - 1.0),
        );
    }
    Ok(())
}

/// The peak of a setting in a process of its own, MiB.
fn child(args: &Args, s: &Setting) -> Outcome<f64> {
    let compute = s.compute.word().to_owned();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--one").arg("--model").arg(&args.model).args(["--compute", &compute]);
    for (name, value) in [
        ("--num-generations", s.num_generations),
        ("--batch", s.batch),
        ("--prompt", s.prompt),
        ("--new", s.new),
        ("--rank", s.rank),
        ("--rows", s.rows),
        ("--head-rows", s.head_rows),
        ("--threads", args.threads),
    ] {
        command.arg(name).arg(value.to_string());
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let peak = |line: &str| line.split_whitespace().nth(1)?.parse::<f64>().ok();
    Ok(text.lines().filter_map(peak).fold(0.0, f64::max))
}

fn plan(args: &Args, s: &Setting) -> Outcome<MemoryPlan> {
    let file = GgufFile::open(&args.model)?;
    let settings = MemorySettings {
        rank: s.rank,
        targets: TrainSettings::edge().target_modules,
        num_generations: s.num_generations,
        prompts_per_step: 1,
        batch: s.batch,
        questions: 0,
        prompt_tokens: s.prompt,
        new_tokens: s.new,
        answer_tokens: ANSWER,
        row_chunks: RowChunks { rows: s.rows, head_rows: s.head_rows },
        threads: args.threads,
        compute: s.compute,
    };
    Ok(MemoryPlan::predict(&ModelSpec::from_gguf(&file)?, &WeightBytes::of(&file), &settings))
}

/// Rationales of a fixed length never stop by themselves.
struct Never;

impl Stop for Never {
    fn push(&mut self, _: u32) -> bool {
        false
    }
}

/// Prints the peak since the last phase and, where the plan says it, what was predicted.
fn phase(name: &str, predicted: Option<u64>) {
    let predicted =
        predicted.map_or_else(String::new, |bytes| format!("predicted {:.1}", mib(bytes)));
    println!("{name} {:.1} {predicted}", peak_memory_mib());
    // Sets the peak back to what is resident now; where that is not allowed, peaks only grow.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn run(args: &Args) -> Outcome<()> {
    let s = args.setting;
    let plan = plan(args, &s)?;
    latrod::kernels::threads::start(args.threads);
    let file = GgufFile::open(&args.model)?;
    phase("header", None);
    let mut model = CpuEngine::load(&file, s.compute, DeviceKind::Cpu)?;
    model.set_row_chunks(RowChunks { rows: s.rows, head_rows: s.head_rows });
    phase("loading", Some(plan.program + plan.weights + plan.loading));
    let prompter = Prompter::new(TextFormat::from_gguf(&file)?, Wording::default())?;
    phase("tokenizer", Some(plan.program + plan.weights));
    let settings = TrainSettings {
        num_generations: s.num_generations,
        skip_flat: false,
        rank: s.rank,
        ..TrainSettings::edge()
    };
    let interrupt = Interrupt::new();
    let mut learner = Learner {
        state: LearnerState::fresh(model.spec(), &settings),
        model: &model,
        prompter: &prompter,
        settings: &settings,
        batch: s.batch,
        interrupt: &interrupt,
    };
    let always = plan.program + plan.weights + plan.adapter + plan.optimizer;
    phase("learner", Some(always));
    // The optimizer's moments are touched in the first step: the second has the peak.
    for step in 1..=2 {
        let sampled = sample(&learner, &s, step)?;
        phase("sampling", Some(always + plan.sampling()));
        learner.update(&sampled)?;
        phase("training", Some(always + plan.training()));
    }
    Ok(())
}

fn sample(learner: &Learner<'_, CpuEngine>, s: &Setting, step: u64) -> Outcome<Sampled> {
    let prompt: Vec<u32> = (0..s.prompt as u32).map(|i| 5 + i % 100).collect();
    let adapter = learner.adapter()?;
    let policy =
        Policy { model: learner.model, lora: Some(&adapter), interrupt: learner.interrupt };
    let limits = Limits {
        branches: s.num_generations,
        max_new_tokens: s.new,
        batch: s.batch,
        continuation: 0,
        pick: Pick::Sample { temperature: 1.0 },
    };
    let rng = |task: usize, branch: usize| stream(0, step, task as u64, branch as u64);
    let rationales =
        generate(policy, std::slice::from_ref(&prompt), limits, rng, |_| Never, |_| {})?
            .swap_remove(0);
    let rollout =
        RolloutGroup { prompt, answer: vec![9; ANSWER], rationales, ..RolloutGroup::default() };
    let tokens = (s.num_generations * s.new) as u64;
    Ok(Sampled {
        step,
        trips: 0,
        rollouts: vec![rollout],
        tasks: vec![],
        tokens,
        length_limit: 0,
        seconds: 1.0,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
