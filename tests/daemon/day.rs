//! A whole day on a virtual clock: the daemon's own parts (what is measured, the judge, the plan, the
//! scheduler, the intake, the outbox) in a world that is written down below. The worker is a counter.
//!
//! Whether training was allowed is judged by the script itself, not by the parts under test.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::date;
use jiff::tz::TimeZone;
use latrod::config::CycleSettings;
use latrod::contract::event::Event;
use latrod::contract::topics::Topics;
use latrod::daemon::activity::{Activity, ActivitySettings, IdleJudge, Own, Users};
use latrod::daemon::cycle::Stage;
use latrod::daemon::plan::{Known, plan};
use latrod::daemon::scheduler::{Job, Order, Scheduler, State, Work, WorkerState, World};
use latrod::intake::{Spool, SpoolSettings};
use latrod::report::outbox::{self, Limits, Outbox};
use latrod::store::ledger::Ledger;

const DAY_S: u64 = 86_400;
/// The machine's cores, and its clock's ticks in a second.
const CORES: u64 = 4;
const HERTZ: u64 = 100;
/// Steps of a cycle, and seconds of a step and of a comparison.
const STEPS: u64 = 240;
const STEP_S: u64 = 30;
const COMPARISON_S: u64 = 600;
/// What may pass until a need of the device is seen and acted on: a look, and a spike's grace.
const LATENCY_S: u64 = 5;
/// Messages that may wait for the broker.
const OUTBOX: u64 = 4;

const fn at(hour: u64, minute: u64) -> u64 {
    hour * 3600 + minute * 60
}

const fn within(t: u64, from: u64, to: u64) -> bool {
    from <= t && t < to
}

/// The day, second by second.
struct Script;

impl Script {
    /// Load by others, percent.
    fn load(t: u64) -> u64 {
        match t {
            // A timer job each hour, for one second: no reason to stop.
            _ if t.is_multiple_of(3600) => 90,
            _ if within(t, at(2, 0), at(3, 0)) => 60,
            _ if within(t, at(9, 0), at(12, 0)) || within(t, at(14, 0), at(19, 30)) => 35,
            _ if within(t, at(12, 30), at(13, 0)) => 45,
            _ if within(t, at(20, 0), at(21, 30)) => 25 + t % 40,
            _ => 3,
        }
    }

    /// Degrees Celsius.
    fn heat(t: u64) -> u64 {
        match t {
            _ if within(t, at(4, 0), at(4, 30)) => 88,
            // Cooling, but not cool yet: 70 is.
            _ if within(t, at(4, 30), at(4, 45)) => 75,
            _ => 55,
        }
    }

    fn mains(t: u64) -> bool {
        !within(t, at(5, 30), at(6, 15))
    }

    fn inhibited(t: u64) -> bool {
        within(t, at(13, 10), at(13, 30))
    }

    fn window(t: u64) -> bool {
        within(t, 0, at(8, 0)) || within(t, at(12, 0), at(14, 0)) || t >= at(20, 0)
    }

    fn paused(t: u64) -> bool {
        within(t, at(22, 30), at(23, 0))
    }

    fn broker(t: u64) -> bool {
        !(within(t, at(1, 0), at(3, 30)) || within(t, at(21, 0), at(23, 10)))
    }

    /// New tasks of this second.
    fn tasks(t: u64) -> usize {
        match t {
            60 => 400,
            _ if t == at(11, 55) || t == at(19, 0) => 150,
            _ if t == at(22, 0) => 40,
            _ => 0,
        }
    }

    /// Whether training may run.
    fn allows(t: u64) -> bool {
        let cool = Self::heat(t) < 80 && !within(t, at(4, 0), at(4, 45));
        let spike = t.is_multiple_of(3600);
        (Self::load(t) <= 30 || spike)
            && cool
            && Self::mains(t)
            && !Self::inhibited(t)
            && Self::window(t)
            && !Self::paused(t)
    }
}

