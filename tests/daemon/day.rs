//! A whole day on a virtual clock: the daemon's own parts (what is measured, the judge, the plan, the
//! scheduler, the intake, the outbox) on a device that follows a script. The worker is a counter.
//!
//! Whether training was allowed is judged by the script itself, not by the parts under test.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use latrod::config::CycleSettings;
use latrod::contract::event::{Event, Sentence};
use latrod::contract::topics::Topics;
use latrod::daemon::activity::{Activity, ActivitySettings, Condition, IdleJudge, Own, Users};
use latrod::daemon::cycle::Stage;
use latrod::daemon::scheduler::{
    Action, Inputs, Job, Known, Scheduler, State, Work, WorkerState, plan,
};
use latrod::intake::{Spool, SpoolSettings};
use latrod::report::outbox::{self, Limits, Outbox};
use latrod::store::ledger::Ledger;
use tempfile::TempDir;

use super::script::{CORES, HERTZ, Script, write, write_device};

const DAY_S: u64 = 86_400;
/// Steps of a cycle, and seconds of a step and of a comparison.
const STEPS: u64 = 240;
const STEP_S: u64 = 30;
const COMPARISON_S: u64 = 600;
/// What may pass until a need of the device is seen and acted on: a look, and a spike's grace.
const LATENCY_S: u64 = 5;
/// Messages that may wait for the broker.
const OUTBOX: u64 = 4;

/// What the worker has done of its job.
#[derive(Default)]
struct Counter {
    steps: u64,
    seconds: u64,
    compared: u64,
}

/// The daemon's parts on the scripted device, and what has come of the day so far.
struct Day {
    device: TempDir,
    dir: TempDir,
    midnight: Zoned,
    activity: Activity,
    judge: IdleJudge,
    scheduler: Scheduler,
    ledger: Ledger,
    spool: Spool,
    outbox: Outbox,
    worker: WorkerState,
    counter: Counter,
    stage: Option<Stage>,
    /// The newest task of the last cycle, and when that ended.
    newest: i64,
    ended: Option<i64>,
    last_state: State,
    /// Clock ticks of others and of the worker.
    others: u64,
    worker_ticks: u64,
    /// Seconds in which the worker ran, and in which it was allowed to.
    ran: u64,
    allowed: u64,
    cycles: u64,
    tasks: usize,
    /// Events that were told, and that have reached the broker.
    told: u64,
    delivered: u64,
}

/// A temporary folder with the files of the device that never change.
fn new_device() -> TempDir {
    // The others change every other second; written to a disk, each would wait for it.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory } else { &std::env::temp_dir() };
    let device = tempfile::tempdir_in(folder).unwrap();
    let root = device.path();
    write(root, "proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n");
    write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    write(root, "sys/class/power_supply/AC/type", "Mains\n");
    for (name, value) in
        [("type", "Battery"), ("present", "1"), ("status", "Full"), ("capacity", "95")]
    {
        write(root, &format!("sys/class/power_supply/BAT0/{name}"), value);
    }
    device
}

impl Day {
    fn begin() -> Self {
        let (device, dir) = (new_device(), tempfile::tempdir().unwrap());
        let (state, folder) = (dir.path().join("state"), dir.path().join("spool"));
        for folder in [&state, &folder] {
            fs::create_dir(folder).unwrap();
        }
        let idle = ActivitySettings {
            idle_after_s: 120,
            users: Users::Ignore,
            // Files below the root are named from the root on.
            inhibit_paths: vec!["/in-use".into()],
            windows: vec!["20:00-08:00".into(), "12:00-14:00".into()],
            min_free_disk_mib: 1,
            min_free_disk_percent: 0.0,
            ..ActivitySettings::default()
        };
        let intake = SpoolSettings { folder, held_out_share: 0.2, ..SpoolSettings::default() };
        let limits = Limits { messages: OUTBOX, bytes: 1 << 20 };
        Self {
            midnight: date(2026, 11, 22).to_zoned(TimeZone::UTC).unwrap(),
            judge: IdleJudge::new(&idle),
            activity: Activity::new(idle, device.path().to_owned(), state.clone()).unwrap(),
            scheduler: Scheduler::new(Duration::from_secs(600)),
            ledger: Ledger::open(&state.join("ledger.db"), &latrod::report::SCHEMAS).unwrap().0,
            spool: Spool::new(intake, &state),
            outbox: Outbox::new(Topics::new("press", "d1").unwrap(), limits),
            worker: WorkerState::Absent,
            counter: Counter::default(),
            stage: None,
            newest: 0,
            ended: None,
            last_state: State::Starting,
            others: 0,
            worker_ticks: 0,
            ran: 0,
            allowed: 0,
            cycles: 0,
            tasks: 0,
            told: 0,
            delivered: 0,
            device,
            dir,
        }
    }

