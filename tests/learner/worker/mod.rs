//! The worker does what the command does, bit by bit, whatever it is put through.

pub mod driven;
mod ends;

use std::fs;
use std::path::Path;
use std::time::Duration;

use latrod::latro::settings::TrainSettings;
use latrod::worker::child::{End, WorkerEvent};
use latrod::worker::protocol::{CompareJob, FailureKind, FromWorker, Setup, ToWorker, TrainJob};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::time::sleep;

use self::driven::{Driven, assert_failure, endless, job, quick, same_by_hand, setup, train};
use super::disk::Disk;
use super::support::{adapter_bytes, fixture, metrics, numbers, repeats, text};

/// What `sha256sum` says of the model.
fn sha256sum(path: &Path) -> String {
    let out = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn it_trains_as_the_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let (by_hand, dir) = (folder.path().join("by-hand"), folder.path().join("worker"));
    same_by_hand(&by_hand).run().done();

    let (mut worker, loaded) = Driven::loaded(setup()).await;
    worker.send(train(&job(&dir))).await;
    let said = worker.all().await;
    worker.0.end(Duration::from_secs(10), |_| {}).await;

    assert!(adapter_bytes(&dir) == adapter_bytes(&by_hand), "the same adapter, bit by bit");
    assert_eq!(loaded.sha256, sha256sum(&fixture("tiny.gguf")));
    assert_eq!((loaded.architecture.as_str(), loaded.batch, loaded.threads), ("llama", 64, 1));
    let FromWorker::Began(began) = &said[0] else { panic!("{said:?}") };
    assert_eq!((began.step, began.left_out, began.batch), (0, 0, 64));
    let steps: Vec<u64> = said
        .iter()
        .filter_map(|m| if let FromWorker::Step(m) = m { Some(m.step) } else { None })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    assert_eq!(said.last(), Some(&FromWorker::Trained { steps: 4 }));
}

#[tokio::test]
async fn a_run_can_be_done_in_parts_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (by_hand, dir) = (folder.path().join("by-hand"), folder.path().join("worker"));
    same_by_hand(&by_hand).run().done();
    let mut worker = Driven::ready().await;

    worker.send(ToWorker::Stop).await;
    worker.send(train(&TrainJob { until_step: Some(1), ..job(&dir) })).await;
    assert_eq!(worker.answer().await, FromWorker::Trained { steps: 1 }, "an early stop is nothing");
    for _ in 0..3 {
        worker.send(train(&job(&dir))).await;
        worker.send(ToWorker::Stop).await;
        assert_eq!(worker.answer().await, FromWorker::Stopped);
    }
    worker.send(train(&job(&dir))).await;
    let said = worker.all().await;

    assert_eq!(said.last(), Some(&FromWorker::Trained { steps: 4 }));
    assert!(adapter_bytes(&dir) == adapter_bytes(&by_hand), "the same adapter, bit by bit");
}

#[tokio::test]
async fn frozen_it_computes_nothing_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (by_hand, dir) = (folder.path().join("by-hand"), folder.path().join("worker"));
    same_by_hand(&by_hand).run().done();
    let mut worker = Driven::ready().await;
    let mut rng = ChaCha8Rng::seed_from_u64(5);

    worker.send(train(&job(&dir))).await;
    let (mut freezes, mut last) = (0, None);
    while last.is_none() {
        let moment = sleep(Duration::from_millis(rng.next_u64() % 30));
        tokio::select! {
            () = moment => {}
            event = worker.0.next() => match event {
                WorkerEvent::Message(message) if message.ends_job() => last = Some(message),
                WorkerEvent::Message(_) => {}
                WorkerEvent::Ended(end) => panic!("{end}"),
            }
        }
        worker.0.freeze().unwrap();
        assert!(worker.0.is_frozen());
        sleep(Duration::from_millis(10)).await;
        let ticks = worker.ticks();
        sleep(Duration::from_millis(150)).await;
        // A thread that was waiting for a processor is given one once more, to stop.
        let more = worker.ticks() - ticks;
        assert!(
            more <= worker.threads().len() as u64,
            "{more} ticks of processor time while frozen"
        );
        worker.0.thaw().unwrap();
        freezes += 1;
    }

    assert_eq!(last, Some(FromWorker::Trained { steps: 4 }));
    assert!(freezes >= 5, "{freezes}");
    assert!(adapter_bytes(&dir) == adapter_bytes(&by_hand), "the same adapter, bit by bit");
}

#[tokio::test]
async fn killed_at_any_moment_the_next_one_goes_on() {
    let kills = repeats("LATROD_KILLS", 8);
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start");
    same_by_hand(&start).with("--seed", "9").run().done();
    let run = |dir: &Path| TrainJob { start: Some(start.clone()), ..job(dir) };
    let (expected, dir) = (folder.path().join("expected"), folder.path().join("killed"));
    let mut worker = Driven::ready().await;
    worker.send(train(&run(&expected))).await;
    worker.answer().await;
    let mut rng = ChaCha8Rng::seed_from_u64(7);

    for _ in 0..kills {
        let time = Duration::from_millis(rng.next_u64() % 600);
        Driven::killed_after(time, &run(&dir)).await;
    }
    let mut worker = Driven::ready().await;
    worker.send(train(&run(&dir))).await;

    assert_eq!(worker.answer().await, FromWorker::Trained { steps: 4 });
    assert!(adapter_bytes(&dir) == adapter_bytes(&expected), "the same adapter, bit by bit");
    let steps = numbers(&metrics(&dir), "step");
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0], "each step once");
}

