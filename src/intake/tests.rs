use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::commit::Phase;
use super::*;
use crate::data::Task;
use crate::data::split::is_held_out;
use crate::store::ledger::Ledger;
use crate::store::ledger::TaskCounts;

const NOW: i64 = 1_790_000_000;

/// A device: its spool, its state, and a clock.
struct Place {
    dir: TempDir,
    settings: SpoolSettings,
    clock: Duration,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        fs::create_dir(&folder).unwrap();
        let settings = SpoolSettings { folder, settle_s: 0, ..SpoolSettings::default() };
        Self { dir, settings, clock: Duration::ZERO }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn ledger(&self) -> Ledger {
        fs::create_dir_all(self.state()).unwrap();
        Ledger::open_at(&self.state().join("ledger.db"), &[], NOW).unwrap().0
    }

    fn spool(&self) -> Spool {
        Spool::new(self.settings.clone(), &self.state())
    }

    fn drop_file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.settings.folder.join(name), content).unwrap();
    }

    fn spool_names(&self) -> Vec<String> {
        names_in(&self.settings.folder)
    }

    /// Scans until there is nothing more to do at once, with all numbers added up.
    fn scan(&mut self, spool: &mut Spool, ledger: &Ledger) -> ScanReport {
        let mut sum = ScanReport::default();
        loop {
            self.clock += Duration::from_millis(1);
            let report = spool.scan(ledger, self.clock, NOW).unwrap();
            sum.files += report.files;
            sum.train += report.train;
            sum.held_out += report.held_out;
            sum.duplicates += report.duplicates;
            sum.rejected += report.rejected;
            sum.forgotten += report.forgotten;
            sum.restored += report.restored;
            sum.unsettled = report.unsettled;
            sum.problem_count += report.problem_count;
            sum.problems.extend(report.problems);
            if !report.more {
                return sum;
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.clock += Duration::from_secs(seconds);
    }

    fn quarantined(&self) -> Vec<serde_json::Value> {
        let dir = self.state().join("quarantine");
        let lines = names_in(&dir).into_iter().flat_map(|name| {
            let text = fs::read_to_string(dir.join(name)).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn task(n: usize) -> Task {
    Task::new(format!("What is {n} + 1?"), (n + 1).to_string())
}

fn lines(numbers: impl IntoIterator<Item = usize>) -> String {
    let line = |n| {
        let Task { question, answer, .. } = task(n);
        serde_json::json!({"question": question, "answer": answer}).to_string() + "\n"
    };
    numbers.into_iter().map(line).collect()
}

/// All tasks of the ledger that are in use, each with its number and its side.
fn stored(ledger: &Ledger) -> BTreeMap<i64, (Task, bool)> {
    let train = ledger.snapshot_train(usize::MAX, usize::MAX).unwrap();
    let held_out = ledger.held_out(usize::MAX, usize::MAX, None).unwrap();
    let with = |side| move |t: crate::store::ledger::StoredTask| (t.sequence, (t.task, side));
    train.into_iter().map(with(false)).chain(held_out.into_iter().map(with(true))).collect()
}

fn total(counts: TaskCounts) -> u64 {
    counts.train + counts.held_out + counts.set_aside
}

#[test]
fn a_dropped_file_becomes_tasks_and_goes() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..50) + "broken\n" + &lines(0..10));

    let report = place.scan(&mut spool, &ledger);

    assert_eq!((report.files, report.train + report.held_out), (1, 50));
    assert_eq!((report.duplicates, report.rejected), (10, 1));
    assert!(place.spool_names().is_empty());
    let stored = stored(&ledger);
    assert_eq!(stored.keys().copied().collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    for (n, (task_there, side)) in stored.values().enumerate() {
        assert_eq!((task_there, *side), (&task(n), is_held_out(&task(n), 0.1)));
    }
    let quarantined = place.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert_eq!((&quarantined[0]["line"], &quarantined[0]["text"]), (&51.into(), &"broken".into()));
    assert!(place.scan(&mut spool, &ledger).is_quiet());
}

#[test]
fn a_file_is_read_once_it_has_stopped_changing() {
    let mut place = Place::new();
    place.settings.settle_s = 2;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..3));
    assert_eq!(place.scan(&mut spool, &ledger).unsettled, 1);
    place.wait(3);
    place.drop_file("a.jsonl", lines(0..9));
    let growing = place.scan(&mut spool, &ledger);
    assert_eq!((growing.files, growing.unsettled), (0, 1));
    place.wait(1);
    assert_eq!(place.scan(&mut spool, &ledger).files, 0);
    place.wait(1);

    let settled = place.scan(&mut spool, &ledger);

    assert_eq!((settled.files, settled.train + settled.held_out), (1, 9));
}

#[test]
fn a_file_that_ends_within_a_line_gets_more_time() {
    let mut place = Place::new();
    place.settings.settle_s = 2;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    let whole = lines(0..4);
    place.drop_file("a.jsonl", &whole[..whole.len() - 20]);
    place.drop_file("b.jsonl", whole[..whole.len() - 20].replace("What", "Who"));
    place.scan(&mut spool, &ledger);
    place.wait(2);
    assert_eq!(place.scan(&mut spool, &ledger).unsettled, 2);
    assert_eq!(place.spool_names(), ["a.jsonl", "b.jsonl"]);
    place.wait(10);
    place.drop_file("a.jsonl", &whole);
    place.scan(&mut spool, &ledger);
    place.wait(2);
    let first = place.scan(&mut spool, &ledger);
    assert_eq!((first.files, first.rejected), (1, 0));
    place.wait(20);

    let second = place.scan(&mut spool, &ledger);

    assert_eq!((second.files, second.rejected), (1, 1));
    assert_eq!(total(ledger.task_counts().unwrap()), 7);
    assert!(place.spool_names().is_empty());
}

#[test]
fn what_is_no_task_file_is_left_alone_and_said_once() {
    let mut place = Place::new();
    place.settings.max_file_mib = 1;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for name in [".hidden.jsonl", "a.jsonl.tmp", "b.csv.part", "c.jsonl~", "empty.jsonl"] {
        place.drop_file(name, if name == "empty.jsonl" { String::new() } else { lines(0..1) });
    }
    fs::create_dir(place.settings.folder.join("folder.jsonl")).unwrap();
    place.drop_file("notes.txt", "x");
    place.drop_file("array.json", "[\n{\"question\": \"q\", \"answer\": 1}\n]");
    place.drop_file("table.csv", "a,b\n1,2\n");
    place.drop_file("large.jsonl", vec![b'\n'; (1 << 20) + 1]);
    let outside = place.dir.path().join("outside");
    fs::write(&outside, lines(0..5)).unwrap();
    std::os::unix::fs::symlink(&outside, place.settings.folder.join("link.jsonl")).unwrap();
    #[cfg(target_os = "linux")]
    {
        let pipe = place.settings.folder.join("pipe.jsonl");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let before = place.spool_names();

    let report = place.scan(&mut spool, &ledger);

    let mut said: Vec<_> = report.problems.iter().map(|t| t.file.as_str()).collect();
    said.sort_unstable();
    let mut expected = vec!["array.json", "large.jsonl", "link.jsonl", "notes.txt", "table.csv"];
    if cfg!(target_os = "linux") {
        expected.insert(4, "pipe.jsonl");
    }
    assert_eq!(said, expected);
    assert_eq!((report.files, total(ledger.task_counts().unwrap())), (0, 0));
    assert_eq!(place.spool_names(), before);
    assert!(place.scan(&mut spool, &ledger).is_quiet());
    // Mended, it is read.
    place.drop_file("table.csv", "question,answer\n1+1?,2\n");
    assert_eq!(place.scan(&mut spool, &ledger).files, 1);
}

#[test]
fn hostile_names_do_no_harm() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    let long = "x".repeat(249) + ".jsonl";
    let names: Vec<OsString> = [
        "new\nline.jsonl",
        "'; DROP TABLE tasks; --.jsonl",
        "\u{1b}[31m.jsonl",
        "-rf.jsonl",
        "..jsonl.jsonl",
        " .jsonl",
        "ä\u{202e}.jsonl",
        &long,
    ]
    .iter()
    .map(OsString::from)
    .chain([OsStr::from_bytes(b"\xff\xfe.jsonl").to_owned()])
    .collect();
    for (n, name) in names.iter().enumerate() {
        fs::write(place.settings.folder.join(name), lines(n..n + 1) + "bad\n").unwrap();
    }

    let report = place.scan(&mut spool, &ledger);

    // One name is hidden.
    assert_eq!((report.files, report.rejected), (names.len() as u64 - 1, names.len() as u64 - 1));
    assert_eq!(place.spool_names(), ["..jsonl.jsonl"]);
    assert_eq!(place.quarantined().len(), names.len() - 1);
    let mut shown = ScanReport::default();
    shown.problem(OsStr::new("a\n\u{1b}b"), "x".into());
    assert_eq!(shown.problems[0].file, "a\\n\\u{1b}b");
}

#[test]
fn ten_thousand_small_files_take_few_rounds() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for n in 0..10_000 {
        place.drop_file(&format!("{n}.jsonl"), lines(n..n + 1));
    }

    let report = place.scan(&mut spool, &ledger);

    assert_eq!((report.files, report.train + report.held_out), (10_000, 10_000));
    assert!(place.spool_names().is_empty());
    let archives = names_in(&place.state().join("tasks"));
    assert!(archives.len() < 100, "{}", archives.len());
}

