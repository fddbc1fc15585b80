//! Fixed amounts of named work, for `benches/instructions.py` to count the instructions of.
//!
//! ```text
//! instructions            prints the instruction set that products run on, and the names, as JSON
//! instructions NAME N     prepares the work of that name and does it N times
//! ```
//!
//! Everything runs on one thread, and what it computes depends on nothing but the name. Preparation
//! costs the same for every N, so that the difference between two runs is work alone.

use std::hint::black_box;
use std::path::Path;

use clap::Parser;
use half::f16;
use latrod::engine::Engine;
use latrod::engine::cpu::CpuEngine;
use latrod::engine::device::DeviceKind;
use latrod::engine::interrupt::Interrupt;
use latrod::gguf::{GgmlType, GgufFile};
use latrod::kernels::{Compute, Floats, PackedMatrix, isa_name};
use latrod::latro::sampling::branch::Stop;
use latrod::latro::sampling::generate::{Limits, Policy, generate};
use latrod::latro::sampling::sampler::{Pick, stream};
use latrod::ops::attention::{HeadShape, attend};
use latrod::ops::attention_backward::{BackwardKeyValues, attend_backward};
use latrod::ops::attention_plan::{AttentionPlan, Segment};
use latrod::ops::key_values::aligned;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// Which work; without one, all names are printed
    name: Option<String>,
    /// How many times
    #[arg(default_value_t = 1)]
    times: u64,
    /// What `cargo bench` passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Work that is ready to be done, any number of times.
type Work = Box<dyn FnMut() + Send>;

/// Gets work ready.
type Prepare = fn() -> Work;

/// The work that is counted. To guard something else, add its name and a function that prepares it;
/// then run `instructions.py --update`.
const ALL: [(&str, Prepare); 11] = [
    // A step of decoding with 8 branches.
    ("int8 product, Q4_1, 8 rows", || product(Q4_1, Compute::Fast, 8)),
    ("int8 product, Q8_0, 8 rows", || product(Q8_0, Compute::Fast, 8)),
    ("exact product, Q4_1, 8 rows", || product(Q4_1, Compute::Exact, 8)),
    // A tree.
    ("int8 product, Q4_1, 64 rows", || product(Q4_1, Compute::Fast, 64)),
    ("exact product, Q4_1, 64 rows", || product(Q4_1, Compute::Exact, 64)),
    ("exact product, Q8_0, 64 rows", || product(Q8_0, Compute::Exact, 64)),
    // Its gradient.
    ("transposed product, Q4_1, 64 rows", || transposed(Q4_1, 64)),
    ("transposed product, Q8_0, 64 rows", || transposed(Q8_0, 64)),
    ("attention, a prompt with 8 branches", || attention(false)),
    ("attention, its gradient", || attention(true)),
    ("decoding, 8 branches of 16 tokens, tiny model", decoding),
];

/// A ggml type: bytes of a block of 32, and places of its f16 scales.
struct Kind {
    ty: GgmlType,
    bytes: usize,
    scales: &'static [usize],
}

const Q4_1: Kind = Kind { ty: GgmlType::Q4_1, bytes: 20, scales: &[0, 2] };
const Q8_0: Kind = Kind { ty: GgmlType::Q8_0, bytes: 34, scales: &[0] };

/// A feed-forward layer of SmolLM2-135M.
const COLS: usize = 576;
const ROWS: usize = 1536;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let Some(name) = args.name else {
        let names = ALL.map(|(name, _)| name);
        println!("{}", json!({ "isa": isa_name()?, "names": names }));
        return Ok(());
    };
    let Some((_, prepare)) = ALL.iter().find(|(known, _)| *known == name) else {
        return Err(format!("no work is called {name:?}; without a name all are printed").into());
    };
    latrod::kernels::threads::Pool::new(1).install(|| {
        let mut work = prepare();
        (0..args.times).for_each(|_| work());
    });
    Ok(())
}

fn product(kind: Kind, compute: Compute, m: usize) -> Work {
    let (w, x, mut y) = (weights(&kind), numbers(m * COLS), vec![0.0; m * ROWS]);
    Box::new(move || w.matmul(compute, black_box(&x), m, black_box(&mut y)))
}

fn transposed(kind: Kind, m: usize) -> Work {
    let (w, g, mut dx) = (weights(&kind), numbers(m * ROWS), vec![0.0; m * COLS]);
    Box::new(move || {
        w.matmul_transposed(Compute::Exact, black_box(&g), m, black_box(&mut dx), false);
    })
}

/// A prompt of 76 rows and 8 branches of 40, with the heads of SmolLM2.
fn attention(backwards: bool) -> Work {
    let shape = HeadShape { heads: 9, kv_heads: 3, head_dim: 64 };
    let mut plan = AttentionPlan::causal(76);
    for _ in 0..8 {
        let own = aligned(plan.slots());
        let seen = std::iter::once(0..76).collect();
        plan.segments.push(Segment { rows: 40, seen, own, past: 0 });
    }
    let (rows, slots) = (plan.rows(), plan.own_slots());
    let mut q = numbers(rows * shape.q_width());
    let (k, v) = (numbers(rows * shape.kv_width()), numbers(rows * shape.kv_width()));
    let mut kv = BackwardKeyValues::default();
    kv.fill(shape, plan.slots(), &slots, &k, &v);
    let (mut out, mut by_head) = (numbers(q.len()), Floats::default());
    let (mut dk, mut dv) = (k, v);
    Box::new(move || match backwards {
        false => attend(black_box(&q), kv.forward(), shape, &plan, (&mut by_head, &mut out)),
        true => attend_backward(&mut q, &mut kv, &out, shape, &plan, (&slots, &mut dk, &mut dv)),
    })
}

/// Branches that never stop by themselves.
struct Never;

impl Stop for Never {
    fn push(&mut self, _: u32) -> bool {
        false
    }
}

fn decoding() -> Work {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
    let file = GgufFile::open(&path).expect("the fixture is there");
    let model =
        CpuEngine::load(&file, Compute::Fast, DeviceKind::Cpu).expect("the fixture is sound");
    let limits = Limits {
        branches: 8,
        max_new_tokens: 16,
        batch: 8,
        continuation: 0,
        pick: Pick::Sample { temperature: 1.0 },
    };
    Box::new(move || {
        let interrupt = Interrupt::new();
        let policy = Policy { model: &model, lora: None, interrupt: &interrupt };
        let rng = |task: usize, branch: usize| stream(0, 1, task as u64, branch as u64);
        generate(policy, &[(5..45).collect()], limits, rng, |_| Never, |_| {}).expect("it samples");
    })
}

fn weights(kind: &Kind) -> PackedMatrix {
    let mut file = vec![0; ROWS * COLS / 32 * kind.bytes];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut file);
    for block in file.chunks_exact_mut(kind.bytes) {
        for &at in kind.scales {
            block[at..at + 2].copy_from_slice(&f16::from_f32(0.01).to_le_bytes());
        }
    }
    PackedMatrix::pack(kind.ty, ROWS, COLS, &file).expect("the bytes have the right length")
}

fn numbers(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    (0..count).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
}