#[tokio::test]
async fn a_run_begins_with_an_adapter_and_goes_back_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let start = folder.path().join("start");
    same_by_hand(&start).run().done();
    let mut worker = Driven::ready().await;
    let run = |name: &str, start: Option<&Path>| TrainJob {
        start: start.map(Path::to_owned),
        ..job(&folder.path().join(name))
    };

    worker.send(train(&run("anew", None))).await;
    worker.answer().await;
    worker.send(train(&run("onwards", Some(&start)))).await;
    worker.answer().await;
    let mut diverging = run("diverging", Some(&start));
    diverging.settings =
        TrainSettings { steps: 50, learning_rate: 1e30, warmup_steps: 0, ..quick() };
    worker.send(train(&diverging)).await;
    let said = worker.all().await;

    let bytes = |name: &str| adapter_bytes(&folder.path().join(name));
    assert!(bytes("anew") == bytes("start"), "the same settings, the same start, the same end");
    assert!(bytes("onwards") != bytes("start"));
    let back: Vec<u64> = said
        .iter()
        .filter_map(|m| if let FromWorker::Sentinel { step, .. } = m { Some(*step) } else { None })
        .collect();
    assert_eq!(back, [0, 0], "two trips set it back to its start, {said:?}");
    assert!(matches!(said.last(), Some(FromWorker::GaveUp { .. })), "the third ends it");
    assert!(bytes("diverging") == bytes("start"), "what it leaves is what it began with");
}

#[tokio::test]
async fn an_adapter_that_does_not_fit_is_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let [start, dir] = ["start", "run"].map(|name| folder.path().join(name));
    same_by_hand(&start).with("--steps", "1").run().done();
    let mut worker = Driven::ready().await;
    let with = |settings: TrainSettings, start: &Path| {
        train(&TrainJob { settings, start: Some(start.to_owned()), ..job(&dir) })
    };

    let rank = worker.failure(with(TrainSettings { rank: 8, ..quick() }, &start)).await;
    let alpha = worker.failure(with(TrainSettings { alpha: 8.0, ..quick() }, &start)).await;
    let invalid =
        worker.failure(with(TrainSettings { num_generations: 1, ..quick() }, &start)).await;
    let missing = worker.failure(with(quick(), &folder.path().join("none"))).await;
    fs::write(start.join("adapter_model.safetensors"), "nonsense").unwrap();
    let damaged = worker.failure(with(quick(), &start)).await;

    assert_failure(&rank, FailureKind::Settings, &["rank 8", "rank 4", text(&start)]);
    assert_failure(&alpha, FailureKind::Settings, &["alpha 8", "alpha 32"]);
    assert_failure(&invalid, FailureKind::Settings, &["num_generations is 1"]);
    assert_failure(&missing, FailureKind::Other, &["none", "check the path"]);
    assert_failure(&damaged, FailureKind::Damaged, &["adapter_model.safetensors"]);
    assert!(!dir.exists(), "and nothing was begun");
}

#[tokio::test]
async fn a_folder_keeps_to_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let [start, dir] = ["start", "run"].map(|name| folder.path().join(name));
    same_by_hand(&start).with("--steps", "1").run().done();
    let mut worker = Driven::ready().await;
    worker.send(train(&TrainJob { until_step: Some(1), ..job(&dir) })).await;
    worker.answer().await;

    let other = TrainJob { settings: TrainSettings { seed: 5, ..quick() }, ..job(&dir) };
    let other = worker.failure(train(&other)).await;
    let begun = worker.failure(train(&TrainJob { start: Some(start), ..job(&dir) })).await;
    let tasks = folder.path().join("tasks.jsonl");
    let none = worker.failure(train(&TrainJob { tasks: tasks.clone(), ..job(&dir) })).await;
    fs::write(&tasks, "canary\n").unwrap();
    let bad = worker.failure(train(&TrainJob { tasks, ..job(&dir) })).await;
    let mut second = Driven::ready().await;
    second.send(train(&endless(&folder.path().join("busy")))).await;
    second.a_step().await;
    let busy = worker.failure(train(&endless(&folder.path().join("busy")))).await;

    assert_failure(&other, FailureKind::OtherRun, &["seed = 0"]);
    assert_failure(&begun, FailureKind::OtherRun, &["no adapter to start from"]);
    assert_failure(&none, FailureKind::Tasks, &["tasks.jsonl"]);
    assert_failure(&bad, FailureKind::Tasks, &["holds no good task"]);
    assert!(!bad.sentence.contains("canary"), "{}", bad.sentence);
    assert_failure(&busy, FailureKind::Busy, &["in use by another latrod"]);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_not_loaded() {
    let mut worker = Driven::start();
    let tight = Setup { memory_limit_mib: 15, ..setup() };

    let failure = worker.failure(ToWorker::Setup(Box::new(tight))).await;

    assert_failure(&failure, FailureKind::Memory, &["takes", "memory_limit_mib allows 15 MiB"]);
    assert_eq!(worker.end().await, End::Exited(1));
}

