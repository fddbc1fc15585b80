use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::bucket::{Bucket, Numbers, decode, encode};
use super::level::floor;
use super::*;

const MINUTE_MS: i64 = 60_000;
/// The start of a day.
const NOW: i64 = 20_000 * DAY_MS;
const LIMITS: Limits = Limits {
    raw_ms: 3 * HOUR_MS,
    fine_ms: 10 * HOUR_MS,
    coarse_ms: 40 * HOUR_MS,
    events_ms: 20 * HOUR_MS,
    deeds_ms: 30 * HOUR_MS,
    max_bytes: 1 << 30,
    max_devices: 5,
    max_events_per_device: 10,
    max_samples_per_hour: 100,
};

fn sample(device: &str, at_ms: i64, numbers: &[(&str, f64)]) -> Sample {
    let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Sample { device: device.to_owned(), at_ms, numbers }
}

fn samples(samples: Vec<Sample>) -> Batch {
    Batch { samples, ..Batch::default() }
}

fn happening(device: &str, at_ms: i64, id: &str) -> Happening {
    let text = |text: &str| text.to_owned();
    Happening {
        device: text(device),
        at_ms,
        id: text(id),
        event: text("promoted"),
        severity: text("info"),
        sentence: text("an adapter was promoted"),
        detail: text("{}"),
    }
}

fn happenings(happenings: Vec<Happening>) -> Batch {
    Batch { happenings, ..Batch::default() }
}

fn spent(at_ms: i64, state: &str, reason: &str, ms: u64) -> Batch {
    let (state, reason) = (state.to_owned(), reason.to_owned());
    let spent = vec![Spent { device: "f/a".to_owned(), at_ms, state, reason, ms }];
    Batch { spent, ..Batch::default() }
}

fn deed(at_ms: i64, what: &str) -> Batch {
    let text = |text: &str| text.to_owned();
    let (who, target, outcome) = (text("ann"), text("f/a"), text("done"));
    Batch {
        deeds: vec![Deed { at_ms, who, what: text(what), target, outcome }],
        ..Batch::default()
    }
}

#[test]
fn the_newest_acknowledgment_counts() {
    let mut history = History::in_memory(Limits::default()).unwrap();
    let seen = |alarm: &str, at_ms, who: &str| {
        let (device, alarm, who) = ("f/a".to_owned(), alarm.to_owned(), who.to_owned());
        Acknowledgment { device, alarm, at_ms, who }
    };
    let acknowledgments =
        vec![seen("hot", 1, "ann"), seen("hot", 2, "bob"), seen("disk", 3, "ann")];
    history.write(&Batch { acknowledgments, ..Batch::default() }).unwrap();
    let found = history.reader().unwrap().acknowledgments().unwrap();
    assert_eq!(found, [seen("disk", 3, "ann"), seen("hot", 2, "bob")]);
}

fn all_events() -> EventQuery {
    EventQuery { to_ms: i64::MAX, limit: 1000, ..EventQuery::default() }
}

fn maintain(history: &mut History, now_ms: i64) -> Upkeep {
    for _ in 0..10_000 {
        let upkeep = history.maintain(now_ms).unwrap();
        if !upkeep.more {
            return upkeep;
        }
    }
    panic!("upkeep never ends");
}

fn count(history: &History, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    history.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    (folder, path)
}

/// What the history should say, from a list of values.
#[derive(Default)]
struct Model {
    now: i64,
    /// By device, time and name, with how often it came after the raw window.
    values: Vec<(String, i64, String, f64)>,
}

impl Model {
    fn horizon(&self, kept: i64) -> i64 {
        floor(self.now - kept, HOUR_MS)
    }

    fn write(&mut self, sample: &Sample) {
        let at = sample.at_ms;
        if at < self.horizon(LIMITS.coarse_ms) {
            return;
        }
        for (name, value) in &sample.numbers {
            let entry = (sample.device.clone(), at, name.clone(), *value);
            if at >= self.horizon(LIMITS.raw_ms) {
                self.values.retain(|(d, t, n, _)| (d, t, n) != (&entry.0, &at, name));
            }
            self.values.push(entry);
        }
    }

