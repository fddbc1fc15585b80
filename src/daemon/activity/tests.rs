//! Devices of `tests/fixtures/devices`, read as they are and with one thing changed.

use super::*;

use std::fs;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// The moment at which the fixtures are read.
const NOW_S: i64 = 1_780_000_000;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/devices").join(name)
}

fn now() -> Zoned {
    jiff::Timestamp::from_second(NOW_S).expect("a time").to_zoned(jiff::tz::TimeZone::UTC)
}

/// Settings that don't depend on the disk on which the tests run.
fn settings() -> ActivitySettings {
    ActivitySettings {
        min_free_disk_mib: 0,
        min_free_disk_percent: 0.0,
        ..ActivitySettings::default()
    }
}

fn sample_with(root: &Path, settings: ActivitySettings, own: &Own) -> Reading {
    let mut activity =
        Activity::new(settings, root.to_owned(), std::env::temp_dir()).expect("good settings");
    activity.sample(Duration::ZERO, &now(), own)
}

fn sample(root: &Path) -> Reading {
    sample_with(root, settings(), &Own::default())
}

fn told(reading: &Reading, measure: Measure) -> (Verdict, &str) {
    let signal = reading.signal(measure).expect("every measure is told");
    (signal.verdict, &signal.text)
}

/// A copy of a fixture that a test may change.
struct Device(tempfile::TempDir);

impl Device {
    fn like(name: &str) -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).expect("a folder");
            for entry in fs::read_dir(from).expect("a fixture") {
                let entry = entry.expect("an entry");
                let to = to.join(entry.file_name());
                if entry.path().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    fs::copy(entry.path(), to).expect("a copy");
                }
            }
        }
        let dir = tempfile::tempdir().expect("a folder");
        copy(&fixture(name), dir.path());
        Self(dir)
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Makes it `ago_s` since a key was read from a terminal.
    fn typed(&self, terminal: &str, ago_s: i64) {
        let time = Timespec { tv_sec: NOW_S - ago_s, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        let path = self.0.path().join("dev").join(terminal);
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).expect("its times");
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}

#[test]
fn an_orin_under_jetpack_5() {
    let orin = sample(&fixture("jetson-orin-jp5"));
    assert_eq!(told(&orin, Measure::GpuLoad), (Verdict::Ok, "9 % (limit 20 %)"));
    assert_eq!(
        told(&orin, Measure::Temperature),
        (Verdict::Ok, "48 °C at CPU-therm (limit 80 °C)")
    );
    assert_eq!(
        told(&orin, Measure::CpuPressure),
        (Verdict::Absent, "not available on this device")
    );
    assert_eq!(told(&orin, Measure::Power), (Verdict::Absent, "no battery"));
    assert_eq!(told(&orin, Measure::FreeMemory), (Verdict::Ok, "25792 MiB (limit 256 MiB)"));
    // Its desktop shows itself to nobody.
    assert_eq!(told(&orin, Measure::Users), (Verdict::Ok, "1 logged in, 0 of them active"));
}

#[test]
fn an_orin_under_jetpack_6() {
    let device = Device::like("jetson-orin-jp6");
    device.typed("pts/0", 3600);
    let orin = sample(device.root());
    assert_eq!(told(&orin, Measure::GpuLoad), (Verdict::Busy, "64 % (limit 20 %)"));
    // Some of its zones can't be read.
    assert_eq!(
        told(&orin, Measure::Temperature),
        (Verdict::Ok, "51 °C at cpu-thermal (limit 80 °C)")
    );
    assert_eq!(told(&orin, Measure::CpuPressure), (Verdict::Ok, "0 % (limit 10 %)"));
    assert_eq!(told(&orin, Measure::Users), (Verdict::Ok, "1 logged in, 0 of them active"));
}

#[test]
fn a_raspberry_pi_5() {
    let pi = sample(&fixture("raspberry-pi-5"));
    assert_eq!(
        told(&pi, Measure::Temperature),
        (Verdict::Ok, "62 °C at cpu-thermal (limit 80 °C)")
    );
    assert_eq!(told(&pi, Measure::GpuLoad).0, Verdict::Absent);
    assert_eq!(told(&pi, Measure::MemoryPressure).0, Verdict::Absent);
    assert_eq!(told(&pi, Measure::Users), (Verdict::Ok, "0 logged in, 0 of them active"));
}