#[test]
fn a_large_file_is_read_in_pieces_and_a_huge_line_skipped() {
    let mut place = Place::new();
    place.settings.max_line_kib = 64;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    let huge = format!("{{\"question\": \"{}\", \"answer\": 1}}\n", "x".repeat(8 << 20));
    place.drop_file("a.jsonl", huge + &lines(0..10_000));

    let first = spool.scan(&ledger, Duration::ZERO, NOW).unwrap();

    assert!(first.more && first.files == 0 && first.train < 5000, "{first:?}");
    let rest = place.scan(&mut spool, &ledger);
    assert_eq!((rest.files, rest.rejected), (1, 1));
    assert_eq!(total(ledger.task_counts().unwrap()), 10_000);
    let quarantined = place.quarantined();
    assert!(quarantined[0]["text"].as_str().unwrap().len() <= 4096);
    assert!(quarantined[0]["reason"].as_str().unwrap().contains("65536 bytes"));
}

#[test]
fn blank_lines_and_bad_lines_count_against_a_scan() {
    for line in ["\n", "x\n"] {
        let place = Place::new();
        let (ledger, mut spool) = (place.ledger(), place.spool());
        place.drop_file("a.jsonl", line.repeat(5000));

        let report = spool.scan(&ledger, Duration::ZERO, NOW).unwrap();

        assert!(report.more && report.files == 0, "{report:?}");
    }
}