    /// What is expected from `from` on: start to mean, min and max, where messages are merged to
    /// at least `step`.
    fn expect(&self, device: &str, from: i64, name: &str, step: i64) -> Vec<(i64, [f64; 3])> {
        let mut groups: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (_, at, _, value) in self
            .values
            .iter()
            .filter(|(d, at, n, _)| d == device && n == name && *at >= from)
            .filter(|(_, at, ..)| *at >= self.horizon(LIMITS.coarse_ms))
        {
            let width = if *at < self.horizon(LIMITS.fine_ms) {
                HOUR_MS
            } else if *at < self.horizon(LIMITS.raw_ms) {
                FINE_MS
            } else {
                1
            };
            groups.entry(floor(*at, width.max(step))).or_default().push(*value);
        }
        let merge = |values: Vec<f64>| {
            [
                values.iter().sum::<f64>() / values.len() as f64,
                values.iter().copied().fold(f64::MAX, f64::min),
                values.iter().copied().fold(f64::MIN, f64::max),
            ]
        };
        groups.into_iter().map(|(at, values)| (at, merge(values))).collect()
    }

    fn check(&self, reader: &Reader) {
        let from = floor(self.now, HOUR_MS) - 45 * HOUR_MS;
        let to = from + 46 * HOUR_MS;
        for step in [1, FINE_MS, HOUR_MS] {
            // Messages are minutes apart, so that they stay single with 4096 points.
            let max_points = if step == 1 { 4096 } else { ((to - from) / step) as usize };
            for device in ["f/a", "f/b"] {
                let curves = reader.curves(device, from, to, &["y", "x"], max_points).unwrap();
                for name in ["x", "y"] {
                    let expected = self.expect(device, from, name, step);
                    let found = curves.iter().find(|curve| curve.name == name);
                    let points = found.map(|curve| &curve.points[..]).unwrap_or_default();
                    assert_eq!(points.len(), expected.len(), "{device} {name} {step}");
                    for (point, (at, values)) in points.iter().zip(expected) {
                        assert_eq!(floor(point.at_ms, step), at);
                        let found = [point.mean, point.min, point.max];
                        for (found, expected) in found.into_iter().zip(values) {
                            let slack = 1e-5 * (1.0 + expected.abs());
                            assert!((found - expected).abs() < slack, "{found} {expected}");
                        }
                    }
                }
            }
        }
    }
}

fn any_samples() -> impl Strategy<Value = Vec<(bool, i64, bool, f64)>> {
    // Mostly new, some late; a minute may come again.
    let minutes_ago = prop_oneof![3 => 0..90_i64, 2 => 0..720_i64, 1 => 0..2700_i64];
    let value = prop_oneof![-1e3..1e3_f64, Just(1.0), Just(0.1)];
    prop::collection::vec((any::<bool>(), minutes_ago, any::<bool>(), value), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn curves_agree_with_a_list_of_values(
        turns in prop::collection::vec((any_samples(), 0..400_i64, 0..3_usize), 1..8),
    ) {
        let mut history = History::in_memory(LIMITS).unwrap();
        let reader = history.reader().unwrap();
        let mut model = Model { now: NOW, ..Model::default() };
        maintain(&mut history, NOW);
        for (batch, minutes, slices) in turns {
            let batch: Vec<_> = batch
                .into_iter()
                .map(|(device, minutes_ago, name, value)| {
                    let device = if device { "f/a" } else { "f/b" };
                    let at = floor(model.now, MINUTE_MS) - minutes_ago * MINUTE_MS;
                    sample(device, at, &[(if name { "x" } else { "y" }, value)])
                })
                .collect();
            history.write(&samples(batch.clone())).unwrap();
            batch.iter().for_each(|sample| model.write(sample));
            model.check(&reader);
            model.now += minutes * MINUTE_MS;
            for _ in 0..slices {
                history.maintain(model.now).unwrap();
            }
            maintain(&mut history, model.now);
            model.check(&reader);
        }
    }

    #[test]
    fn rows_come_back_and_garbage_is_damage(
        values in prop::collection::btree_map(any::<u16>(), (1..9_u32, -1e9..1e9_f64, 0.0..1e9_f64), 0..9),
        garbage in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let bucket = |(count, min, range): (u32, f64, f64)| {
            let max = if count == 1 { min } else { min + range };
            Bucket { count, min, max, mean: min, last: max }
        };
        let row: Numbers = values.into_iter().map(|(name, value)| (name, bucket(value))).collect();
        let back: Numbers = decode(&encode(&row, true)).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(row.len(), back.len());
        for (name, bucket) in &row {
            let back = back[name];
            prop_assert_eq!(bucket.count, back.count);
            prop_assert!(bucket.count > 1 || *bucket == back, "single values are exact");
            prop_assert!((bucket.mean - back.mean).abs() <= 1e-7 * bucket.mean.abs());
            prop_assert!((bucket.last - back.last).abs() <= 1e-7 * bucket.last.abs());
        }
        for number in decode(&garbage) {
            prop_assert!(number.map_or_else(|e| e.is_corrupt(), |(_, b)| b.mean.is_finite()));
        }
    }
}

#[test]
fn a_bucket_has_min_max_mean_and_last() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let values = [4.0, 1.0, 7.0, 2.0];
    let batch = values.iter().enumerate().map(|(n, value)| {
        sample("f/a", NOW + n as i64, &[("loss", *value), ("steps", 3.0), ("nan", f64::NAN)])
    });
    history.write(&samples(batch.collect())).unwrap();
    maintain(&mut history, NOW + 5 * HOUR_MS);

    let curves = history.reader().unwrap().curves("f/a", NOW, NOW + 1, &["steps", "loss"], 100);

    let loss = Point { at_ms: NOW, mean: 3.5, min: 1.0, max: 7.0, last: 2.0 };
    let steps = Point { at_ms: NOW, mean: 3.0, min: 3.0, max: 3.0, last: 3.0 };
    let curve = |name: &str, point| Curve { name: name.to_owned(), points: vec![point] };
    assert_eq!(curves.unwrap(), [curve("steps", steps), curve("loss", loss)]);
    assert_eq!(history.dropped(), Dropped { numbers: 4, ..Dropped::default() });
}