#[test]
fn a_laptop_with_someone_at_it() {
    let laptop = sample(&fixture("laptop"));
    assert_eq!(told(&laptop, Measure::Users), (Verdict::Busy, "1 logged in, 1 of them active"));
    // The mouse's battery is not ours, and the SSD's heat is not either.
    assert_eq!(told(&laptop, Measure::Power), (Verdict::Ok, "64 % on mains (limit 20 %)"));
    assert_eq!(
        told(&laptop, Measure::Temperature),
        (Verdict::Ok, "52 °C at coretemp Package id 0 (limit 80 °C)")
    );
    assert_eq!(told(&laptop, Measure::Inhibit), (Verdict::Ok, "by nothing"));
}

#[test]
fn a_virtual_server() {
    let server = sample(&fixture("server"));
    assert_eq!(told(&server, Measure::GpuLoad), (Verdict::Busy, "97 % (limit 20 %)"));
    assert_eq!(told(&server, Measure::IoPressure), (Verdict::Busy, "44 % (limit 30 %)"));
    assert_eq!(told(&server, Measure::Temperature).0, Verdict::Absent);
    assert_eq!(told(&server, Measure::Power).0, Verdict::Absent);
    assert_eq!(told(&server, Measure::Users), (Verdict::Ok, "0 logged in, 0 of them active"));
}

#[test]
fn a_device_that_tells_nothing_has_absent_signals_and_no_error() {
    let empty = tempfile::tempdir().expect("a folder");
    let reading = sample(empty.path());
    let verdicts: Vec<Verdict> = reading.signals.iter().map(|signal| signal.verdict).collect();
    let mut expected = vec![Verdict::Absent; 9];
    // Nothing inhibits, the time is always right, and the tests do have a disk.
    expected.extend([Verdict::Ok; 3]);
    assert_eq!(verdicts, expected);
}

#[test]
fn load_of_others_is_known_from_the_second_sample_on() {
    let device = Device::like("raspberry-pi-5");
    let mut activity =
        Activity::new(settings(), device.root().to_owned(), std::env::temp_dir()).expect("good");
    let mut load = |s, own: &Own| {
        let reading = activity.sample(Duration::from_secs(s), &now(), own);
        let (verdict, text) = told(&reading, Measure::CpuLoad);
        (verdict, text.to_owned())
    };
    assert_eq!(load(0, &Own::default()), (Verdict::Pending, "not measured yet".into()));
    // Of 1000 ticks more on 4 cores, 250 are busy.
    device.set("proc/stat", "cpu  10483 120 3411 1822791 4021 0 312 0 0 0\ncpu0 1\ncpu1 1\n");
    assert_eq!(load(5, &Own::default()), (Verdict::Busy, "25 % by others (limit 20 %)".into()));
    // While training the limit is higher.
    let training = Own { training: true, ..Own::default() };
    assert_eq!(load(5, &training), (Verdict::Ok, "25 % by others (limit 30 %)".into()));
}

#[test]
fn what_the_worker_causes_itself_is_not_held_against_it() {
    let training = Own { pids: &[], training: true, on_gpu: true };
    let server = sample_with(&fixture("server"), settings(), &training);
    assert_eq!(told(&server, Measure::IoPressure), (Verdict::Ok, "44 % with our own"));
    assert_eq!(told(&server, Measure::GpuLoad), (Verdict::Ok, "97 % with our own"));
    let on_cpu = Own { on_gpu: false, ..training };
    let server = sample_with(&fixture("server"), settings(), &on_cpu);
    assert_eq!(told(&server, Measure::GpuLoad).0, Verdict::Busy);
}