/// The files of the device.
fn write_device(root: &Path, t: u64, others: u64, worker: u64) {
    let total = t * CORES * HERTZ;
    let busy = others + worker;
    let idle = total.saturating_sub(busy);
    write(
        root,
        "proc/stat",
        &format!(
            "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\ncpu2 0 0 0 0\ncpu3 0 0 0 0\n"
        ),
    );
    write(
        root,
        "proc/7/stat",
        &format!("7 (latrod) R 1 7 7 0 -1 0 0 0 0 0 {worker} 0 0 0 39 19 4 0 100 0 0\n"),
    );
    write(root, "sys/class/thermal/thermal_zone0/temp", &format!("{}000\n", Script::heat(t)));
    let online = u8::from(Script::mains(t));
    write(root, "sys/class/power_supply/AC/online", &format!("{online}\n"));
    let inhibit = root.join("in-use");
    if Script::inhibited(t) {
        fs::write(&inhibit, "").unwrap();
    } else {
        let _ = fs::remove_file(&inhibit);
    }
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What the worker has done of its job.
#[derive(Default)]
struct Counter {
    steps: u64,
    seconds: u64,
    compared: u64,
}

#[test]
fn a_day_of_idle_windows_heat_battery_outages_and_tasks() {
    // The device's files change every other second; written to a disk, each would wait for it.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory } else { &std::env::temp_dir() };
    let (device, dir) = (tempfile::tempdir_in(folder).unwrap(), tempfile::tempdir().unwrap());
    let (root, state, spool_dir) =
        (device.path().to_owned(), dir.path().join("state"), dir.path().join("spool"));
    for folder in [&state, &spool_dir] {
        fs::create_dir(folder).unwrap();
    }
    write(&root, "proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n");
    write(&root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    write(&root, "sys/class/power_supply/AC/type", "Mains\n");
    for (name, value) in
        [("type", "Battery"), ("present", "1"), ("status", "Full"), ("capacity", "95")]
    {
        write(&root, &format!("sys/class/power_supply/BAT0/{name}"), value);
    }
    let idle = ActivitySettings {
        idle_after_s: 120,
        users: Users::Ignore,
        inhibit_paths: vec![root.join("in-use")],
        windows: vec!["20:00-08:00".into(), "12:00-14:00".into()],
        min_free_disk_mib: 1,
        min_free_disk_percent: 0.0,
        ..ActivitySettings::default()
    };
    // Files below the root are named from the root on.
    let idle = ActivitySettings { inhibit_paths: vec!["/in-use".into()], ..idle };
    let cycles = CycleSettings { check_after_held_out: 0, ..CycleSettings::default() };
    let mut activity = Activity::new(idle.clone(), root.clone(), state.clone()).unwrap();
    let mut judge = IdleJudge::new(&idle);
    let mut scheduler = Scheduler::new(Duration::from_secs(600));
    let (ledger, _) = Ledger::open(&state.join("ledger.db"), &latrod::report::SCHEMAS).unwrap();
    let intake = SpoolSettings {
        folder: spool_dir.clone(),
        held_out_share: 0.2,
        ..SpoolSettings::default()
    };
    let mut spool = Spool::new(intake, &state);
    let limits = Limits { messages: OUTBOX, bytes: 1 << 20 };
    let outbox = Outbox::new(Topics::new("press", "d1").unwrap(), limits);

    let midnight = date(2026, 11, 22).to_zoned(TimeZone::UTC).unwrap();
    let (mut others, mut worker_ticks, mut told, mut delivered) = (0, 0, 0, 0_u64);
    let mut worker = WorkerState::Absent;
    let mut counter = Counter::default();
    let (mut stage, mut newest, mut ended) = (None, 0, None);
    let (mut ran, mut allowed, mut cycles_done, mut made) = (0_u64, 0_u64, 0, 0_usize);
    let mut last_state = State::Starting;

    for t in 0..DAY_S {
        let (now, wall) = (Duration::from_secs(t), &midnight + (t as i64).seconds());
        let running = matches!(worker, WorkerState::Running(Some(_)));
        others += Script::load(t) * CORES * HERTZ / 100;
        if running {
            // It leaves the others what they want.
            worker_ticks += (100 - Script::load(t)) * CORES * HERTZ / 100;
            ran += 1;
            let recently = t.saturating_sub(LATENCY_S)..=t;
            assert!(recently.into_iter().any(Script::allows), "it runs at second {t}, {wall}");
            work(&mut counter, &mut worker, &mut stage);
        }
        allowed += u64::from(Script::allows(t));
        let new = Script::tasks(t);
        if new > 0 {
            let lines: String = (made..made + new)
                .map(|n| format!("{{\"question\": \"{n} + 1?\", \"answer\": \"{}\"}}\n", n + 1))
                .collect();
            fs::write(spool_dir.join(format!("{t}.jsonl")), lines).unwrap();
            made += new;
        }
        if t % 2 == 1 {
            continue;
        }
        write_device(&root, t, others, worker_ticks);
        let own = Own { pids: &[7], training: running, on_gpu: false };
        let reading = activity.sample(now, &wall, &own);
        let condition = judge.observe(now, &reading);
        if spool.scan(&ledger, now, wall.timestamp().as_second()).unwrap().files > 0 {
            tell(
                &outbox,
                &ledger,
                &mut told,
                &Event::TasksTaken { count: new as u64, rejected: 0 },
            );
        }
        for _ in 0..8 {
            let counts = ledger.task_counts().unwrap();
            let known = Known {
                stage,
                train: counts.train as usize,
                held_out: counts.held_out as usize,
                new_tasks: ledger.tasks_after(newest).unwrap().0 as usize,
                last_ended: ended,
                ..Known::default()
            };
            let work = plan(&cycles, &known, wall.timestamp().as_second());
            let decision = scheduler.observe(
                now,
                &World {
                    ready: true,
                    stopping: false,
                    paused: Script::paused(t).then_some("paused by an operator"),
                    fault: None,
                    condition: &condition,
                    work: &work,
                    worker,
                },
            );
            if decision.state != last_state {
                last_state = decision.state;
                let reason = latrod::contract::event::Sentence::new(&decision.reason);
                tell(&outbox, &ledger, &mut told, &Event::Recovered { sentence: reason });
            }
            let Some(order) = decision.order else { break };
            match order {
                Order::StartWorker => worker = WorkerState::Running(None),
                Order::Give(job) => worker = WorkerState::Running(Some(job)),
                Order::Freeze => {
                    let WorkerState::Running(job) = worker else { panic!("{worker:?}") };
                    worker = WorkerState::Frozen(job);
                }
                Order::Thaw => {
                    let WorkerState::Frozen(job) = worker else { panic!("{worker:?}") };
                    worker = WorkerState::Running(job);
                }
                Order::EndWorker => {
                    // What the step had in memory is lost, nothing else.
                    counter.seconds = 0;
                    worker = WorkerState::Absent;
                }
                Order::BeginCycle => {
                    assert_eq!(work, Work::Begin);
                    newest = ledger.newest_sequence().unwrap();
                    (stage, counter) = (Some(Stage::Training), Counter::default());
                }
                Order::Judge => {
                    (stage, ended) = (None, Some(wall.timestamp().as_second()));
                    cycles_done += 1;
                }
            }
        }
        let counts = outbox::counts(ledger.connection()).unwrap();
        assert!(counts.messages <= OUTBOX, "{counts:?}");
        if Script::broker(t) {
            let waiting = outbox::peek(ledger.connection(), 0, 100).unwrap();
            delivered += waiting.len() as u64;
            outbox::delete(ledger.connection(), waiting.iter().map(|w| w.seq)).unwrap();
        }
    }

    let spent = scheduler.spent();
    println!("hours of the day:");
    for (state, time) in State::ALL.iter().zip(spent).filter(|(_, time)| !time.is_zero()) {
        println!("  {:<18} {:6.2}", state.name(), time.as_secs_f64() / 3600.0);
    }
    let counts = outbox::counts(ledger.connection()).unwrap();
    println!(
        "computed {:.2} h of the {:.2} h that were allowed; {cycles_done} cycles; {told} events, {} dropped",
        ran as f64 / 3600.0,
        allowed as f64 / 3600.0,
        counts.dropped
    );
    assert_eq!(
        told,
        delivered + counts.messages + counts.dropped,
        "every message is accounted for"
    );
    assert!(counts.dropped > 0, "the outages were long enough to fill the outbox");
    assert!(cycles_done >= 2, "{cycles_done}");
    let states = |wanted: &[State]| -> f64 {
        wanted.iter().map(|state| spent[*state as usize].as_secs_f64()).sum()
    };
    assert!(states(&State::ALL) >= (DAY_S - 2) as f64);
    assert!(states(&[State::CoolingDown]) >= 40.0 * 60.0);
    assert!(states(&[State::Paused]) >= 29.0 * 60.0);
    // Whenever there was something to do and it was allowed, it was done, but for the two minutes in
    // which the device has to prove itself idle.
    let worked = states(&[State::Training, State::Evaluating, State::Promoting]);
    let waited_for_tasks = states(&[State::WaitingForTasks]);
    assert!(worked + waited_for_tasks >= allowed as f64 - 16.0 * 130.0, "{worked} of {allowed}");
}

/// One second of the worker's work.
fn work(counter: &mut Counter, worker: &mut WorkerState, stage: &mut Option<Stage>) {
    counter.seconds += 1;
    match worker {
        WorkerState::Running(Some(Job::Train)) if counter.seconds >= STEP_S => {
            (counter.seconds, counter.steps) = (0, counter.steps + 1);
            if counter.steps == STEPS {
                (*worker, *stage) = (WorkerState::Running(None), Some(Stage::Evaluating));
            }
        }
        WorkerState::Running(Some(Job::Evaluate)) => {
            counter.compared += 1;
            if counter.compared == COMPARISON_S {
                (*worker, *stage) = (WorkerState::Running(None), Some(Stage::Judging));
            }
        }
        _ => {}
    }
}

fn tell(outbox: &Outbox, ledger: &Ledger, told: &mut u64, event: &Event) {
    outbox.event(ledger.connection(), 0, event).unwrap();
    *told += 1;
}