#[test]
fn messages_of_the_same_time_are_kept_together() {
    let mut history = History::in_memory(LIMITS).unwrap();
    for numbers in [[("a", 1.0)], [("b", 2.0)], [("a", 3.0)], [("a", 3.0)]] {
        history.write(&samples(vec![sample("f/a", NOW, &numbers)])).unwrap();
    }

    let curves = history.reader().unwrap().curves("f/a", NOW, NOW + 1, &[], 10).unwrap();

    let values: Vec<_> = curves.iter().map(|c| (c.name.as_str(), c.points[0].mean)).collect();
    assert_eq!(values, [("a", 3.0), ("b", 2.0)]);
    assert_eq!(count(&history, "raw"), 1);
}

#[test]
fn what_is_too_old_or_of_the_future_is_purged() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let ids: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let ago = |n: usize| NOW - n as i64 * HOUR_MS;
    for (n, id) in ids.iter().enumerate() {
        history.write(&samples(vec![sample("f/a", ago(n), &[("x", 1.0)])])).unwrap();
        history.write(&happenings(vec![happening(["f/b", "f/c"][n % 2], ago(5 * n), id)])).unwrap();
        history.write(&spent(ago(n), "training", "idle", 1)).unwrap();
        history.write(&deed(ago(n), id)).unwrap();
    }
    let far = NOW + 300 * DAY_MS;
    history.write(&samples(vec![sample("f/a", far, &[("x", 1.0)])])).unwrap();
    history.write(&spent(far, "training", "idle", 1)).unwrap();

    maintain(&mut history, NOW + 2 * MINUTE_MS);

    assert_eq!(count(&history, "raw"), 4);
    assert_eq!(count(&history, "fine"), 10);
    assert_eq!(count(&history, "coarse"), 40);
    assert_eq!(count(&history, "stale"), 1);
    assert_eq!(count(&history, "event"), 5);
    assert_eq!(count(&history, "deed"), 30);
    assert_eq!(count(&history, "spent"), 3);
    history.write(&samples(vec![sample("f/a", ago(41), &[("x", 1.0)])])).unwrap();
    assert_eq!(history.dropped().samples, 1);
    assert_eq!(history.reader().unwrap().first_day("f/a").unwrap(), Some(NOW - 2 * DAY_MS));
}

#[test]
fn a_clock_that_was_ahead_costs_no_later_message() {
    let mut history = History::in_memory(LIMITS).unwrap();
    maintain(&mut history, NOW + 9000 * DAY_MS);
    maintain(&mut history, NOW);
    history.write(&samples(vec![sample("f/a", NOW, &[("x", 1.0)])])).unwrap();
    assert_eq!((count(&history, "raw"), history.dropped()), (1, Dropped::default()));
}