#[test]
fn a_laptop_off_the_mains() {
    let device = Device::like("laptop");
    device.set("sys/class/power_supply/AC/online", "0\n");
    device.set("sys/class/power_supply/BAT0/status", "Discharging\n");
    assert_eq!(
        told(&sample(device.root()), Measure::Power),
        (Verdict::Power, "64 % on battery (mains required)")
    );
    let anywhere = ActivitySettings { require_mains: false, ..settings() };
    let reading = sample_with(device.root(), anywhere.clone(), &Own::default());
    assert_eq!(told(&reading, Measure::Power), (Verdict::Ok, "64 % on battery (limit 20 %)"));

    device.set("sys/class/power_supply/BAT0/capacity", "19\n");
    let reading = sample_with(device.root(), anywhere, &Own::default());
    assert_eq!(told(&reading, Measure::Power), (Verdict::Power, "19 % on battery (limit 20 %)"));
}

#[test]
fn a_battery_that_charges_proves_mains() {
    let device = Device::like("jetson-orin-jp5");
    let battery = "sys/class/power_supply/bq40z50-0";
    device.set(&format!("{battery}/type"), "Battery\n");
    device.set(&format!("{battery}/status"), "Not charging\n");
    assert_eq!(told(&sample(device.root()), Measure::Power), (Verdict::Ok, "on mains"));
    device.set(&format!("{battery}/status"), "Unknown\n");
    assert_eq!(told(&sample(device.root()), Measure::Power).0, Verdict::Power);
    // One battery that charges from another proves nothing.
    device.set(&format!("{battery}/status"), "Charging\n");
    device.set("sys/class/power_supply/bq40z50-1/type", "Battery\n");
    device.set("sys/class/power_supply/bq40z50-1/status", "Discharging\n");
    assert_eq!(told(&sample(device.root()), Measure::Power).0, Verdict::Power);
}

#[test]
fn people_count_as_the_settings_say() {
    let device = Device::like("jetson-orin-jp6");
    let users = |users, ago_s| {
        device.typed("pts/0", ago_s);
        let reading =
            sample_with(device.root(), ActivitySettings { users, ..settings() }, &Own::default());
        told(&reading, Measure::Users).0
    };
    assert_eq!(users(Users::Active, 599), Verdict::Busy);
    assert_eq!(users(Users::Active, 600), Verdict::Ok);
    assert_eq!(users(Users::Active, -3600), Verdict::Busy, "a key pressed tomorrow");
    assert_eq!(users(Users::Any, 3600), Verdict::Busy);
    assert_eq!(users(Users::Ignore, 0), Verdict::Ok);
}

#[test]
fn a_desktop_counts_while_a_screen_is_on() {
    let device = Device::like("laptop");
    let users = || told(&sample(device.root()), Measure::Users).0;
    device.set("sys/class/drm/card1-eDP-1/dpms", "Off\n");
    assert_eq!(users(), Verdict::Ok, "the screen has gone dark");
    device.set("sys/class/drm/card1-HDMI-A-1/status", "connected\n");
    device.set("sys/class/drm/card1-HDMI-A-1/dpms", "On\n");
    assert_eq!(users(), Verdict::Busy, "another screen is on");
    fs::remove_dir_all(device.root().join("sys/class/drm")).expect("it was there");
    assert_eq!(users(), Verdict::Busy, "nothing tells of screens");
    let session = device.root().join("run/systemd/sessions/2");
    let text = fs::read_to_string(&session).expect("the session");
    fs::write(&session, text.replace("ACTIVE=1", "ACTIVE=0")).expect("a file");
    assert_eq!(users(), Verdict::Ok, "someone else's session is in front");
}

#[test]
fn no_name_of_a_person_leaves() {
    let reading = sample(&fixture("laptop"));
    let json = serde_json::to_string(&reading).expect("plain values");
    assert!(!json.contains("ada"), "{json}");
    assert_eq!(serde_json::from_str::<Reading>(&json).expect("what was written"), reading);
}