    fn wall(&self, t: u64) -> Zoned {
        &self.midnight + (t as i64).seconds()
    }

    fn is_running(&self) -> bool {
        matches!(self.worker, WorkerState::Running(Some(_)))
    }

    /// What happens within the second: others work, the worker works, tasks come.
    fn pass(&mut self, t: u64) {
        self.others += Script::load(t) * CORES * HERTZ / 100;
        if self.is_running() {
            // It leaves the others what they want.
            self.worker_ticks += (100 - Script::load(t)) * CORES * HERTZ / 100;
            self.ran += 1;
            let recently = t.saturating_sub(LATENCY_S)..=t;
            let allowed = recently.into_iter().any(Script::allows);
            assert!(allowed, "it runs at second {t}, {}", self.wall(t));
            self.work();
        }
        self.allowed += u64::from(Script::allows(t));
        let new = Script::tasks(t);
        if new > 0 {
            let lines: String = (self.tasks..self.tasks + new)
                .map(|n| format!("{{\"question\": \"{n} + 1?\", \"answer\": \"{}\"}}\n", n + 1))
                .collect();
            fs::write(self.dir.path().join(format!("spool/{t}.jsonl")), lines).unwrap();
            self.tasks += new;
        }
    }

    /// One second of the worker's work.
    fn work(&mut self) {
        self.counter.seconds += 1;
        match self.worker {
            WorkerState::Running(Some(Job::Train)) if self.counter.seconds >= STEP_S => {
                (self.counter.seconds, self.counter.steps) = (0, self.counter.steps + 1);
                if self.counter.steps == STEPS {
                    self.end_job(Stage::Evaluating);
                }
            }
            WorkerState::Running(Some(Job::Evaluate)) => {
                self.counter.compared += 1;
                if self.counter.compared == COMPARISON_S {
                    self.end_job(Stage::Judging);
                }
            }
            _ => {}
        }
    }

    fn end_job(&mut self, next: Stage) {
        (self.worker, self.stage) = (WorkerState::Running(None), Some(next));
    }

    /// The daemon's look at the device.
    fn look(&mut self, t: u64) -> Condition {
        write_device(self.device.path(), t, self.others, self.worker_ticks);
        let now = Duration::from_secs(t);
        let own = Own { pids: &[7], training: self.is_running(), on_gpu: false };
        let reading = self.activity.sample(now, &self.wall(t), &own);
        self.judge.observe(now, &reading)
    }

    /// The daemon's look at the tasks' folder.
    fn take_tasks(&mut self, t: u64) {
        let wall = self.wall(t).timestamp().as_second();
        let taken = self.spool.scan(&self.ledger, Duration::from_secs(t), wall).unwrap();
        if taken.files > 0 {
            let count = Script::tasks(t) as u64;
            self.tell(&Event::TasksTaken { count, rejected: 0 });
        }
    }

    /// The daemon decides, and does as it has decided, until there is nothing more to do.
    fn reconcile(&mut self, t: u64, condition: &Condition) {
        for _ in 0..8 {
            let work = self.plan(t);
            let inputs = Inputs {
                ready: true,
                stopping: false,
                paused: Script::paused(t).then_some("paused by an operator"),
                fault: None,
                condition,
                work: &work,
                worker: self.worker,
            };
            let decision = self.scheduler.observe(Duration::from_secs(t), &inputs);
            if decision.state != self.last_state {
                self.last_state = decision.state;
                let sentence = Sentence::new(self.scheduler.reason());
                self.tell(&Event::Recovered { sentence });
            }
            let Some(action) = decision.action else { break };
            self.act(action, t, &work);
        }
    }