#[test]
fn over_the_size_limit_all_resolutions_lose_their_oldest() {
    let (_folder, path) = folder();
    let limits = Limits { max_bytes: 2 << 20, raw_ms: 40 * HOUR_MS, ..LIMITS };
    let mut history = History::open(&path, limits).unwrap();
    let names: Vec<_> = (0..100).map(|n| format!("number {n}")).collect();
    let numbers: Vec<_> = names.iter().map(|name| (name.as_str(), 0.1)).collect();
    for hour in (0..40).rev() {
        let times = (0..60).map(|minute| NOW - hour * HOUR_MS - minute * MINUTE_MS);
        let batch = times.flat_map(|at| ["f/a", "f/b"].map(|device| sample(device, at, &numbers)));
        history.write(&samples(batch.collect())).unwrap();
    }
    let pages = file::number(&history.connection, "page_count").unwrap();
    assert!(pages as u64 * 8192 > limits.max_bytes);

    let upkeep = maintain(&mut history, NOW);

    assert!(upkeep.used_bytes <= limits.max_bytes, "{upkeep:?}");
    assert!(upkeep.used_bytes > limits.max_bytes / 2, "{upkeep:?}");
    assert!(upkeep.file_bytes <= limits.max_bytes + (256 << 13), "{upkeep:?}");
    let curves =
        history.reader().unwrap().curves("f/a", NOW - HOUR_MS, NOW + 1, &["number 7"], 4096);
    assert!(curves.unwrap()[0].points.len() > 30);
    history.write(&samples(vec![sample("f/a", NOW + 1, &[("number 7", 2.0)])])).unwrap();
}

#[test]
fn names_devices_and_messages_are_limited() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let names: Vec<_> = (0..600).map(|n| n.to_string()).chain(["x".repeat(65)]).collect();
    let numbers: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    history.write(&samples(vec![sample("f/a", NOW, &numbers)])).unwrap();
    assert_eq!(history.dropped().numbers, 89);
    assert_eq!(count(&history, "name"), 512);

    let devices: Vec<_> = (0..9).map(|n| format!("f/{n}")).collect();
    let from = |device: &String| sample(device, NOW, &[("1", 1.0)]);
    history.write(&samples(devices.iter().map(from).collect())).unwrap();
    assert_eq!(history.dropped().samples, 5);
    assert_eq!(count(&history, "device"), 5);

    let loud = (0..150).map(|n| sample("f/a", NOW + 1 + n, &[("1", 1.0)]));
    history.write(&samples(loud.collect())).unwrap();
    assert_eq!(history.dropped().samples, 5 + 51);
    maintain(&mut history, NOW + 2 * HOUR_MS);
    history.write(&samples(vec![sample("f/a", NOW + 500, &[("1", 1.0)])])).unwrap();
    assert_eq!(history.dropped().samples, 5 + 52);
}

#[test]
fn hostile_values_do_no_harm() {
    let mut history = History::in_memory(Limits { max_devices: 100, ..LIMITS }).unwrap();
    let texts =
        ["", "'; DROP TABLE raw; --", "a\0b", "\u{202e}\u{1f980}", "%s", &"\u{e9}".repeat(9000)];
    for (n, text) in texts.into_iter().enumerate() {
        let extremes = [f64::MAX, f64::MIN, -0.0, 5e-324, f64::INFINITY];
        for at in [i64::MIN, -1, 0, NOW, NOW + n as i64, i64::MAX] {
            let numbers = extremes.map(|value| (text, value));
            history.write(&samples(vec![sample(text, at, &numbers)])).unwrap();
            history.write(&samples(vec![sample("f/a", at, &numbers[n % 5..])])).unwrap();
            let hostile = Happening {
                event: text.to_owned(),
                sentence: text.to_owned(),
                detail: text.to_owned(),
                ..happening(text, at, text)
            };
            let other = Happening { device: "f/a".to_owned(), ..hostile.clone() };
            history.write(&happenings(vec![hostile, other])).unwrap();
            history.write(&spent(at, text, text, u64::MAX)).unwrap();
            history.write(&deed(at, text)).unwrap();
        }
        history.forget(text).unwrap();
    }
    maintain(&mut history, NOW + 5 * HOUR_MS);

    let reader = history.reader().unwrap();
    let curves = reader.curves("f/a", i64::MIN, i64::MAX, &[], usize::MAX).unwrap();
    assert!(curves.iter().flat_map(|c| &c.points).all(|p| p.mean.is_finite()), "{curves:?}");
    let events = reader.events(&all_events()).unwrap();
    assert!(events.iter().all(|e| e.sentence.len() <= 1024 && e.detail.len() <= 8192));
    assert_eq!(reader.days("f/a", i64::MIN, i64::MAX).unwrap().len(), 6);
    assert!(reader.curves("f/a", i64::MAX, i64::MIN, &["x"], 0).unwrap().is_empty());
    assert!(maintain(&mut history, i64::MAX).rows > 0);
    maintain(&mut history, i64::MIN);
}