#[test]
fn inhibitors_block() {
    let device = Device::like("laptop");
    let paths = ActivitySettings { inhibit_paths: vec!["/run/backup".into()], ..settings() };
    let told_now = || {
        let reading = sample_with(device.root(), paths.clone(), &Own::default());
        let (verdict, text) = told(&reading, Measure::Inhibit);
        (verdict, text.to_owned())
    };
    assert_eq!(told_now(), (Verdict::Ok, "by nothing".into()));
    device.set("run/systemd/inhibit/3", "WHAT=idle\nMODE=delay\nWHO=a short one\n");
    assert_eq!(told_now(), (Verdict::Ok, "by nothing".into()));
    device.set("run/systemd/inhibit/4", "WHAT=sleep:idle\nMODE=block\nWHO=a film\n");
    assert_eq!(told_now(), (Verdict::Blocked, "by 1 idle lock of systemd".into()));
    device.set("run/backup", "");
    assert_eq!(told_now(), (Verdict::Blocked, "by /run/backup".into()));
}

#[test]
fn a_closed_window_says_when_it_opens() {
    // The moment is 20:26:40 UTC on a Thursday.
    let windows = vec!["22:00-06:00".to_owned(), "Sat 00:00-24:00".to_owned()];
    let reading = sample_with(
        &fixture("server"),
        ActivitySettings { windows, ..settings() },
        &Own::default(),
    );
    assert_eq!(
        told(&reading, Measure::Windows),
        (Verdict::Blocked, "closed (open 22:00-06:00, Sat 00:00-24:00)")
    );
    assert_eq!(reading.opens_in_s, Some(3600 + 33 * 60 + 20));
    let nonsense = ActivitySettings { windows: vec!["at night".into()], ..settings() };
    assert!(Activity::new(nonsense, PathBuf::from("/"), std::env::temp_dir()).is_err());
}

#[test]
fn a_full_or_missing_disk_is_told() {
    let low = ActivitySettings { min_free_disk_mib: u64::MAX, ..settings() };
    let reading = sample_with(&fixture("server"), low, &Own::default());
    assert_eq!(told(&reading, Measure::FreeDisk).0, Verdict::Low);

    let nowhere = PathBuf::from("/no/such/state");
    let mut activity = Activity::new(settings(), fixture("server"), nowhere).expect("good");
    let reading = activity.sample(Duration::ZERO, &now(), &Own::default());
    assert_eq!(told(&reading, Measure::FreeDisk).0, Verdict::Unreadable);
}

#[test]
fn sensors_that_come_later_are_found() {
    let device = Device::like("server");
    let mut activity =
        Activity::new(settings(), device.root().to_owned(), std::env::temp_dir()).expect("good");
    let mut heat = |s| {
        let reading = activity.sample(Duration::from_secs(s), &now(), &Own::default());
        told(&reading, Measure::Temperature).0
    };
    assert_eq!(heat(0), Verdict::Absent);
    device.set("sys/class/hwmon/hwmon0/name", "k10temp\n");
    device.set("sys/class/hwmon/hwmon0/temp1_input", "91000\n");
    assert_eq!(heat(59), Verdict::Absent);
    assert_eq!(heat(60), Verdict::Hot);
}

/// Fills every file below `folder` with nonsense.
fn spoil(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            spoil(&path);
        } else {
            fs::write(path, [b"\xff\xfe-9e999 some avg10=\0=".as_slice(); 300].concat())
                .expect("a file");
        }
    }
}

#[test]
fn garbage_in_every_file_is_survived() {
    let device = Device::like("laptop");
    spoil(device.root());
    let reading = sample(device.root());
    assert_eq!(reading.signals.len(), 12);
    assert_eq!(told(&reading, Measure::CpuLoad).0, Verdict::Unreadable);
    assert_eq!(told(&reading, Measure::FreeMemory).0, Verdict::Unreadable);
}

/// What a sample of this machine costs: `cargo test --lib a_sample_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_sample_costs() {
    for root in [PathBuf::from("/"), fixture("jetson-orin-jp6"), fixture("laptop")] {
        let mut activity =
            Activity::new(settings(), root.clone(), std::env::temp_dir()).expect("good");
        let pids = [std::process::id()];
        let own = Own { pids: &pids, ..Own::default() };
        activity.sample(Duration::ZERO, &now(), &own);
        let (start, rounds) = (Instant::now(), 1000);
        for _ in 0..rounds {
            activity.sample(Duration::ZERO, &now(), &own);
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("{}: {micros:.0} µs a sample", root.display());
    }
}
