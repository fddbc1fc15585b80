//! Killed at any moment, the daemon loses nothing and does nothing twice.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use latrod::store::versions::current_of;
use serde_json::Value;

use super::broker::Broker;
use super::observer::Observer;
use super::support::{Daemon, Device, good_tasks, program, repeats};

/// A small pseudo-random number generator (Steele et al. 2014, "splitmix"), for moments to kill at.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Gives a command and doesn't wait for its end.
fn give(device: &Device, broker: &Broker, action: &[&str]) -> Child {
    Command::new(program())
        .args(device.command(broker))
        .args(["--wait", "0"])
        .args(action)
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Makes something on a thread of its own, on which its tasks go on.
pub fn on_a_thread<T>(made: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(made);
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    made
}

/// An operator who listens.
pub fn listening(broker: &Broker) -> Observer {
    on_a_thread(Observer::operator(broker))
}

/// A device that is killed again and again while operators give it commands.
struct Killed {
    device: Device,
    broker: Broker,
    random: Random,
    tasks: Vec<Value>,
    kills: usize,
    commands: usize,
    slowest: Duration,
    /// Cycles that had ended, and versions that had been active, when it was last seen.
    cycles: u64,
    versions: HashSet<String>,
}

impl Killed {
    fn new(broker: Broker, kills: usize) -> Self {
        let mut device = Device::new();
        device.connect(&broker, broker.tls_port);
        device.set("learn.steps", 6);
        device.set("cycle.min_new_tasks", 50);
        device.set("cycle.max_held_out_questions", 60);
        device.set("promotion.correct_repeats", false);
        // The broker keeps commands for a device from the first time on that it has seen it.
        let mut daemon = device.start();
        daemon.wait("connection", |s| s["broker"]["connected"] == true);
        daemon.kill();
        Self {
            device,
            broker,
            random: Random(7),
            tasks: good_tasks(),
            kills,
            commands: 0,
            slowest: Duration::ZERO,
            cycles: 0,
            versions: HashSet::new(),
        }
    }

    /// Every second start brings a batch of tasks, until there are no more.
    fn batches(&self) -> std::slice::Chunks<'_, Value> {
        self.tasks.chunks(self.tasks.len().div_ceil(self.kills.min(6)))
    }

    /// Starts the daemon, gives it something to do, and kills it somewhere between its first moments and
    /// the middle of training.
    fn start_and_kill(&mut self, kill: usize) {
        let started = Instant::now();
        let mut daemon = self.device.start();
        if let Some(batch) = kill.is_multiple_of(2).then(|| self.batches().nth(kill / 2)).flatten()
        {
            self.device.drop_tasks(&format!("batch-{kill}"), batch);
        }
        let status = daemon.wait("answer", |_| true);
        self.slowest = self.slowest.max(started.elapsed());
        assert!(status["state"] != "degraded", "{status:#}");
        let current = current_of(&self.device.state("adapters")).expect("current is valid");
        self.versions.extend(current.map(|version| version.id.to_string()));
        self.cycles = status["cycles"].as_u64().unwrap();
        let action: &[&str] = match kill % 4 {
            0 => &["pause"],
            1 => &["resume"],
            2 => &["set", "cycle.repeat_after_s=1"],
            _ => &["train-now"],
        };
        let mut command = give(&self.device, &self.broker, action);
        let most = if kill.is_multiple_of(3) { 4000 } else { 900 };
        sleep(Duration::from_millis(self.random.below(most)));
        daemon.kill();
        assert!(command.wait().unwrap().success(), "the broker has the command");
        self.commands += 1;
    }

    /// Lets what was begun come to its end, and returns the status then.
    fn finish(&mut self) -> (Daemon, Value) {
        let mut daemon = self.device.start();
        assert!(give(&self.device, &self.broker, &["resume"]).wait().unwrap().success());
        self.commands += 1;
        let (versions, cycles) = (&mut self.versions, self.cycles.max(1));
        let status = daemon.wait("end of a cycle", |s| {
            versions.extend(s["adapter"].as_str().map(str::to_owned));
            s["cycles"].as_u64() > Some(cycles) && s["broker"]["waiting"] == 0
        });
        (daemon, status)
    }

    fn assert_every_task_is_there_once(&self, status: &Value) {
        let count = |name: &str| status["tasks"][name].as_u64().unwrap();
        let total = count("train") + count("held_out") + count("set_aside");
        let dropped = self.batches().take(self.kills.div_ceil(2).min(self.kills.min(6)));
        let expected = dropped.map(<[Value]>::len).sum::<usize>();
        assert_eq!(total, expected as u64, "every task is there once");
    }

    fn assert_every_command_has_ended_once(&self, observer: &Observer) {
        let last = Instant::now() + Duration::from_secs(60);
        let ends = loop {
            let ends = ends(observer);
            let pending = status_of_pending(observer);
            if (ends.len() == self.commands && pending == 0) || Instant::now() > last {
                break ends;
            }
            sleep(Duration::from_millis(100));
        };
        assert_eq!(ends.len(), self.commands, "{ends:#?}\n{:#?}", observer.texts());
        for (id, messages) in &ends {
            assert_eq!(messages.len(), 1, "{id} has ended more than once: {messages:#?}");
        }
    }

    /// Duplicates of a message carry the same id.
    fn assert_every_promotion_was_told_once(&self, observer: &Observer) {
        let mut promoted: HashMap<String, HashSet<String>> = HashMap::new();
        let seen = observer.seen();
        let events = seen.iter().filter(|s| s.is("press/d1/event"));
        for seen in events.filter(|s| s.field("event") == "promoted") {
            let version = seen.json["detail"]["version"].as_str().unwrap().to_owned();
            promoted.entry(version).or_default().insert(seen.field("id").to_owned());
        }
        for version in &self.versions {
            let told = promoted.get(version).map(HashSet::len);
            assert_eq!(told, Some(1), "{version}: {promoted:#?}");
        }
    }
}