#[test]
fn events_come_once_and_the_newest_stay() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let ids: Vec<_> = (0..15).map(|n| n.to_string()).collect();
    let all = || ids.iter().enumerate().map(|(n, id)| happening("f/a", NOW + n as i64, id));
    history.write(&happenings(all().collect())).unwrap();
    history.write(&happenings(all().collect())).unwrap();
    let failed = Happening { event: "failed".to_owned(), ..happening("f/b", NOW + 12, "0") };
    history.write(&happenings(vec![failed.clone()])).unwrap();

    let reader = history.reader().unwrap();
    let events = |query: EventQuery| {
        let ids = reader.events(&query).unwrap().into_iter().map(|event| event.id);
        ids.collect::<Vec<_>>().join(" ")
    };
    let device = Some("f/a".to_owned());
    let of_a = EventQuery { device, limit: 3, ..all_events() };
    assert_eq!(events(of_a.clone()), "14 13 12");
    assert_eq!(events(EventQuery { to_ms: NOW + 12, ..of_a }), "11 10 9");
    assert_eq!(events(EventQuery { from_ms: NOW + 12, ..all_events() }), "14 13 0 12");
    assert_eq!(events(all_events()).split(' ').count(), 11);
    let query = EventQuery { kinds: vec!["failed".to_owned()], ..all_events() };
    assert_eq!(reader.events(&query).unwrap(), [failed]);
}

#[test]
fn time_adds_up_to_its_day() {
    let mut history = History::in_memory(LIMITS).unwrap();
    history.write(&spent(NOW, "training", "idle", 7)).unwrap();
    history.write(&spent(NOW + DAY_MS - 1, "training", "idle", 5)).unwrap();
    history.write(&spent(NOW + DAY_MS, "paused", "operator", 3)).unwrap();

    let days = |from, to| history.reader().unwrap().days("f/a", from, to).unwrap();

    let day = |day_ms, state: &str, reason: &str, ms| {
        let (state, reason) = (state.to_owned(), reason.to_owned());
        Day { day_ms, state, reason, ms }
    };
    let expected = [day(NOW, "training", "idle", 12), day(NOW + DAY_MS, "paused", "operator", 3)];
    assert_eq!(days(NOW + 5, NOW + DAY_MS + 1), expected);
    assert_eq!(days(NOW + 5, NOW + DAY_MS), expected[..1]);
}

#[test]
fn a_day_has_at_most_64_rows_and_loses_no_time() {
    let mut history = History::in_memory(LIMITS).unwrap();
    for n in 0..200 {
        history.write(&spent(NOW, &format!("state {}", n % 50), &format!("{n}"), 1)).unwrap();
    }
    let days = history.reader().unwrap().days("f/a", NOW, NOW + 1).unwrap();
    assert_eq!(days.len(), 64);
    assert_eq!(days.iter().map(|day| day.ms).sum::<u64>(), 200);
}

