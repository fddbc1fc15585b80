//! What the processor can do at most: rates of multiply-adds and of reading memory.
//!
//! The figures that speed is judged by. Each instruction that could compute a product runs in a
//! loop that does nothing else, its operands in registers; so does reading memory. Which of these
//! instructions the kernels use does not matter here.
//!
//! A rate is what was done between two readings of the clock: by one thread, and by all threads,
//! which start together behind a barrier and whose rates are added up. The best of several short
//! runs counts, since disturbances only make a run slower.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod memory;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Runs of which the best counts.
const RUNS: usize = 5;
/// How long a run lasts, about.
const RUN_TIME: Duration = Duration::from_millis(20);

/// The numbers that a multiply-add takes and the sums it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operands {
    /// f32 into f32.
    F32,
    /// bf16 into f32.
    Bf16,
    /// 8-bit integers into 32-bit ones.
    Int8,
}

/// A rate of one thread, and of all threads together.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Rate {
    /// One thread alone.
    pub one: f64,
    /// The sum over all threads at once.
    pub all: f64,
}

/// How fast one instruction set multiplies and adds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ProductPeak {
    pub operands: Operands,
    /// The instructions in the loop, for example `avx512 vpdpbusd`.
    pub instructions: &'static str,
    /// Whether they multiply whole matrices held in tile registers, not vectors.
    pub tiles: bool,
    /// Billions of operations a second; a multiply-add is two.
    pub giga_per_s: Rate,
}

/// How fast a buffer is read again and again.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ReadPeak {
    /// Size of the buffer, of which each thread reads its share.
    pub bytes: usize,
    /// Billions of bytes a second.
    pub gb_per_s: Rate,
}

/// What [`measure`] found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Peak {
    /// How many threads `all` means.
    pub threads: usize,
    /// Every instruction set that this machine has, per kind of operands the fastest design first;
    /// plain Rust, as the compiler translates it for any machine of this kind, is the last.
    pub products: Vec<ProductPeak>,
    /// Bytes of the last-level cache as the system reports them, else a guess (8 MiB).
    pub cache_bytes: usize,
    /// A buffer that this cache holds with room to spare.
    pub cache: ReadPeak,
    /// A buffer much larger than any cache, unless little memory is free.
    pub memory: ReadPeak,
}

impl Peak {
    /// The fastest product of `operands` on all threads, with tiles or with vectors.
    #[must_use]
    pub fn best(&self, operands: Operands, tiles: bool) -> Option<&ProductPeak> {
        let of_kind = |p: &&ProductPeak| p.operands == operands && p.tiles == tiles;
        let all = self.products.iter().filter(of_kind);
        all.max_by(|a, b| a.giga_per_s.all.total_cmp(&b.giga_per_s.all))
    }
}

/// Measures everything with one thread and with `threads` (at least one) of them. Takes some
/// seconds, and up to 1 GiB of memory, or a quarter of the `free` bytes if that is less.
///
/// Threads are not pinned: more of them than the machine has processors would share these.
#[must_use]
pub fn measure(threads: usize, free: Option<u64>) -> Peak {
    let threads = threads.max(1);
    let products = loops().iter().map(|l| l.measure(threads)).collect();
    let (cache, main) = memory::buffer_sizes(threads, free);
    let read = |bytes| memory::measure(bytes, threads);
    let cache_bytes = memory::cache_size();
    Peak { threads, products, cache_bytes, cache: read(cache), memory: read(main) }
}

/// A loop of multiply-adds.
struct Loop {
    operands: Operands,
    instructions: &'static str,
    tiles: bool,
    /// Operations of one turn; a multiply-add is two.
    operations: usize,
    /// Runs this many turns.
    run: fn(u64),
}

fn loops() -> Vec<Loop> {
    #[cfg(target_arch = "x86_64")]
    let mut all = x86::loops();
    #[cfg(target_arch = "aarch64")]
    let mut all = aarch64::loops();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let mut all = Vec::new();
    all.extend(portable::LOOPS);
    all
}

impl Loop {
    fn measure(&self, threads: usize) -> ProductPeak {
        let turns = self.turns();
        let work = turns as f64 * self.operations as f64 * 1e-9;
        let rate = |threads| best_rate(threads, |_| work / seconds(|| (self.run)(turns)));
        ProductPeak {
            operands: self.operands,
            instructions: self.instructions,
            tiles: self.tiles,
            giga_per_s: Rate { one: rate(1), all: rate(threads) },
        }
    }

    /// Turns that take about [`RUN_TIME`]; finding out also warms the processor up.
    fn turns(&self) -> u64 {
        let (mut turns, enough) = (1000, RUN_TIME.as_secs_f64() / 4.0);
        loop {
            let took = seconds(|| (self.run)(turns));
            if took >= enough {
                return (turns as f64 * RUN_TIME.as_secs_f64() / took) as u64;
            }
            turns *= 4;
        }
    }
}

/// How long `work` takes.
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The best of [`RUNS`] sums of the rates that `run(thread)` returns on each of `threads` at once.
fn best_rate(threads: usize, run: impl Fn(usize) -> f64 + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let (run, barrier) = (&run, &barrier);
    let of_thread = |thread: usize| -> [f64; RUNS] {
        std::array::from_fn(|_| {
            barrier.wait();
            run(thread)
        })
    };
    let sums = thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        let rates = all.into_iter().map(|t| t.join().expect("a measuring loop does not panic"));
        rates.fold([0.0; RUNS], |sums, rates| std::array::from_fn(|i| sums[i] + rates[i]))
    });
    sums.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every loop runs here, and its time grows with its turns: nothing was optimized away.
    #[test]
    fn loops_take_time_for_every_turn() {
        for l in loops() {
            let least = |turns| {
                let times = (0..7).map(|_| seconds(|| (l.run)(turns)));
                times.fold(f64::INFINITY, f64::min)
            };
            let (few, many) = (least(2_000), least(40_000));
            assert!(many > 5.0 * few, "{}: {few} s, {many} s", l.instructions);
            // No processor does 2000 multiply-adds a cycle and thread in vectors, or 32768 in tiles.
            let most = if l.tiles { 32_768.0 } else { 2000.0 } * 1e10;
            assert!(40_000.0 * l.operations as f64 / many < most, "{}", l.instructions);
        }
    }

    #[test]
    fn the_best_run_counts_and_threads_add_up() {
        let runs = std::sync::atomic::AtomicUsize::new(0);
        let rate = best_rate(3, |thread| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) / 3;
            // The third round is the best: 10 + 11 + 12.
            if run == 2 { 10.0 + thread as f64 } else { 1.0 }
        });
        assert!((rate - 33.0).abs() < 1e-12, "{rate}");
    }

    #[test]
    fn the_fastest_of_its_kind_is_chosen() {
        let product = |operands, tiles, all| ProductPeak {
            operands,
            instructions: "",
            tiles,
            giga_per_s: Rate { one: 1.0, all },
        };
        let read = ReadPeak { bytes: 1, gb_per_s: Rate { one: 1.0, all: 1.0 } };
        let products = vec![
            product(Operands::Int8, false, 1.0),
            product(Operands::Int8, true, 9.0),
            product(Operands::Int8, false, 2.0),
            product(Operands::F32, false, 5.0),
        ];
        let peak = Peak { threads: 2, products, cache_bytes: 1, cache: read, memory: read };

        assert_eq!(peak.best(Operands::Int8, false), Some(&peak.products[2]));
        assert_eq!(peak.best(Operands::Int8, true), Some(&peak.products[1]));
        assert_eq!(peak.best(Operands::Bf16, true), None);
    }
}
