//! The sections of the daemon's own policy: device, cycle, compute, status.

pub mod hook;
pub mod idle;
pub mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::settings::{Problem, Rule, Value, settings};
use crate::worker::WorkerSettings;

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// Tags of a device.
const MOST_TAGS: usize = 32;

settings! {
    /// Who this device is to the fleet. Both names are parts of its MQTT topics.
    pub struct DeviceSettings {
        /// The fleet that the device belongs to.
        fleet: String = "default".into() => Rule::Custom(fleet_name),
        /// The device's name, which no other device of the fleet may have. Empty: the host name.
        name: String = String::new() => Rule::Custom(device_name),
        /// What the fleet groups devices by, each tag a name and a value: `site=berlin`, `ring=canary`.
        tags: Vec<String> = Vec::new() => Rule::Entries(MOST_TAGS),
    }
    check DeviceSettings::conflicts
}

impl DeviceSettings {
    fn conflicts(&self) -> Vec<Problem> {
        let (mut names, mut found) = (BTreeSet::new(), Vec::new());
        for tag in &self.tags {
            let pair = tag.split_once('=').filter(|(name, value)| is_name(name) && is_name(value));
            let sentence = match pair {
                None => format!("holds {tag:?}: write name=value, and for both {NAME_RULE}"),
                Some((name, _)) if !names.insert(name) => {
                    format!("holds {name} twice: give each tag one value")
                }
                Some(_) => continue,
            };
            found.push(("tags", sentence));
        }
        found
    }

