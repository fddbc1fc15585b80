use std::io::{Read, Seek, SeekFrom, Write};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::data::{AnswerKind, Task, is_held_out};

const NOW: i64 = 1_790_000_000;

/// A table that somebody else brings.
const SCHEMAS: [&str; 1] = ["CREATE TABLE IF NOT EXISTS note (text TEXT NOT NULL) STRICT;"];

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    (dir, path)
}

fn open(path: &Path) -> (Ledger, Option<SetAside>) {
    Ledger::open_at(path, &SCHEMAS, NOW).unwrap()
}

fn task(n: i64) -> NewTask {
    let task = Task::new(format!("What is {n} + 1?"), (n + 1).to_string());
    let held_out = is_held_out(&task, 0.3);
    NewTask { task, sequence: n, held_out }
}

/// A closed ledger with tasks 1 to `count`.
fn filled(path: &Path, count: i64) {
    let (ledger, _) = open(path);
    add(&ledger, "a.jsonl", 1..=count);
    ledger.set_meta("key", &"value").unwrap();
}

#[test]
fn the_callers_tables_are_made_and_checked_like_our_own() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    ledger.connection().execute("INSERT INTO note VALUES ('kept')", []).unwrap();
    drop(ledger);
    assert_eq!(open(&path).1, None);

    let (_, aside) = Ledger::open_at(&path, &[], NOW).unwrap();
    assert_eq!(
        aside.unwrap().reason,
        LedgerError::Damaged { what: "its tables are not those that latrod makes".to_owned() }
            .to_string()
    );
}

fn add(ledger: &Ledger, archive: &str, numbers: impl Iterator<Item = i64>) -> (u64, u64) {
    let tasks: Vec<_> = numbers.map(task).collect();
    ledger.transaction(|_| ledger.add_tasks(archive, &tasks)).unwrap()
}

fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

/// What was in the file is in what was set aside; the new ledger is empty and works.
#[track_caller]
fn assert_replaced(dir: &TempDir, path: &Path) -> SetAside {
    let before = fs::read(path).unwrap();
    let (ledger, aside) = open(path);
    let aside = aside.expect("the damage was noticed");
    assert_eq!(fs::read(&aside.path).unwrap(), before);
    assert_eq!(aside.unix_s, NOW);
    assert_eq!(ledger.rebuilt_at().unwrap(), Some(NOW));
    assert_eq!(ledger.task_counts().unwrap(), TaskCounts::default());
    add(&ledger, "b.jsonl", 1..=3);
    drop(ledger);
    let (ledger, again) = open(path);
    assert_eq!((again, ledger.newest_sequence().unwrap()), (None, 3));
    assert!(names(dir).contains(&format!("ledger.db.corrupt-{NOW}")), "{:?}", names(dir));
    aside
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let (dir, path) = folder();
    let (ledger, aside) = open(&path);
    assert_eq!((aside, ledger.rebuilt_at().unwrap()), (None, None));
    ledger.set_meta("session", &41_u64).unwrap();
    ledger.set_meta("session", &42_u64).unwrap();
    let undone = ledger.transaction(|_| {
        ledger.set_meta("session", &43_u64)?;
        Err::<(), _>(LedgerError::Unstorable { key: "x".into() })
    });
    assert!(undone.is_err());
    drop(ledger);

    let (ledger, _) = open(&path);

    assert_eq!(ledger.get_meta::<u64>("session").unwrap(), Some(42));
    assert_eq!(ledger.get_meta::<u64>("absent").unwrap(), None);
    assert!(ledger.get_meta::<String>("session").unwrap_err().is_corrupt());
    assert!(!names(&dir).iter().any(|name| name.contains("new")), "{:?}", names(&dir));
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = folder();
    let (ledger, _) = open(&path);
    add(&ledger, "a.jsonl", 1..=1);

    for name in names(&dir) {
        let mode = fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
    }
}

#[test]
fn commits_reach_the_disk() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    let pragma = |name: &str| {
        let value = |row: &rusqlite::Row| row.get::<_, rusqlite::types::Value>(0);
        ledger.connection().pragma_query_value(None, name, value).unwrap()
    };

    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("synchronous"), 2.into());
    assert_eq!(pragma("auto_vacuum"), 2.into());
}

