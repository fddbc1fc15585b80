//! How fast the worker yields the processor and the memory.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `LATROD_MODEL` | the model to train | the tiny one |
//! | `LATROD_TASKS` | tasks for it | those of the tiny one |
//! | `LATROD_YIELDS` | how often it has to yield in each way | 5 |
//!
//! Prints what it measures (`--nocapture`); run it on a release build (`LATROD_BIN`) for figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use latrod::latro::settings::TrainSettings;
use latrod::worker::child::{End, WorkerEvent};
use latrod::worker::protocol::{FromWorker, Setup, ToWorker, TrainJob};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::time::sleep;

use super::support::{fixture, repeats};
use super::worker::driven::{Driven, endless, setup, train};

/// How often the kernel adds up the time of a running thread, at least: what was used before a freeze
/// may show this much later.
#[cfg(target_os = "linux")]
const TICK: Duration = Duration::from_millis(10);

fn given(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| fixture(default), PathBuf::from)
}

fn endless_job(dir: &Path) -> TrainJob {
    let settings = TrainSettings { steps: 1_000_000, num_generations: 8, ..TrainSettings::edge() };
    TrainJob { tasks: given("LATROD_TASKS", "tiny-train.jsonl"), settings, ..endless(dir) }
}

async fn working(dir: &Path) -> Driven {
    let job = endless_job(dir);
    let setup = Setup {
        model: given("LATROD_MODEL", "tiny.gguf"),
        threads: 0,
        settings: job.settings.clone(),
        ..setup()
    };
    let (mut worker, loaded) = Driven::loaded(setup).await;
    println!("{}: loaded in {:.2} s, {} threads", loaded.file, loaded.load_s, loaded.threads);
    worker.send(train(&job)).await;
    worker
}

/// Lets it work for a random time, so that it is met at any of its occupations.
async fn work_on(worker: &mut Driven, rng: &mut ChaCha8Rng) {
    let moment = sleep(Duration::from_millis(rng.next_u64() % 1500));
    tokio::pin!(moment);
    loop {
        tokio::select! {
            () = &mut moment => return,
            event = worker.0.next() => {
                assert!(matches!(event, WorkerEvent::Message(_)), "{event:?}");
            }
        }
    }
}

/// Nanoseconds of processor time of all threads (the first number of `schedstat`, proc(5)).
#[cfg(target_os = "linux")]
fn processor_ns(worker: &Driven) -> u64 {
    let of_thread = |path: PathBuf| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    worker.threads().into_iter().filter_map(of_thread).sum()
}

fn resident_mib(worker: &Driven) -> u64 {
    let status = format!("/proc/{}/status", worker.0.pid().unwrap());
    let text = fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn summary(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{name}: median {median:.1?}, at most {most:.1?}, n = {}", times.len());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn frozen_it_uses_no_more_of_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = working(folder.path()).await;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut until_still, mut used) = (Vec::new(), Vec::new());

    for _ in 0..repeats("LATROD_YIELDS", 5) {
        work_on(&mut worker, &mut rng).await;
        let before = processor_ns(&worker);
        let frozen = Instant::now();
        worker.0.freeze().unwrap();
        let (mut last, mut changed) = (before, Duration::ZERO);
        while frozen.elapsed() < Duration::from_millis(300) {
            let (now, at) = (processor_ns(&worker), frozen.elapsed());
            if now != last {
                (last, changed) = (now, at);
            }
        }
        let more = Duration::from_nanos(last - before);
        let threads = u32::try_from(worker.threads().len()).unwrap();
        assert!(more <= TICK * threads, "it used {more:?} of the processor after it was frozen");
        until_still.push(changed);
        used.push(more);
        worker.0.thaw().unwrap();
    }

    summary("from freeze() to the last use of the processor", until_still);
    summary("processor time used in between, all threads", used);
}

#[tokio::test]
async fn stopped_it_answers_soon() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = working(folder.path()).await;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut times = Vec::new();

    for _ in 0..repeats("LATROD_YIELDS", 5) {
        work_on(&mut worker, &mut rng).await;
        let asked = Instant::now();
        worker.send(ToWorker::Stop).await;
        assert_eq!(worker.answer().await, FromWorker::Stopped);
        times.push(asked.elapsed());
        worker.send(train(&endless_job(folder.path()))).await;
    }

    assert!(times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}");
    summary("from Stop to Stopped", times);
}

#[tokio::test]
async fn ended_it_gives_its_memory_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut asked_to, mut killed) = (Vec::new(), Vec::new());

    for _ in 0..repeats("LATROD_YIELDS", 5).div_ceil(2) {
        for by_force in [false, true] {
            let mut worker = working(folder.path()).await;
            work_on(&mut worker, &mut rng).await;
            let (mib, begun) = (resident_mib(&worker), Instant::now());
            if by_force {
                worker.0.kill();
                assert_eq!(worker.end().await, End::Killed(9));
                killed.push(begun.elapsed());
            } else {
                let end = worker.0.end(Duration::from_secs(20), |_| {}).await;
                assert_eq!(end, End::Exited(0));
                asked_to.push(begun.elapsed());
            }
            assert_eq!(worker.0.pid(), None, "nothing of it is left");
            println!("{mib} MiB given back");
        }
    }

    summary("from end() to a process that is gone", asked_to);
    summary("from kill() to a process that is gone", killed);
}