    fn plan(&self, t: u64) -> Work {
        let settings = CycleSettings { check_after_held_out: 0, ..CycleSettings::default() };
        let counts = self.ledger.task_counts().unwrap();
        let known = Known {
            stage: self.stage,
            train: counts.train as usize,
            held_out: counts.held_out as usize,
            new_tasks: self.ledger.tasks_after(self.newest).unwrap().0 as usize,
            last_ended: self.ended,
            ..Known::default()
        };
        plan(&settings, &known, self.wall(t).timestamp().as_second())
    }

    fn act(&mut self, action: Action, t: u64, work: &Work) {
        match action {
            Action::StartWorker => self.worker = WorkerState::Running(None),
            Action::Give(job) => self.worker = WorkerState::Running(Some(job)),
            Action::Freeze => {
                let WorkerState::Running(job) = self.worker else { panic!("{:?}", self.worker) };
                self.worker = WorkerState::Frozen(job);
            }
            Action::Thaw => {
                let WorkerState::Frozen(job) = self.worker else { panic!("{:?}", self.worker) };
                self.worker = WorkerState::Running(job);
            }
            Action::EndWorker => {
                // What the step had in memory is lost, nothing else.
                self.counter.seconds = 0;
                self.worker = WorkerState::Absent;
            }
            Action::BeginCycle => {
                assert_eq!(*work, Work::Begin);
                self.newest = self.ledger.newest_sequence().unwrap();
                (self.stage, self.counter) = (Some(Stage::Training), Counter::default());
            }
            Action::Judge => {
                (self.stage, self.ended) = (None, Some(self.wall(t).timestamp().as_second()));
                self.cycles += 1;
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        self.outbox.event(self.ledger.connection(), 0, event).unwrap();
        self.told += 1;
    }

    /// The broker takes what waits for it, while it is there.
    fn deliver(&mut self, t: u64) {
        let connection = self.ledger.connection();
        let counts = outbox::counts(connection).unwrap();
        assert!(counts.messages <= OUTBOX, "{counts:?}");
        if Script::broker(t) {
            let waiting = outbox::peek(connection, 0, 100).unwrap();
            self.delivered += waiting.len() as u64;
            outbox::delete(connection, waiting.iter().map(|w| w.seq)).unwrap();
        }
    }

    /// Seconds spent in some states.
    fn spent(&self, states: &[State]) -> f64 {
        let spent = self.scheduler.spent();
        states.iter().map(|state| spent[*state as usize].as_secs_f64()).sum()
    }

    fn print(&self) {
        println!("hours of the day:");
        for state in State::ALL {
            let hours = self.spent(&[state]) / 3600.0;
            if hours > 0.0 {
                println!("  {:<18} {hours:6.2}", state.name());
            }
        }
        let dropped = outbox::counts(self.ledger.connection()).unwrap().dropped;
        println!(
            "computed {:.2} h of the {:.2} h that were allowed; {} cycles; {} events, {dropped} dropped",
            self.ran as f64 / 3600.0,
            self.allowed as f64 / 3600.0,
            self.cycles,
            self.told,
        );
    }
}

#[test]
fn a_day_of_idle_windows_heat_battery_outages_and_tasks() {
    let mut day = Day::begin();

    for t in 0..DAY_S {
        day.pass(t);
        if t % 2 == 0 {
            let condition = day.look(t);
            day.take_tasks(t);
            day.reconcile(t, &condition);
            day.deliver(t);
        }
    }

    day.print();
    let counts = outbox::counts(day.ledger.connection()).unwrap();
    let accounted = day.delivered + counts.messages + counts.dropped;
    assert_eq!(day.told, accounted, "every message is accounted for");
    assert!(counts.dropped > 0, "the outages were long enough to fill the outbox");
    assert!(day.cycles >= 2, "{}", day.cycles);
    assert!(day.spent(&State::ALL) >= (DAY_S - 2) as f64);
    assert!(day.spent(&[State::CoolingDown]) >= 40.0 * 60.0);
    assert!(day.spent(&[State::Paused]) >= 29.0 * 60.0);
    // Whenever there was something to do and it was allowed, it was done, but for the two minutes in
    // which the device has to prove itself idle.
    let worked = day.spent(&[State::Training, State::Evaluating, State::Promoting]);
    let waited_for_tasks = day.spent(&[State::WaitingForTasks]);
    let allowed = day.allowed as f64;
    assert!(worked + waited_for_tasks >= allowed - 16.0 * 130.0, "{worked} of {allowed}");
}