#[test]
fn damage_that_shows_on_opening_is_set_aside() {
    type Damage = fn(&Path);
    let cases: &[(&str, Damage)] = &[
        ("empty", |path| fs::write(path, "").unwrap()),
        ("no database", |path| fs::write(path, "not a database at all, but long enough").unwrap()),
        ("zeros", |path| overwrite(path, 0, &[0; 8192])),
        ("magic", |path| overwrite(path, 3, b"x")),
        ("page size", |path| overwrite(path, 16, &[3])),
        ("application id", |path| overwrite(path, 70, &[0])),
        ("version", |path| overwrite(path, 63, &[9])),
        ("truncated", |path| {
            let length = fs::metadata(path).unwrap().len();
            OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        }),
        ("name of a table", |path| {
            let bytes = fs::read(path).unwrap();
            // Every copy: a page that was split leaves an old one behind.
            let copies =
                bytes.windows(20).enumerate().filter(|(_, w)| *w == b"CREATE TABLE archive");
            copies.for_each(|(at, _)| overwrite(path, at as u64 + 13, b"arkhive"));
        }),
        ("a table of another name", |path| {
            Connection::open(path)
                .unwrap()
                .execute_batch("ALTER TABLE meta RENAME TO mata")
                .unwrap();
        }),
        ("pages", |path| {
            let length = fs::metadata(path).unwrap().len();
            (4096..length).step_by(4096).for_each(|page| overwrite(path, page, &[0xff; 64]));
        }),
    ];
    for (name, damage) in cases {
        println!("{name}");
        let (dir, path) = folder();
        filled(&path, 300);
        damage(&path);

        let aside = assert_replaced(&dir, &path);

        assert!(!aside.reason.contains("What is"), "{}", aside.reason);
    }
}

#[test]
fn a_flipped_letter_in_a_task_is_damage() {
    let (_dir, path) = folder();
    filled(&path, 3);
    let bytes = fs::read(&path).unwrap();
    // Every copy: indices hold no text, but old pages may.
    for (at, _) in bytes.windows(8).enumerate().filter(|(_, w)| *w == b"What is ") {
        overwrite(&path, at as u64, b"T");
    }
    let (ledger, aside) = open(&path);
    assert_eq!(aside, None);

    let error = ledger.snapshot_train(10, 1000).unwrap_err();

    assert!(error.is_corrupt() && !error.to_string().contains("hat is"), "{error}");
    let (ledger, aside) = ledger.replace(NOW, &error).unwrap();
    assert!(aside.is_some());
    assert_eq!(ledger.task_counts().unwrap(), TaskCounts::default());
}

#[test]
fn garbage_in_the_log_costs_no_row_of_the_file() {
    let (dir, path) = folder();
    filled(&path, 50);
    fs::write(dir.path().join("ledger.db-wal"), [0x5a; 10_000]).unwrap();
    fs::write(dir.path().join("ledger.db-shm"), [0xa5; 5000]).unwrap();

    let (ledger, aside) = open(&path);

    assert_eq!((aside, ledger.newest_sequence().unwrap()), (None, 50));
}

#[test]
fn a_log_without_its_file_is_set_aside_too() {
    let (dir, path) = folder();
    fs::write(dir.path().join("ledger.db-wal"), "log").unwrap();

    let (_ledger, aside) = open(&path);

    let name = format!("ledger.db.corrupt-{NOW}-wal");
    assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"log");
    assert!(aside.is_some());
}

#[test]
fn a_kill_between_setting_aside_and_making_anew_is_not_forgotten() {
    let (_dir, path) = folder();
    filled(&path, 3);
    fs::rename(&path, path.with_file_name("ledger.db.corrupt-77")).unwrap();

    let (ledger, aside) = open(&path);

    assert_eq!((aside, ledger.rebuilt_at().unwrap()), (None, Some(NOW)));
}

#[test]
fn nothing_set_aside_is_ever_overwritten() {
    let (dir, path) = folder();
    for n in 0..3 {
        fs::write(&path, format!("damaged {n}")).unwrap();
        open(&path);
    }

    for (n, suffix) in ["", ".1", ".2"].iter().enumerate() {
        let name = format!("ledger.db.corrupt-{NOW}{suffix}");
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), format!("damaged {n}"));
    }
}

#[test]
fn a_newer_ledger_is_left_alone() {
    let (_dir, path) = folder();
    filled(&path, 3);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", stamp(4)).unwrap();

    let error = Ledger::open_at(&path, &SCHEMAS, NOW).unwrap_err();

    assert!(matches!(error, LedgerError::Newer { version: 4, .. }) && !error.is_corrupt());
}

#[test]
fn an_older_ledger_is_left_alone() {
    let (_dir, path) = folder();
    filled(&path, 3);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", stamp(1)).unwrap();

    let error = Ledger::open_at(&path, &SCHEMAS, NOW).unwrap_err();

    assert!(matches!(error, LedgerError::Older { version: 1, .. }) && !error.is_corrupt());
    assert!(error.to_string().contains("move the file away"), "{error}");
}