#[test]
fn a_file_written_again_while_it_is_taken_is_read_again() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..3));
    let path = place.settings.folder.join("a.jsonl");
    spool.after_phase = Some(Box::new(move |phase| {
        if phase == Phase::Recorded {
            fs::write(&path, lines(2..7)).unwrap();
        }
    }));
    place.scan(&mut spool, &ledger);
    assert_eq!(place.spool_names(), ["a.jsonl"]);
    spool.after_phase = None;

    place.scan(&mut spool, &ledger);

    assert_eq!(total(ledger.task_counts().unwrap()), 7);
    assert!(place.spool_names().is_empty());
}

#[test]
fn taken_files_are_moved_if_asked_for() {
    let mut place = Place::new();
    place.settings.keep_taken = true;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for n in 0..3 {
        place.drop_file("a.jsonl", lines(n..n + 1));
        place.scan(&mut spool, &ledger);
    }

    assert_eq!(
        names_in(&place.settings.folder.join("taken")),
        ["1-a.jsonl", "2-a.jsonl", "a.jsonl"]
    );
    assert_eq!(total(ledger.task_counts().unwrap()), 3);
}

#[test]
fn a_file_that_cannot_be_removed_is_taken_once_also_after_a_restart() {
    let mut place = Place::new();
    place.settings.keep_taken = true;
    // Removing fails: where the folder for taken files would be, there is a file.
    place.drop_file("taken", "");
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..5));
    let first = place.scan(&mut spool, &ledger);
    assert_eq!((first.files, first.problem_count), (1, 1));
    assert!(first.problems[0].reason.contains("cannot be removed"));

    let again = place.scan(&mut spool, &ledger);
    let mut spool = place.spool();
    let restarted = place.scan(&mut spool, &ledger);

    assert!(again.is_quiet() && restarted.is_quiet(), "{again:?} {restarted:?}");
    place.drop_file("a.jsonl", lines(3..8));
    assert_eq!(place.scan(&mut spool, &ledger).files, 1);
    assert_eq!(total(ledger.task_counts().unwrap()), 8);
}

