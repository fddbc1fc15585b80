//! What the machine can do at most, and how long each part of a LaTRO step takes at least on it.
//!
//! ```text
//! cargo bench --bench limits
//! cargo bench --bench limits -- --model smol.gguf -k 8 --prompt 76 --new 128 [--json]
//! ```
//!
//! Nothing of the model is loaded or computed; times follow from its header, from counted operations
//! and bytes (`latrod::arch::cost`), and from measured rates (`latrod::kernels::peak`).

use std::path::{Path, PathBuf};

use clap::Parser;
use latrod::arch::cost::{Cost, CostAdapter, CostModel, MachineRates, TreeSize, WeightBytes};
use latrod::arch::lora::Target;
use latrod::arch::spec::{ModelSpec, SpecError};
use latrod::gguf::GgufFile;
use latrod::kernels::Compute;
use latrod::kernels::peak::{Operands, Peak, Rate, ReadPeak, measure};
use latrod::system::memory::available_memory;
use serde::Serialize;
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// A GGUF model; without one, the rates alone
    #[arg(long)]
    model: Option<PathBuf>,
    /// Rationales
    #[arg(long, short = 'k', default_value_t = 8)]
    num_generations: usize,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 76)]
    prompt: usize,
    /// Tokens of each rationale
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// Tokens of the answer with its lead
    #[arg(long, default_value_t = 8)]
    answer: usize,
    /// Rank of the adapter, on all linear layers
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// Threads [default: one a processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A way to compute all of a step: which products, and how fast they are at most.
#[derive(Serialize)]
struct Mode {
    name: &'static str,
    #[serde(skip)]
    compute: Compute,
    rates: MachineRates,
}

/// A part of a step and its least time in each mode.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    /// Of all passes together.
    cost: Cost,
    /// Seconds, in the order of the modes.
    least_s: Vec<f64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let free = available_memory(Path::new("/"));
    let peak = measure(args.threads.unwrap_or(processors), free);
    let modes = modes(&peak);
    let parts = match &args.model {
        Some(path) => parts(path, &args, &modes)?,
        None => Vec::new(),
    };
    if args.json {
        let settings = json!({
            "num_generations": args.num_generations, "prompt": args.prompt, "new": args.new, "answer": args.answer,
            "rank": args.rank,
        });
        let all = json!({ "peak": peak, "settings": settings, "modes": modes, "parts": parts });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    print_rates(&peak);
    if !parts.is_empty() {
        println!();
        print_parts(&parts, &modes);
    }
    Ok(())
}

/// Exact and fast with vectors and, where there are tiles, with tiles. A product like one of f32
/// takes three of bf16: both operands are split in two parts, and the product of the two small
/// parts is left out.
fn modes(peak: &Peak) -> Vec<Mode> {
    let rate = |operands, tiles| peak.best(operands, tiles).map(|p| p.giga_per_s.all);
    // Plain Rust is always there.
    let float = rate(Operands::F32, false).unwrap_or(f64::NAN);
    let int8 = rate(Operands::Int8, false).unwrap_or(f64::NAN).max(float);
    let mode = |name, compute, float, int8| Mode {
        name,
        compute,
        rates: MachineRates {
            float,
            int8,
            cache: peak.cache.gb_per_s.all,
            memory: peak.memory.gb_per_s.all,
            cache_bytes: peak.cache_bytes as f64,
        },
    };
    let mut modes =
        vec![mode("exact", Compute::Exact, float, int8), mode("fast", Compute::Fast, float, int8)];
    let bf16 = rate(Operands::Bf16, true);
    let int8_tiles = rate(Operands::Int8, true);
    if bf16.is_some() || int8_tiles.is_some() {
        let float = bf16.map_or(float, |rate| float.max(rate / 3.0));
        let int8 = int8_tiles.map_or(int8, |rate| int8.max(rate));
        modes.push(mode("exact, tiles", Compute::Exact, float, int8));
        modes.push(mode("fast, tiles", Compute::Fast, float, int8));
    }
    modes
}

fn parts(path: &Path, args: &Args, modes: &[Mode]) -> Result<Vec<Part>, SpecError> {
    let file = GgufFile::open(path)?;
    let spec = ModelSpec::from_gguf(&file)?;
    let bytes = WeightBytes::of(&file, &spec);
    let adapter = CostAdapter { rank: args.rank, targets: &Target::ALL };
    let policy = CostModel::new(&spec, bytes, Some(adapter));
    let reference = CostModel::new(&spec, bytes, None);
    let size = TreeSize {
        prompt: args.prompt,
        branches: args.num_generations,
        new: args.new,
        answer: args.answer,
    };
    let rows = size.predictions();

    let rollout: Vec<Cost> = policy.rollout(size).collect();
    let last = rollout[1..].last().copied().into_iter().collect();
    let score = vec![reference.tree_forward(size), reference.head(rows, false)];
    let forward = vec![policy.tree_forward(size), policy.head(rows, true)];
    let backward = vec![policy.tree_backward(size)];
    let step = [&rollout, &score, &forward, &backward].map(Vec::as_slice).concat();
    let part = |name, passes: Vec<Cost>| {
        let least = |m: &Mode| passes.iter().map(|cost| cost.seconds(m.compute, &m.rates)).sum();
        let least_s = modes.iter().map(least).collect();
        Part { name, cost: passes.iter().fold(Cost::default(), |a, b| a + *b), least_s }
    };
    Ok(vec![
        part("prefill", vec![policy.prefill(args.prompt)]),
        part("last decoding step", last),
        part("rollout", rollout),
        part("reference forward", score),
        part("policy forward", forward),
        part("head alone", vec![reference.head(rows, false)]),
        part("head, gradient", vec![reference.head(rows, true)]),
        part("backward", backward),
        part("whole step", step),
    ])
}

fn print_rates(peak: &Peak) {
    let header = format!("{} threads", peak.threads);
    println!("{:<8} {:<36} {:>10} {:>12}", "", "1e9 a second", "1 thread", header);
    for p in &peak.products {
        let kind = match p.operands {
            Operands::F32 => "f32",
            Operands::Bf16 => "bf16",
            Operands::Int8 => "int8",
        };
        let Rate { one, all } = p.giga_per_s;
        println!("{kind:<8} {:<36} {one:>10.0} {all:>12.0}", p.instructions);
    }
    print_read("cache", &peak.cache);
    print_read("memory", &peak.memory);
}

fn print_read(name: &str, read: &ReadPeak) {
    let what = format!("bytes read of {} MiB", read.bytes >> 20);
    println!("{name:<8} {what:<36} {:>10.1} {:>12.1}", read.gb_per_s.one, read.gb_per_s.all);
}

fn print_parts(parts: &[Part], modes: &[Mode]) {
    print!("{:<20} {:>10} {:>10}", "least time, ms", "GFLOP", "MB");
    modes.iter().for_each(|mode| print!(" {:>13}", mode.name));
    println!();
    for Part { name, cost, least_s } in parts {
        let (int8, float) = cost.products(Compute::Fast);
        let giga = 2e-9 * (int8 + float) as f64;
        let mega = 1e-6 * (cost.weight_bytes + cost.kv_bytes) as f64;
        print!("{name:<20} {giga:>10.2} {mega:>10.1}");
        least_s.iter().for_each(|s| print!(" {:>13.2}", s * 1e3));
        println!();
    }
}