/// A ledger as version 2 made it: without the table that came with 3.
#[test]
fn a_ledger_of_version_2_is_taken_over_with_its_tasks() {
    let (_dir, path) = folder();
    filled(&path, 3);
    let old = Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE answer_kind").unwrap();
    old.pragma_update(None, "user_version", stamp(2)).unwrap();
    drop(old);

    for _ in 0..2 {
        let (ledger, aside) = open(&path);
        assert!(aside.is_none());
        let counts = ledger.task_counts().unwrap();
        assert_eq!(counts.train + counts.held_out, 3);
    }
}

#[test]
fn a_task_keeps_its_kind_of_answer_and_takes_it_along() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    let exact = |new: NewTask| {
        let task = Task { answer_kind: Some(AnswerKind::Exact), ..new.task };
        NewTask { task, held_out: false, ..new }
    };
    let tasks = [exact(task(1)), NewTask { held_out: false, ..task(2) }, exact(task(3))];

    ledger.transaction(|_| ledger.add_tasks("a", &tasks)).unwrap();
    // The same task again changes nothing.
    let again = NewTask { sequence: 9, ..task(1) };
    assert_eq!(ledger.transaction(|_| ledger.add_tasks("b", &[again])).unwrap(), (0, 0));

    let kinds = |ledger: &Ledger| -> Vec<_> {
        let stored = ledger.snapshot_train(10, 1 << 20).unwrap();
        stored.into_iter().map(|stored| stored.task.answer_kind).collect()
    };
    assert_eq!(kinds(&ledger), [Some(AnswerKind::Exact), None, Some(AnswerKind::Exact)]);
    let mut archived = Vec::new();
    let each = |new: NewTask| {
        archived.push((new.task.answer_kind, new.held_out));
        Ok::<_, LedgerError>(())
    };
    ledger.for_each_archived("a", each).unwrap();
    let expected = [Some(AnswerKind::Exact), None, Some(AnswerKind::Exact)];
    assert_eq!(archived, expected.map(|kind| (kind, false)));
    ledger.forget_oldest(2, 1 << 20).unwrap();
    assert_eq!(kinds(&ledger), [None, Some(AnswerKind::Exact)]);
    let left: i64 = ledger
        .connection()
        .query_row("SELECT COUNT(*) FROM answer_kind", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1, "what was forgotten leaves nothing behind");
}

#[test]
fn a_locked_ledger_is_no_damage() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    ledger.connection().busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let error = ledger.transaction(|_| Ok::<_, LedgerError>(())).unwrap_err();

    assert!(error.is_locked() && !error.is_corrupt(), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.transaction(|_| Ok::<_, LedgerError>(())).unwrap();
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let (_dir, path) = folder();
    filled(&path, 10);
    let (ledger, _) = open(&path);
    // The database may not grow: what SQLite then says is what it says of a full disk.
    let pages: i64 =
        ledger.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |pages: i64| {
        let set = format!("PRAGMA max_page_count = {pages}");
        ledger.connection().query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    limit(pages);
    let many: Vec<_> = (11..500).map(task).collect();

    let error = ledger.transaction(|_| ledger.add_tasks("b", &many)).unwrap_err();

    assert!(error.is_disk_full() && error.to_string().contains("free some space"), "{error}");
    assert_eq!(ledger.newest_sequence().unwrap(), 10);
    limit(1_000_000);
    ledger.transaction(|_| ledger.add_tasks("b", &many)).unwrap();
    assert_eq!(ledger.newest_sequence().unwrap(), 499);
}

#[test]
fn a_path_that_cannot_be_is_an_error_that_names_it() {
    let (dir, path) = folder();
    fs::write(&path, "").unwrap();

    let error = Ledger::open_at(&path.join("below"), &SCHEMAS, NOW).unwrap_err();

    assert!(error.to_string().contains("below") && !error.is_corrupt(), "{error}");
    assert!(Ledger::open_at(&dir.path().join("no/folder"), &SCHEMAS, NOW).is_err());
}

#[test]
fn tasks_are_added_once_and_chosen_newest_first() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    let (train, held_out) = add(&ledger, "a.jsonl", 1..=100);
    assert_eq!(train + held_out, 100);
    assert_eq!(add(&ledger, "b.jsonl", 90..=100), (0, 0));

    let all = ledger.snapshot_train(1000, 1 << 20).unwrap();
    let some = ledger.snapshot_train(5, 1 << 20).unwrap();
    let short = ledger.snapshot_train(1000, 100).unwrap();

    let expected: Vec<_> = (1..=100).map(task).filter(|task| !task.held_out).collect();
    let numbers = |tasks: &[StoredTask]| tasks.iter().map(|t| t.sequence).collect::<Vec<_>>();
    assert_eq!(numbers(&all), expected.iter().map(|t| t.sequence).collect::<Vec<_>>());
    assert_eq!(numbers(&some), numbers(&all)[all.len() - 5..]);
    let bytes: usize = short.iter().map(|t| t.task.question.len() + t.task.answer.len()).sum();
    assert!(bytes <= 100 && short.len() >= 4 && all.ends_with(&short), "{short:?}");
    let fresh = ledger.held_out(1000, 1 << 20, Some(60)).unwrap();
    let held: Vec<_> = (61..=100).map(task).filter(|t| t.held_out).map(|t| t.sequence).collect();
    assert_eq!(numbers(&fresh), held);
    assert_eq!(ledger.tasks_after(60).unwrap(), (40 - held.len() as u64, held.len() as u64));
    assert_eq!(ledger.held_out(1000, 1 << 20, None).unwrap().len() as u64, held_out);
}