#[test]
fn the_oldest_tasks_go_and_their_archive_files_with_them() {
    let mut place = Place::new();
    place.settings.max_tasks = 100;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for n in 0..5 {
        place.drop_file("a.jsonl", lines(n * 60..(n + 1) * 60));
        place.scan(&mut spool, &ledger);
    }

    let numbers: Vec<_> = stored(&ledger).into_keys().collect();
    assert_eq!(numbers, (201..=300).collect::<Vec<_>>());
    assert_eq!(names_in(&place.state().join("tasks")).len(), 2);
}

#[test]
fn many_small_archive_files_become_few() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for n in 0..200 {
        place.drop_file("a.jsonl", lines(n..n + 1));
        place.scan(&mut spool, &ledger);
    }
    let before = stored(&ledger);

    assert!(names_in(&place.state().join("tasks")).len() < 70);
    drop(ledger);
    fs::remove_file(place.state().join("ledger.db")).unwrap();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    assert_eq!(spool.restore(&ledger, NOW).unwrap(), 200);
    assert_eq!(stored(&ledger), before);
    assert_eq!(ledger.rebuilt_at().unwrap(), Some(NOW));
}

#[test]
fn a_lost_ledger_comes_back_with_the_same_numbers_and_sides() {
    let mut place = Place::new();
    place.settings.held_out_share = 0.3;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..300));
    place.drop_file("b.csv", "question,answer\nx?,y\n");
    place.scan(&mut spool, &ledger);
    let aside: Vec<_> = [task(7).id(), task(8).id()].into();
    assert_eq!(spool.set_aside(&ledger, &aside, true).unwrap(), 2);
    let before = (stored(&ledger), ledger.task_counts().unwrap());
    drop(ledger);
    fs::write(place.state().join("ledger.db"), "damaged").unwrap();
    // Another share from now on must not move what is known.
    place.settings.held_out_share = 0.9;

    let (ledger, aside) = Ledger::open_at(&place.state().join("ledger.db"), &[], NOW + 5).unwrap();
    let mut spool = place.spool();
    let report = place.scan(&mut spool, &ledger);

    assert!(aside.is_some());
    assert_eq!(report.restored, 301);
    assert_eq!((stored(&ledger), ledger.task_counts().unwrap()), before);
    assert_eq!(ledger.rebuilt_at().unwrap(), Some(NOW + 5));
    place.drop_file("c.jsonl", lines(300..301));
    place.scan(&mut spool, &ledger);
    assert_eq!(ledger.newest_sequence().unwrap(), 302);
    assert_eq!(spool.take_back_all(&ledger).unwrap(), 2);
    assert_eq!(ledger.task_counts().unwrap().set_aside, 0);
}

