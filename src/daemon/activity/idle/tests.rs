use super::*;

use proptest::prelude::*;

/// Limits that are easy to compute with: idle after 60 s of quiet, a spike forgiven for 2 s.
fn settings() -> ActivitySettings {
    ActivitySettings { idle_after_s: 60, busy_after_s: 2, ..ActivitySettings::default() }
}

fn judge() -> IdleJudge {
    IdleJudge::new(&settings())
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn reading(signals: Vec<Signal>) -> Reading {
    Reading { signals, opens_in_s: None }
}

fn cpu(percent: f64) -> Signal {
    Signal::at_most(Measure::CpuLoad, percent, 20.0, Verdict::Busy, "by others")
}

fn user(count: f64) -> Signal {
    Signal::at_most(Measure::Users, count, 0.5, Verdict::Busy, "")
}

fn heat(celsius: f64) -> Signal {
    Signal::at_most(Measure::Temperature, celsius, 80.0, Verdict::Hot, "at cpu-thermal")
}

fn memory(mib: f64) -> Signal {
    Signal::at_least(Measure::FreeMemory, mib, 100.0, Verdict::Low, "")
}

fn battery(percent: f64) -> Signal {
    Signal::at_least(Measure::Power, percent, 20.0, Verdict::Power, "on mains")
}

/// A judge for whom the device is idle at 100 s.
fn idle_judge() -> IdleJudge {
    let mut judge = judge();
    for s in [0, 50, 100] {
        judge.observe(seconds(s), &reading(vec![cpu(1.0)]));
    }
    judge
}

#[test]
fn idle_is_earned_by_quiet() {
    let mut judge = judge();
    let quiet = reading(vec![cpu(3.0)]);
    let waiting = judge.observe(seconds(0), &quiet);
    assert_eq!(waiting.kind(), ConditionKind::Busy);
    assert!(matches!(waiting, Condition::Busy { idle_in_s: Some(60), .. }), "{waiting:?}");
    assert!(matches!(
        judge.observe(seconds(45), &quiet),
        Condition::Busy { idle_in_s: Some(15), .. }
    ));
    assert_eq!(judge.observe(seconds(60), &quiet), Condition::Idle);
}

#[test]
fn a_person_ends_it_at_once_and_the_wait_begins_anew() {
    let mut judge = idle_judge();
    let here = judge.observe(seconds(101), &reading(vec![user(1.0)]));
    assert!(matches!(here, Condition::Busy { idle_in_s: None, .. }), "{here:?}");
    let gone = judge.observe(seconds(102), &reading(vec![user(0.0)]));
    assert!(matches!(gone, Condition::Busy { idle_in_s: Some(60), .. }), "{gone:?}");
}

#[test]
fn load_must_last_to_count_and_says_its_numbers() {
    let mut judge = idle_judge();
    assert_eq!(judge.observe(seconds(101), &reading(vec![cpu(43.0)])), Condition::Idle);
    assert_eq!(judge.observe(seconds(102), &reading(vec![cpu(43.0)])), Condition::Idle);
    let busy = judge.observe(seconds(103), &reading(vec![cpu(43.0)]));
    assert_eq!(busy.reason(), Some("cpu: 43 % by others (limit 20 %)"));
}

#[test]
fn a_short_spike_neither_ends_quiet_nor_begins_idleness() {
    let mut judge = judge();
    judge.observe(seconds(0), &reading(vec![cpu(1.0)]));
    judge.observe(seconds(30), &reading(vec![cpu(90.0)]));
    judge.observe(seconds(31), &reading(vec![cpu(1.0)]));
    let spike = judge.observe(seconds(60), &reading(vec![cpu(90.0)]));
    assert!(matches!(spike, Condition::Busy { idle_in_s: Some(1), .. }), "{spike:?}");
    assert_eq!(judge.observe(seconds(61), &reading(vec![cpu(1.0)])), Condition::Idle);
}

#[test]
fn without_patience_each_sample_counts() {
    let mut judge = IdleJudge::new(&ActivitySettings { busy_after_s: 0, ..settings() });
    for s in [0, 30, 60] {
        judge.observe(seconds(s), &reading(vec![cpu(1.0)]));
    }
    assert_eq!(judge.observe(seconds(61), &reading(vec![cpu(21.0)])).kind(), ConditionKind::Busy);
}

#[test]
fn heat_stops_at_one_mark_and_ends_at_the_other() {
    let mut judge = idle_judge();
    let mut at = |s, celsius| judge.observe(seconds(s), &reading(vec![heat(celsius)]));
    assert_eq!(at(101, 80.0), Condition::Idle);
    assert_eq!(at(102, 81.0).reason(), Some("temperature: 81 °C at cpu-thermal (limit 80 °C)"));
    assert_eq!(
        at(103, 71.0).reason(),
        Some("temperature: 71 °C, was beyond its limit, waiting for 70 °C")
    );
    assert_eq!(at(104, 70.0), Condition::Idle, "heat is no use: no new wait");
}

#[test]
fn a_hot_device_whose_sensor_fails_stays_hot_until_it_tells_again() {
    let mut judge = idle_judge();
    judge.observe(seconds(101), &reading(vec![heat(90.0)]));
    let failed = Signal::words(Measure::Temperature, Verdict::Unreadable, "cannot be read");
    let gone = Signal::words(Measure::Temperature, Verdict::Absent, "no sensor");
    assert_eq!(judge.observe(seconds(102), &reading(vec![failed])).kind(), ConditionKind::Hot);
    assert_eq!(judge.observe(seconds(103), &reading(vec![gone])), Condition::Idle);
}

#[test]
fn memory_and_battery_must_recover_beyond_their_limits() {
    let mut judge = idle_judge();
    let mut memory_at = |s, mib| judge.observe(seconds(s), &reading(vec![memory(mib)])).kind();
    assert_eq!(memory_at(101, 99.0), ConditionKind::LowResources);
    assert_eq!(memory_at(102, 105.0), ConditionKind::LowResources);
    assert_eq!(memory_at(103, 111.0), ConditionKind::Idle);
    let mut battery_at =
        |s, percent| judge.observe(seconds(s), &reading(vec![battery(percent)])).kind();
    assert_eq!(battery_at(104, 19.0), ConditionKind::NoPower);
    assert_eq!(battery_at(105, 24.0), ConditionKind::NoPower);
    assert_eq!(battery_at(106, 25.0), ConditionKind::Idle);
}

#[test]
fn the_gravest_reason_is_told() {
    let closed = Signal::words(Measure::Windows, Verdict::Blocked, "closed");
    let by_gravity = [heat(95.0), memory(10.0), battery(5.0), closed, user(1.0)];
    let told = |from: usize| {
        let mut signals = by_gravity[from..].to_vec();
        signals.reverse();
        idle_judge().observe(seconds(101), &reading(signals)).kind()
    };
    assert_eq!(
        (0..=5).map(told).collect::<Vec<_>>(),
        [
            ConditionKind::Hot,
            ConditionKind::LowResources,
            ConditionKind::NoPower,
            ConditionKind::Closed,
            ConditionKind::Busy,
            ConditionKind::Idle,
        ]
    );
}

#[test]
fn a_closed_window_says_when_it_opens() {
    let closed = Signal::words(Measure::Windows, Verdict::Blocked, "closed");
    let found = idle_judge()
        .observe(seconds(101), &Reading { signals: vec![closed], opens_in_s: Some(600) });
    assert_eq!(
        found,
        Condition::Closed { reason: "time window: closed".into(), opens_in_s: Some(600) }
    );
}

#[test]
fn an_inhibitor_does_not_promise_when_it_ends() {
    let mut judge = idle_judge();
    let inhibited = Signal::words(Measure::Inhibit, Verdict::Blocked, "by /run/busy");
    let found =
        judge.observe(seconds(101), &Reading { signals: vec![inhibited], opens_in_s: Some(600) });
    assert_eq!(
        found,
        Condition::Closed { reason: "inhibited: by /run/busy".into(), opens_in_s: None }
    );
}

#[test]
fn a_clock_that_stands_or_goes_back_does_no_harm() {
    let mut judge = idle_judge();
    let quiet = reading(vec![cpu(1.0)]);
    assert_eq!(judge.observe(seconds(100), &quiet), Condition::Idle);
    assert_eq!(judge.observe(seconds(3), &quiet), Condition::Idle);
    assert_eq!(judge.observe(Duration::MAX, &quiet).kind(), ConditionKind::Busy);
    assert_eq!(judge.observe(Duration::ZERO, &quiet).kind(), ConditionKind::Busy);
}

#[test]
fn after_a_time_without_samples_quiet_is_not_taken_for_granted() {
    let mut judge = idle_judge();
    let quiet = reading(vec![cpu(1.0)]);
    assert_eq!(judge.observe(seconds(160), &quiet), Condition::Idle);
    assert_eq!(judge.observe(seconds(221), &quiet).kind(), ConditionKind::Busy);
}

#[test]
fn a_condition_written_and_read_is_the_same() {
    let busy = Condition::Busy { reason: "cpu: 43 %".into(), idle_in_s: Some(3) };
    let json = serde_json::to_string(&busy).expect("plain values");
    assert_eq!(json, r#"{"condition":"busy","reason":"cpu: 43 %","idle_in_s":3}"#);
    assert_eq!(serde_json::from_str::<Condition>(&json).expect("what was written"), busy);
}

/// What one sample of the property tests holds.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Milliseconds since the last one.
    after_ms: u64,
    cpu_over: bool,
    someone: bool,
    celsius: f64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop::sample::select(vec![0, 500, 1000, 1500, 5000, 30_000, 61_000]),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.05),
        prop::sample::select(vec![20.0, 20.0, 70.0, 75.0, 80.0, 85.0]),
    );
    let step = step.prop_map(|(after_ms, cpu_over, someone, celsius)| Step {
        after_ms,
        cpu_over,
        someone,
        celsius,
    });
    prop::collection::vec(step, 1..60)
}

