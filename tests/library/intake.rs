//! Task files of every format through the spool into the ledger, a ledger that is damaged on the
//! way, and the memory that hostile files take.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use latrod::data::{TaskLimits, is_held_out, read_tasks};
use latrod::intake::{ScanReport, Spool, SpoolSettings};
use latrod::store::ledger::Ledger;
use tempfile::TempDir;

const NOW: i64 = 1_790_000_000;
const ALL: usize = usize::MAX;

/// A device with a spool and a state folder.
struct Device {
    dir: TempDir,
    settings: SpoolSettings,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        fs::create_dir(&folder).unwrap();
        Self { settings: SpoolSettings { folder, settle_s: 1, ..SpoolSettings::default() }, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn drop_file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.settings.folder.join(name), content).unwrap();
    }

    fn spool(&self) -> Spool {
        Spool::new(self.settings.clone(), self.dir.path())
    }

    /// Scans each second until nothing is left to do.
    fn take_in(&self, ledger: &Ledger) -> Vec<ScanReport> {
        let mut spool = self.spool();
        let mut intakes = Vec::new();
        for second in 0.. {
            let intake = spool.scan(ledger, Duration::from_secs(second), NOW).unwrap();
            let done = !intake.more && intake.unsettled == 0;
            intakes.push(intake);
            if done {
                break;
            }
        }
        intakes
    }
}

fn open(path: &Path) -> Ledger {
    Ledger::open_at(path, &[], NOW).unwrap().0
}

/// Question, answer and side of every task, with its number.
fn contents(ledger: &Ledger) -> BTreeSet<(i64, String, String, bool)> {
    let sides = [
        (false, ledger.snapshot_train(ALL, ALL).unwrap()),
        (true, ledger.held_out(ALL, ALL, None).unwrap()),
    ];
    sides
        .into_iter()
        .flat_map(|(side, tasks)| {
            tasks.into_iter().map(move |t| (t.sequence, t.task.question, t.task.answer, side))
        })
        .collect()
}

#[test]
fn every_format_ends_as_tasks_and_train_reads_the_same() {
    let device = Device::new();
    let files = [
        ("plain.jsonl", r#"{"question": "1+1?", "answer": 2}"#),
        ("gsm8k.ndjson", r#"{"question": "Eggs?", "answer": "9 * 2 = 18\n#### 1,018"}"#),
        (
            "arc.jsonl",
            r#"{"question": "Metal?", "choices": {"text": ["iron", "wood"], "label": ["A", "B"]}, "answerKey": "A"}"#,
        ),
        (
            "chat.json",
            r#"{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]}"#,
        ),
        ("table.csv", "answer,question\r\n\"so\nit is\",\"Why,\nthen?\"\r\n"),
    ];
    let expected = BTreeSet::from([
        ("1+1?", "2"),
        ("Eggs?", "1018"),
        ("Metal?\n\nA. iron\nB. wood", "A"),
        ("Hi?", "Yes."),
        ("Why,\nthen?", "so\nit is"),
    ]);
    let mut read = BTreeSet::new();
    for (name, text) in files {
        let path = device.path(name);
        fs::write(&path, text).unwrap();
        for task in read_tasks(&path, &TaskLimits::default()).unwrap().tasks {
            read.insert((task.question, task.answer));
        }
        device.drop_file(name, text);
    }

    let ledger = open(&device.path("ledger.db"));
    let intakes = device.take_in(&ledger);

    let contents = contents(&ledger);
    let taken: BTreeSet<_> = contents.iter().map(|(_, q, a, _)| (q.as_str(), a.as_str())).collect();
    assert_eq!(taken, expected);
    assert_eq!(
        read.iter().map(|(q, a)| (q.as_str(), a.as_str())).collect::<BTreeSet<_>>(),
        expected
    );
    assert_eq!(intakes.iter().map(|intake| intake.files).sum::<u64>(), 5);
    assert_eq!(fs::read_dir(&device.settings.folder).unwrap().count(), 0);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_made_anew_from_the_archive() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 3),
        |bytes| bytes.clear(),
        |bytes| bytes[..512].fill(0),
        |bytes| bytes[4096..].chunks_mut(4096).for_each(|page| page[..32].fill(0xee)),
    ];
    for damage in damages {
        let device = Device::new();
        let path = device.path("ledger.db");
        let ledger = open(&path);
        let lines: String =
            (0..500).map(|n| format!("{{\"question\": \"q {n}\", \"answer\": {n}}}\n")).collect();
        device.drop_file("a.jsonl", lines);
        device.take_in(&ledger);
        let before = contents(&ledger);
        drop(ledger);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();

        let (ledger, aside) = Ledger::open_at(&path, &[], NOW + 1).unwrap();
        let restored = device.spool().restore(&ledger, NOW + 1).unwrap();

        assert_eq!(fs::read(aside.unwrap().path).unwrap(), bytes);
        assert_eq!((restored, contents(&ledger)), (500, before));
        for (_, question, answer, side) in contents(&ledger) {
            let task = latrod::data::Task::new(question, answer);
            assert_eq!(side, is_held_out(&task, 0.1));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn hostile_files_take_little_memory() {
    use std::io::Write;
    let device = Device::new();
    for (name, start) in [("line.jsonl", ""), ("quote.csv", "question,answer\n\"")] {
        let mut file = fs::File::create(device.settings.folder.join(name)).unwrap();
        file.write_all(start.as_bytes()).unwrap();
        let block = vec![b'x'; 1 << 20];
        (0..200).for_each(|_| file.write_all(&block).unwrap());
    }
    let array = "[".repeat(1 << 19) + &"]".repeat(1 << 19);
    device.drop_file("deep.jsonl", format!("{{\"question\": {array}}}"));
    let ledger = open(&device.path("ledger.db"));
    let before = resident_mib();

    let intakes = device.take_in(&ledger);

    assert_eq!(intakes.iter().map(|intake| intake.rejected).sum::<u64>(), 3);
    let more = peak_mib() - before;
    assert!(more < 30.0, "{more} MiB");
}

#[cfg(target_os = "linux")]
fn status_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[cfg(target_os = "linux")]
fn resident_mib() -> f64 {
    status_mib("VmRSS:")
}

#[cfg(target_os = "linux")]
fn peak_mib() -> f64 {
    status_mib("VmHWM:")
}