#[tokio::test]
async fn a_model_that_is_missing_other_or_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (model, cache) = (folder.path().join("model.gguf"), folder.path().join("hash.json"));
    let of = |sha256: Option<&str>| Setup {
        model: model.clone(),
        hash_cache: Some(cache.clone()),
        expected_sha256: sha256.map(str::to_owned),
        ..setup()
    };
    let refused = async |setup: Setup| {
        let mut worker = Driven::start();
        let failure = worker.failure(ToWorker::Setup(Box::new(setup))).await;
        assert_eq!(worker.end().await, End::Exited(1));
        failure
    };

    let missing = refused(of(None)).await;
    fs::write(&model, "no model").unwrap();
    let broken = refused(of(None)).await;
    fs::copy(fixture("tiny.gguf"), &model).unwrap();
    let other = refused(of(Some(&"0".repeat(64)))).await;
    let (mut worker, loaded) = Driven::loaded(of(Some(&sha256sum(&model)))).await;
    let copy = folder.path().join("copy.gguf");
    fs::copy(fixture("tiny.gguf"), &copy).unwrap();
    fs::rename(copy, &model).unwrap();
    let replaced = worker.failure(train(&job(&folder.path().join("run")))).await;
    let (mut again, _) = Driven::loaded(of(Some(&loaded.sha256))).await;
    fs::remove_file(&model).unwrap();
    let gone = again.failure(train(&job(&folder.path().join("run")))).await;

    assert_failure(&missing, FailureKind::Model, &["cannot read the model", "model.gguf"]);
    assert_failure(&broken, FailureKind::Model, &["model.gguf"]);
    assert_failure(&other, FailureKind::ModelChanged, &["another model than before"]);
    assert_failure(&replaced, FailureKind::ModelChanged, &["load it again"]);
    assert_failure(&gone, FailureKind::Model, &["cannot read the model"]);
}

#[tokio::test]
async fn a_comparison_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    same_by_hand(&first).run().done();
    same_by_hand(&second).with("--seed", "9").run().done();
    let compare = |out: &str| {
        ToWorker::Compare(Box::new(CompareJob {
            out: folder.path().join(out),
            tasks: fixture("tiny-dev.jsonl"),
            baseline: Some(first.clone()),
            candidate: second.clone(),
            max_questions: 40,
            settings: quick(),
            general_prompts: None,
            gguf: None,
        }))
    };
    let few = Setup { batch: 8, ..setup() };

    let (mut worker, _) = Driven::loaded(few.clone()).await;
    worker.send(compare("whole.json")).await;
    let said = worker.all().await;
    let (mut killed, _) = Driven::loaded(few.clone()).await;
    killed.send(compare("killed.json")).await;
    while !matches!(killed.next().await, FromWorker::Progress { done, .. } if done >= 16) {}
    killed.0.kill();
    killed.end().await;
    let (mut worker, _) = Driven::loaded(few).await;
    worker.send(compare("killed.json")).await;
    let went_on = worker.all().await;

    assert!(matches!(&said[0], FromWorker::Began(began) if began.tasks == 40 && began.batch == 8));
    let path = folder.path().join("whole.json");
    assert_eq!(said.last(), Some(&FromWorker::Compared { path: path.clone() }));
    assert!(matches!(went_on[1], FromWorker::Progress { done, .. } if done >= 16), "{went_on:?}");
    let result = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(result("whole.json") == result("killed.json"), "the same numbers");
    let question = fs::read_to_string(fixture("tiny-dev.jsonl")).unwrap();
    let question: serde_json::Value =
        serde_json::from_str(question.lines().next().unwrap()).unwrap();
    let text = String::from_utf8(result("whole.json")).unwrap();
    assert!(!text.contains(question["question"].as_str().unwrap()), "no text of tasks");
}

#[tokio::test]
async fn a_full_disk_stops_a_job_and_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    same_by_hand(folder.path()).run().done();
    let mut worker = Driven::ready().await;
    let run = job(&disk.folder());
    worker.send(train(&TrainJob { until_step: Some(1), ..run.clone() })).await;
    worker.answer().await;

    let filler = disk.fill();
    let full = worker.failure(train(&run)).await;
    fs::remove_file(&filler).unwrap();
    disk.make_read_only();
    let read_only = worker.failure(train(&run)).await;
    disk.make_writable();
    worker.send(train(&run)).await;

    assert_failure(&full, FailureKind::DiskFull, &["free some space"]);
    assert_failure(&read_only, FailureKind::ReadOnly, &["can be written to"]);
    assert_eq!(worker.answer().await, FromWorker::Trained { steps: 4 });
    assert!(adapter_bytes(&disk.folder()) == adapter_bytes(folder.path()), "the same bits");
}