/// The conditions as the header of the module tells them, found by looking over the whole past at
/// every step instead of remembering anything.
fn by_hindsight(steps: &[Step]) -> Vec<ConditionKind> {
    let mut times = Vec::new();
    let mut now = 0;
    for step in steps {
        now += step.after_ms;
        times.push(now);
    }
    let gap = |i: usize| i > 0 && times[i] - times[i - 1] > 60_000;
    // Over the limit in all samples from some sample at least 2 s ago on.
    let loaded = |i: usize| {
        (0..=i)
            .any(|j| times[i] - times[j] >= 2000 && steps[j..=i].iter().all(|step| step.cpu_over))
    };
    let used = |i: usize| steps[i].someone || loaded(i);
    let quiet = |i: usize| {
        (0..=i).any(|j| {
            times[i] - times[j] >= 60_000 && (j..=i).all(|k| !used(k) && (k == j || !gap(k)))
        })
    };
    let mut idle = false;
    let mut kinds = Vec::new();
    for i in 0..steps.len() {
        let stays = idle && !gap(i) && !used(i);
        idle = stays || (quiet(i) && !steps[i].cpu_over);
        let last_mark = (0..=i).rev().find_map(|k| match steps[k].celsius {
            hot if hot > 80.0 => Some(true),
            cool if cool <= 70.0 => Some(false),
            _ => None,
        });
        kinds.push(match (last_mark, idle) {
            (Some(true), _) => ConditionKind::Hot,
            (_, true) => ConditionKind::Idle,
            (_, false) => ConditionKind::Busy,
        });
    }
    kinds
}

proptest! {
    #[test]
    fn the_judge_decides_as_one_who_remembers_everything(steps in steps()) {
        let mut judge = judge();
        let mut now = Duration::ZERO;
        let mut kinds = Vec::new();
        for step in &steps {
            now += Duration::from_millis(step.after_ms);
            let signals = vec![
                cpu(if step.cpu_over { 50.0 } else { 5.0 }),
                user(f64::from(u8::from(step.someone))),
                heat(step.celsius),
            ];
            kinds.push(judge.observe(now, &reading(signals)).kind());
        }
        prop_assert_eq!(kinds, by_hindsight(&steps));
    }
}
