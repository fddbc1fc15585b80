//! Drives a real `latrod worker` as the daemon does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use latrod::engine::device::DeviceKind;
use latrod::kernels::Compute;
use latrod::latro::settings::TrainSettings;
use latrod::worker::WorkerSettings;
use latrod::worker::child::{End, Worker, WorkerEvent};
use latrod::worker::protocol::{
    Failure, FailureKind, FromWorker, Loaded, Setup, ToWorker, TrainJob,
};

use crate::support::{SUFFIX, Train, fixture, program};

/// Longer than anything here takes on a busy machine, on which the idle class gets next to nothing;
/// whatever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// The settings of [`Train::quick`].
pub fn quick() -> TrainSettings {
    TrainSettings {
        steps: 4,
        num_generations: 4,
        prompts_per_step: 2,
        max_new_tokens: 24,
        prompt_suffix: SUFFIX.into(),
        rank: 4,
        learning_rate: 1e-3,
        ..TrainSettings::edge()
    }
}

/// The command with the same settings and tasks as [`job`].
pub fn same_by_hand(dir: &Path) -> Train {
    Train::quick(dir).with("--held-out", "0")
}

/// A run on all of the tiny training tasks.
pub fn job(dir: &Path) -> TrainJob {
    TrainJob {
        dir: dir.into(),
        tasks: fixture("tiny-train.jsonl"),
        settings: quick(),
        start: None,
        until_step: None,
    }
}

/// As [`job`], with steps beyond any patience.
pub fn endless(dir: &Path) -> TrainJob {
    TrainJob { settings: TrainSettings { steps: 1_000_000, ..quick() }, ..job(dir) }
}

pub fn train(job: &TrainJob) -> ToWorker {
    ToWorker::Train(Box::new(job.clone()))
}

/// The setup for the tiny model.
pub fn setup() -> Setup {
    Setup {
        model: fixture("tiny.gguf"),
        expected_sha256: None,
        hash_cache: None,
        compute: Compute::Fast,
        device: DeviceKind::Cpu,
        threads: 1,
        batch: 64,
        memory_limit_mib: 0,
        settings: quick(),
        prompt_tokens: 64,
    }
}

/// A worker in a test, that says everything within bounds.
pub struct Driven(pub Worker);

impl Driven {
    /// A worker that has been told nothing yet.
    pub fn start() -> Self {
        Self::start_program(Path::new(&program()))
    }

    /// Another program in its place.
    pub fn start_program(program: &Path) -> Self {
        Self(Worker::spawn(program, &WorkerSettings::default()).unwrap())
    }

    /// A worker with its model loaded.
    pub async fn loaded(setup: Setup) -> (Self, Loaded) {
        let mut driven = Self::start();
        driven.send(ToWorker::Setup(Box::new(setup))).await;
        let FromWorker::Loaded(loaded) = driven.next().await else { panic!("it loads") };
        (driven, *loaded)
    }

    /// A worker with the tiny model.
    pub async fn ready() -> Self {
        Self::loaded(setup()).await.0
    }

    pub async fn send(&mut self, message: ToWorker) {
        self.0.send(&message).await.unwrap();
    }

    /// Starts a worker, has it load the tiny model and do a job, and kills it after some time,
    /// whatever it is at then.
    pub async fn killed_after(time: Duration, job: &TrainJob) {
        let mut driven = Self::start();
        driven.send(ToWorker::Setup(Box::new(setup()))).await;
        let moment = tokio::time::sleep(time);
        tokio::pin!(moment);
        loop {
            tokio::select! {
                () = &mut moment => break,
                event = driven.0.next() => match event {
                    WorkerEvent::Message(FromWorker::Loaded(_)) => driven.send(train(job)).await,
                    WorkerEvent::Message(_) => {}
                    WorkerEvent::Ended(end) => panic!("{end}"),
                },
            }
        }
        driven.0.kill();
        assert_eq!(driven.end().await, End::Killed(9));
    }

    pub async fn event(&mut self) -> WorkerEvent {
        tokio::time::timeout(LIMIT, self.0.next()).await.expect("it says something in time")
    }

    /// The next message.
    pub async fn next(&mut self) -> FromWorker {
        match self.event().await {
            WorkerEvent::Message(message) => message,
            WorkerEvent::Ended(end) => panic!("{end}"),
        }
    }

    /// All messages up to the one that ends the job, without beats.
    pub async fn all(&mut self) -> Vec<FromWorker> {
        let mut said = Vec::new();
        loop {
            let message = self.next().await;
            let last = message.ends_job();
            if !matches!(message, FromWorker::Beat { .. }) {
                said.push(message);
            }
            if last {
                return said;
            }
        }
    }

    /// The message that ends the job.
    pub async fn answer(&mut self) -> FromWorker {
        self.all().await.pop().unwrap()
    }

    /// Does a job that fails; returns why.
    pub async fn failure(&mut self, message: ToWorker) -> Failure {
        self.send(message).await;
        match self.answer().await {
            FromWorker::Failed(failure) => failure,
            other => panic!("not failed, but {other:?}"),
        }
    }

    /// Waits until the job has done a step; returns its number.
    pub async fn a_step(&mut self) -> u64 {
        loop {
            match self.next().await {
                FromWorker::Step(metrics) => return metrics.step,
                other => assert!(!other.ends_job(), "{other:?}"),
            }
        }
    }

    /// Waits for the worker's end.
    pub async fn end(&mut self) -> End {
        loop {
            if let WorkerEvent::Ended(end) = self.event().await {
                return end;
            }
        }
    }

    pub fn ticks(&self) -> u64 {
        self.0.cpu_ticks().expect("it is there")
    }

    /// The files of its threads in `/proc`.
    pub fn threads(&self) -> Vec<PathBuf> {
        let tasks = format!("/proc/{}/task", self.0.pid().unwrap());
        std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[track_caller]
pub fn assert_failure(failure: &Failure, kind: FailureKind, parts: &[&str]) {
    assert_eq!(failure.kind, kind, "{}", failure.sentence);
    for part in parts {
        assert!(failure.sentence.contains(part), "{part:?} in {:?}", failure.sentence);
    }
}