    /// The tags by name.
    #[must_use]
    pub fn tags(&self) -> BTreeMap<String, String> {
        let pair = |tag: &String| {
            let (name, value) = tag.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        self.tags.iter().filter_map(pair).collect()
    }

    /// The name, or the host name if none is given.
    #[must_use]
    pub fn resolved_name(&self) -> String {
        if self.name.is_empty() { host_name() } else { self.name.clone() }
    }
}

/// Fleet and device stand in MQTT topics, client ids, file names and web addresses, so they are kept
/// to what all of these allow.
const NAME_RULE: &str = "use 1 to 64 of the letters a-z and A-Z, digits, '-', '_' and '.', beginning with a letter or digit";

fn fleet_name(value: Value<'_>) -> Option<String> {
    let Value::Text(text) = value else { return None };
    (!is_name(text)).then(|| NAME_RULE.into())
}

fn device_name(value: Value<'_>) -> Option<String> {
    if value == Value::Text("") {
        let is_usable = is_name(&host_name());
        let why = || format!("is not given, and the host name cannot be used: {NAME_RULE}");
        return (!is_usable).then(why);
    }
    fleet_name(value)
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

settings! {
    /// When a cycle of learning begins and how much it works on. A cycle is a snapshot of the tasks,
    /// training (`learn.steps`), an evaluation on held-out tasks, and the decision.
    pub struct CycleSettings {
        /// New training tasks since the last cycle, without which no other begins.
        ///
        /// Fewer say little that the last cycle didn't know.
        min_new_tasks: u64 = 50 => Rule::Whole(1, 1_000_000),
        /// Held-out questions without which no cycle begins; at least `promotion.min_questions`.
        ///
        /// With fewer nothing is decided, so training would be in vain.
        min_held_out: usize = 50 => Rule::Whole(2, 100_000),
        /// Questions that an evaluation asks, at most: the newest.
        ///
        /// This bounds its time: each is answered twice, by the candidate and by the active adapter.
        max_held_out_questions: usize = 200 => Rule::Whole(2, 100_000),
        /// Training tasks in a cycle, at most: the newest.
        ///
        /// This bounds the snapshot's size; a cycle of 200 steps with 2 prompts each sees 400.
        max_train_tasks: usize = 10_000 => Rule::Whole(1, 1_000_000),
        /// Rest after a cycle that failed, in seconds. It doubles with each failure in a row, up to a
        /// day.
        retry_after_s: u64 = 900 => Rule::Whole(1, DAY_S),
        /// Rest after which the same tasks are learned from once more, with another seed, if no new
        /// ones came, in seconds. 0: only new tasks begin a cycle.
        ///
        /// Another seed may find what the last one missed.
        repeat_after_s: u64 = DAY_S => Rule::Whole(0, 365 * DAY_S),
        /// Fresh held-out tasks after a promotion on which the adapter is checked against the one
        /// before it; a proven loss rolls it back. 0: no check.
        check_after_held_out: usize = 50 => Rule::Whole(0, 100_000),
    }
    check CycleSettings::conflicts
}

impl CycleSettings {
    fn conflicts(&self) -> Vec<Problem> {
        let (most, least) = (self.max_held_out_questions, self.min_held_out);
        let too_few = most < least && most >= 2;
        let sentence = || format!("is {most}: use at least min_held_out, {least}");
        too_few.then(|| ("max_held_out_questions", sentence())).into_iter().collect()
    }
}

settings! {
    /// How the worker computes. It runs at the lowest priority there is, only while the device is
    /// idle.
    pub struct ComputeSettings {
        /// How products with the frozen weights are computed.
        ///
        /// `fast` has an error below llama.cpp's own and takes a fraction of the time.
        mode: Compute = Compute::Fast => Rule::Any,
        /// Where the worker computes; all but `cpu` only if the program was built with it.
        ///
        /// The memory of GPUs is not planned, and `memory_limit_mib` does not apply to it.
        device: DeviceKind = DeviceKind::Cpu => Rule::Any,
        /// Threads of the worker. 0: one fewer than the cores, at least one.
        ///
        /// The worker runs only when nothing else wants to, but caches and memory bandwidth know no
        /// priorities: a core left free answers at once, and the device stays cooler. Results don't
        /// depend on it.
        threads: usize = 0 => Rule::Whole(0, 1024),
        /// Rationales that are sampled together, at most.
        ///
        /// More are faster and take more memory; the worker takes fewer where memory is short.
        batch: usize = 64 => Rule::Whole(1, 4096),
        /// Memory that the worker may plan with, in MiB. 0: what is free when it starts, less a
        /// margin.
        memory_limit_mib: u64 = 0 => Rule::WholeOrZero(
            Self::MIN_MEMORY_MIB,
            u64::MAX,
            "for what is free",
        ),
        /// How long the worker keeps the model in memory without being allowed to compute, in
        /// seconds.
        ///
        /// Shorter pauses are cheaper to sit out than to load the model again.
        unload_after_s: u64 = 600 => Rule::Whole(0, 365 * DAY_S),
        /// How long the worker may show no progress before it is ended and started again, in
        /// seconds.
        ///
        /// 300 are many times what the slowest piece of work takes between two signs of life.
        stall_s: u64 = 300 => Rule::Whole(10, DAY_S),
    }
    check ComputeSettings::conflicts
}

impl ComputeSettings {
    /// The least memory limit that makes sense, in MiB: the smallest models take more.
    pub const MIN_MEMORY_MIB: u64 = 64;

    /// The number of threads on a machine with `cores` of them.
    #[must_use]
    pub fn resolved_threads(&self, cores: usize) -> usize {
        if self.threads == 0 { cores.saturating_sub(1).max(1) } else { self.threads }
    }

    /// The worker's settings on a machine with `cores` of them.
    #[must_use]
    pub fn worker(&self, cores: usize) -> WorkerSettings {
        WorkerSettings {
            threads: self.resolved_threads(cores),
            compute: self.mode,
            device: self.device,
            batch: self.batch,
            memory_limit_mib: self.memory_limit_mib,
            stall_s: self.stall_s,
            ..WorkerSettings::default()
        }
    }

    fn conflicts(&self) -> Vec<Problem> {
        let why = self.device.why_not();
        let problem = |why: String| ("device", format!("is {}: {why}", self.device.name()));
        why.map(problem).into_iter().collect()
    }
}

settings! {
    /// Where `latrod status` finds the daemon.
    pub struct StatusSettings {
        /// The Unix socket that the daemon listens on. Empty: none.
        ///
        /// systemd's `RuntimeDirectory=latrod` makes its folder.
        socket: PathBuf = "/run/latrod/status.sock".into() => Rule::Custom(socket_path),
    }
}

/// Bytes of a socket's path, at most: `sun_path` has 104 on macOS and 108 on Linux, with a zero.
const MAX_SOCKET_BYTES: usize = 103;

fn socket_path(value: Value<'_>) -> Option<String> {
    let Value::Text(path) = value else { return None };
    let length = path.len();
    (length > MAX_SOCKET_BYTES).then(|| {
        format!("has {length} bytes, and a socket's path may have {MAX_SOCKET_BYTES}: shorten it")
    })
}