#[test]
fn nothing_is_lost_or_done_twice_however_often_it_is_killed() {
    let kills = repeats("LATROD_DAEMON_KILLS", 12);
    let broker = Broker::start();
    let observer = listening(&broker);
    let mut killed = Killed::new(broker, kills);

    for kill in 0..kills {
        killed.start_and_kill(kill);
    }
    let (_daemon, status) = killed.finish();

    killed.assert_every_task_is_there_once(&status);
    let active = current_of(&killed.device.state("adapters")).expect("current is valid");
    assert!(active.is_some(), "something was promoted: {status:#}");
    killed.assert_every_command_has_ended_once(&observer);
    killed.assert_every_promotion_was_told_once(&observer);
    let Killed { slowest, versions, commands, .. } = &killed;
    println!(
        "{kills} kills, slowest start {slowest:?}, {} versions, {commands} commands",
        versions.len()
    );
}

/// The messages with which commands have ended, by command; a message that came twice counts once.
fn ends(observer: &Observer) -> HashMap<String, HashSet<String>> {
    let mut ends: HashMap<String, HashSet<String>> = HashMap::new();
    for seen in observer.seen().iter().filter(|s| s.topic.starts_with("press/d1/ack/")) {
        if matches!(seen.field("state"), "done" | "failed" | "expired" | "refused") {
            let message = format!("{} {}", seen.field("state"), seen.field("id"));
            ends.entry(seen.field("command").to_owned()).or_default().insert(message);
        }
    }
    ends
}

/// Commands that were received and have not ended yet.
fn status_of_pending(observer: &Observer) -> usize {
    let ended = ends(observer);
    let received: HashSet<String> = observer
        .seen()
        .iter()
        .filter(|s| s.topic.starts_with("press/d1/ack/") && s.field("state") == "received")
        .map(|s| s.field("command").to_owned())
        .collect();
    received.iter().filter(|id| !ended.contains_key(*id)).count()
}