#[test]
fn a_question_stays_on_its_side_when_the_share_changes() {
    let mut place = Place::new();
    place.settings.held_out_share = 0.0;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", "{\"question\": \"Why so?\", \"answer\": \"a\"}\n");
    place.scan(&mut spool, &ledger);
    place.settings.held_out_share = 0.999_999;
    let mut spool = place.spool();
    place.drop_file("b.jsonl", "{\"question\": \"why  SO?\", \"answer\": \"b\"}\n");

    let report = place.scan(&mut spool, &ledger);

    assert_eq!((report.train, report.held_out), (1, 0));
}

#[test]
fn damaged_archive_lines_cost_only_themselves() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("a.jsonl", lines(0..10));
    place.scan(&mut spool, &ledger);
    drop(ledger);
    fs::remove_file(place.state().join("ledger.db")).unwrap();
    let dir = place.state().join("tasks");
    let path = dir.join(&names_in(&dir)[0]);
    let mut text = fs::read_to_string(&path).unwrap();
    text = text.replacen("\"question\"", "\"qu\u{0}stion\"", 1);
    text += "{\"question\": \"\", \"answer\": \"\"}\nrubbish\n";
    text += "{\"question\": \"more\", \"answer\": \"1\", \"sequence\": 9223372036854775807}\n";
    text += "{\"question\": \"same\", \"answer\": \"1\", \"sequence\": 3}\n";
    fs::write(&path, text).unwrap();
    let (ledger, mut spool) = (place.ledger(), place.spool());

    assert_eq!(spool.restore(&ledger, NOW).unwrap(), 11);

    assert_eq!(ledger.newest_sequence().unwrap(), 12);
    let numbers: BTreeSet<_> = stored(&ledger).into_keys().collect();
    assert_eq!(numbers.len(), 11);
}

#[test]
fn the_quarantine_is_bounded() {
    let mut place = Place::new();
    place.settings.max_quarantine_mib = 1;
    let (ledger, mut spool) = (place.ledger(), place.spool());
    for n in 0..4 {
        let bad = format!("{}{n}\n", "x".repeat(3000)).repeat(300);
        place.drop_file("a.jsonl", bad);
        place.scan(&mut spool, &ledger);
    }
    place.drop_file("b.jsonl", "x\n".repeat(1500));
    place.scan(&mut spool, &ledger);

    let dir = place.state().join("quarantine");
    let bytes: u64 =
        names_in(&dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes}");
}

#[test]
fn only_a_part_of_many_bad_lines_is_described() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    place.drop_file("b.jsonl", "x\n".repeat(1500));

    assert_eq!(place.scan(&mut spool, &ledger).rejected, 1500);

    let quarantined = place.quarantined();
    assert_eq!(quarantined.len(), 1001);
    assert!(quarantined[1000]["reason"].as_str().unwrap().starts_with("500 more"));
}