#[test]
fn tasks_set_aside_are_not_used_until_they_are_taken_back() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    let (train, held_out) = add(&ledger, "a.jsonl", 1..=50);
    let ids: Vec<_> =
        ledger.snapshot_train(7, 1 << 20).unwrap().iter().map(|t| t.task.id()).collect();

    assert_eq!(ledger.mark_set_aside(&ids, true).unwrap(), 7);

    let counts = ledger.task_counts().unwrap();
    assert_eq!((counts.train, counts.held_out, counts.set_aside), (train - 7, held_out, 7));
    assert_eq!(ledger.snapshot_train(1000, 1 << 20).unwrap().len() as u64, train - 7);
    assert_eq!(ledger.set_aside_ids().unwrap(), ids);
    assert_eq!(ledger.mark_set_aside(&ids, false).unwrap(), 7);
    assert_eq!(ledger.task_counts().unwrap().train, train);
}

#[test]
fn the_oldest_are_forgotten_first_and_their_numbers_never_return() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    add(&ledger, "a.jsonl", 1..=30);
    add(&ledger, "b.jsonl", 31..=50);

    assert_eq!(ledger.forget_oldest(15, u64::MAX).unwrap(), 35);

    assert_eq!(ledger.empty_archives().unwrap(), ["a.jsonl"]);
    ledger.drop_archive("a.jsonl").unwrap();
    ledger.drop_archive("b.jsonl").unwrap();
    assert!(!ledger.knows_archive("a.jsonl").unwrap() && ledger.knows_archive("b.jsonl").unwrap());
    let bytes = ledger.task_counts().unwrap().text_bytes;
    assert_eq!(ledger.forget_oldest(100, bytes - 1).unwrap(), 1);
    assert_eq!(ledger.forget_oldest(0, 0).unwrap(), 14);
    assert_eq!(ledger.task_counts().unwrap(), TaskCounts::default());
    assert_eq!(ledger.newest_sequence().unwrap(), 50);
}

#[test]
fn space_of_forgotten_tasks_is_given_back() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    add(&ledger, "a.jsonl", 1..=20_000);
    let pages = || -> i64 {
        ledger.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    let full = pages();
    ledger.forget_oldest(10, u64::MAX).unwrap();

    ledger.tidy().unwrap();

    assert!(pages() < full / 10, "{} of {full}", pages());
}

#[test]
fn a_text_that_is_no_text_is_damage() {
    let (_dir, path) = folder();
    let (ledger, _) = open(&path);
    add(&ledger, "a.jsonl", 1..=3);
    let damaged = "UPDATE tasks SET question = CAST(x'ff' AS TEXT)";
    ledger.connection().execute(damaged, []).unwrap();

    let error = ledger.snapshot_train(100, 1 << 20).unwrap_err();

    assert!(error.is_corrupt(), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flipped_bits_are_noticed_or_harmless(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        in_header in any::<bool>(),
    ) {
        let (_dir, path) = folder();
        filled(&path, 40);
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let range = if in_header { 100 } else { bytes.len() };
        for (at, bit) in &flips {
            bytes[at.index(range)] ^= 1 << bit;
        }
        fs::write(&path, &bytes).unwrap();

        let opened = Ledger::open_at(&path, &SCHEMAS, NOW);

        // Whatever the damage: an error that says so, a new ledger, or the rows that were there.
        match opened {
            Err(error) => prop_assert!(!error.is_corrupt(), "{error}"),
            Ok((ledger, Some(aside))) => {
                prop_assert_eq!(fs::read(aside.path).unwrap(), bytes);
                prop_assert_eq!(ledger.newest_sequence().unwrap(), 0);
            }
            Ok((ledger, None)) => match ledger.snapshot_train(100, 1 << 20) {
                Err(error) => prop_assert!(error.is_corrupt(), "{error}"),
                Ok(tasks) => for stored in tasks {
                    let numbers: Vec<_> = (1..=40).map(task).map(|t| t.task).collect();
                    prop_assert!(numbers.contains(&stored.task));
                }
            }
        }
    }
}