#[test]
fn the_audit_log_is_read_from_its_end() {
    let mut history = History::in_memory(LIMITS).unwrap();
    (0..9).for_each(|n| history.write(&deed(NOW + n, &n.to_string())).unwrap());
    let reader = history.reader().unwrap();
    let deeds = |limit, before| {
        let deeds = reader.deeds(limit, before).unwrap().into_iter().map(|(_, deed)| deed.what);
        deeds.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(deeds(3, None), "8 7 6");
    let (third, _) = reader.deeds(3, None).unwrap().pop().unwrap();
    assert_eq!(deeds(2, Some(third)), "5 4");
}

#[test]
fn a_retired_device_is_forgotten_and_may_return() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let mut batch = spent(NOW, "training", "idle", 1);
    batch.samples = vec![sample("f/a", NOW, &[("x", 1.0)]), sample("f/b", NOW, &[("x", 1.0)])];
    batch.happenings = vec![happening("f/a", NOW, "1")];
    history.write(&batch).unwrap();
    let reader = history.reader().unwrap();

    history.forget("f/a").unwrap();

    assert!(reader.events(&all_events()).unwrap().is_empty());
    assert!(reader.curves("f/a", 0, NOW + 1, &[], 9).unwrap().is_empty());
    assert!(reader.days("f/a", 0, NOW + 1).unwrap().is_empty());
    history.write(&samples(vec![sample("f/a", NOW + 5, &[("x", 2.0)])])).unwrap();
    maintain(&mut history, NOW);
    assert_eq!((count(&history, "raw"), count(&history, "device")), (2, 2));
    assert_eq!((count(&history, "event"), count(&history, "spent")), (0, 0));
}

#[test]
fn a_killed_writer_loses_no_finished_batch() {
    let (folder, path) = folder();
    let mut history = History::open(&path, LIMITS).unwrap();
    let reader = history.reader().unwrap();
    for n in 0..20 {
        let mut batch = deed(NOW + n, "pause");
        batch.samples = vec![sample("f/a", NOW + n, &[("x", n as f64)])];
        history.write(&batch).unwrap();
    }
    assert_eq!(reader.deeds(100, None).unwrap().len(), 20);

    // What a kill would leave there.
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(folder.path().join("history.db-wal"), folder.path().join("copy.db-wal")).unwrap();
    let mut copied = History::open(&copy, LIMITS).unwrap();

    assert_eq!((count(&copied, "deed"), count(&copied, "raw")), (20, 20));
    maintain(&mut copied, NOW + 2 * HOUR_MS);
    let curves = copied.reader().unwrap().curves("f/a", NOW, NOW + 1, &[], 1).unwrap();
    assert_eq!(curves[0].points[0].max, 0.0, "the range has only the first");
}

#[test]
fn after_a_failed_batch_nothing_of_it_is_remembered() {
    let mut history = History::in_memory(LIMITS).unwrap();
    let schema: String = history
        .connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'deed'", [], |row| row.get(0))
        .unwrap();
    history.connection.execute_batch("DROP TABLE deed").unwrap();
    let mut batch = deed(NOW, "pause");
    batch.samples = vec![sample("f/a", NOW, &[("x", 1.0)])];
    history.write(&batch).unwrap_err();
    history.connection.execute_batch(&schema).unwrap();

    history.write(&batch).unwrap();

    assert_eq!(["device", "name", "stale", "raw"].map(|table| count(&history, table)), [1; 4]);
}

#[test]
fn a_damaged_file_is_set_aside_and_others_are_refused() {
    let (_folder, path) = folder();
    fs::write(&path, "this is no database, but it is long enough to look like one").unwrap();
    let mut history = History::open(&path, LIMITS).unwrap();
    let aside = history.set_aside().unwrap();
    assert!(fs::read_to_string(aside).unwrap().starts_with("this is no"));
    history.write(&deed(NOW, "pause")).unwrap();
    let damage = HistoryError::Damaged { what: "a row" };
    history = history.replace(&damage).unwrap();
    assert_eq!(count(&history, "deed"), 0);
    drop(history);
    assert_eq!(History::open(&path, LIMITS).unwrap().set_aside(), None);

    let change = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    change("PRAGMA user_version = 9");
    let error = History::open(&path, LIMITS).unwrap_err();
    assert!(matches!(error, HistoryError::Version { version: 9, .. }), "{error}");
    change("PRAGMA user_version = 1; PRAGMA application_id = 77");
    let error = History::open(&path, LIMITS).unwrap_err();
    assert!(matches!(error, HistoryError::Foreign { .. }), "{error}");
    change("PRAGMA application_id = 1818326084; ALTER TABLE deed RENAME TO deeds");
    assert!(History::open(&path, LIMITS).unwrap().set_aside().is_some());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = folder();
    let mut history = History::open(&path, LIMITS).unwrap();
    history.write(&deed(NOW, "pause")).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