#[test]
fn a_full_disk_passes() {
    let mut place = Place::new();
    let (ledger, mut spool) = (place.ledger(), place.spool());
    let limit = |pages: i64| {
        let set = format!("PRAGMA max_page_count = {pages}");
        ledger.connection().query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let pages = ledger.connection().pragma_query_value(None, "page_count", |row| row.get(0));
    limit(pages.unwrap());
    place.drop_file("a.jsonl", lines(0..500));

    let error = loop {
        match spool.scan(&ledger, Duration::ZERO, NOW) {
            Ok(report) => assert!(report.more),
            Err(error) => break error,
        }
    };

    assert!(error.is_disk_full() && !error.is_corrupt(), "{error}");
    assert_eq!(place.spool_names(), ["a.jsonl"]);
    limit(1_000_000);
    place.scan(&mut spool, &ledger);
    assert_eq!(stored(&ledger).len(), 500);
    assert!(place.spool_names().is_empty());
}

#[test]
fn a_spool_that_is_no_folder_is_an_error_that_names_it() {
    let place = Place::new();
    fs::remove_dir(&place.settings.folder).unwrap();
    fs::write(&place.settings.folder, "").unwrap();
    let (ledger, mut spool) = (place.ledger(), place.spool());

    let error = spool.scan(&ledger, Duration::ZERO, NOW).unwrap_err().to_string();

    assert!(error.contains("spool"), "{error}");
    fs::remove_file(&place.settings.folder).unwrap();
    assert!(spool.scan(&ledger, Duration::ZERO, NOW).unwrap().is_quiet());
}

/// What a writer does between two starts of the process.
#[derive(Debug, Clone)]
struct Drop {
    file: u8,
    tasks: Vec<usize>,
    bad_lines: usize,
}

fn drops() -> impl Strategy<Value = Drop> {
    (0..4_u8, proptest::collection::vec(0..40_usize, 0..12), 0..3_usize)
        .prop_map(|(file, tasks, bad_lines)| Drop { file, tasks, bad_lines })
}

const PHASES: [Phase; 4] = [Phase::Archived, Phase::Recorded, Phase::Quarantined, Phase::Removed];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Files come, processes are killed after any phase, ledgers get lost: in the end every task is
    /// there once, on the side its question belongs to.
    #[test]
    fn no_task_is_lost_or_taken_twice(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(drops(), 1..4), proptest::option::of(0..4_usize), 0..6_u8),
            1..6,
        ),
    ) {
        let mut place = Place::new();
        let mut expected = BTreeSet::new();
        let mut numbers = BTreeMap::new();
        for (files, kill, mishap) in rounds {
            let (ledger, mut spool) = (place.ledger(), place.spool());
            // A name that is still there is not written over: that would be the writer's own loss.
            for Drop { file, tasks, bad_lines } in files {
                let name = format!("{file}.jsonl");
                if !place.spool_names().contains(&name) {
                    place.drop_file(&name, lines(tasks.clone()) + &"bad\n".repeat(bad_lines) + "\n");
                    expected.extend(tasks);
                }
            }
            if let Some(kill) = kill {
                spool.after_phase = Some(Box::new(move |phase| {
                    // Without a message: this is the kill.
                    if phase == PHASES[kill] { std::panic::resume_unwind(Box::new(())) }
                }));
            }
            let killed = catch_unwind(AssertUnwindSafe(|| place.scan(&mut spool, &ledger)));
            prop_assert!(killed.is_ok() || kill.is_some());
            for (number, (task, _)) in stored(&ledger) {
                // A number belongs to one task for ever.
                prop_assert_eq!(numbers.entry(number).or_insert_with(|| task.clone()), &task);
            }
            drop((spool, ledger));
            if mishap == 0 {
                fs::remove_file(place.state().join("ledger.db")).unwrap();
            } else if mishap == 1 {
                fs::write(place.state().join("ledger.db"), "damaged").unwrap();
            }
        }
        let (ledger, mut spool) = (place.ledger(), place.spool());
        place.scan(&mut spool, &ledger);

        let stored = stored(&ledger);
        prop_assert!(place.spool_names().is_empty());
        prop_assert_eq!(stored.len(), expected.len());
        let texts: BTreeSet<_> = stored.values().map(|(t, _)| t.question.clone()).collect();
        prop_assert_eq!(texts, expected.iter().map(|n| task(*n).question).collect());
        for (task, side) in stored.values() {
            prop_assert_eq!(*side, is_held_out(task, 0.1));
        }
        prop_assert_eq!(total(ledger.task_counts().unwrap()), stored.len() as u64);
    }
}
