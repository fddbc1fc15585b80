//! The sections that belong to no other module: device, cycle, compute, status.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::worker::WorkerSettings;

/// `[device]`: who this device is to the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceSettings {
    /// The fleet that the device belongs to; a part of every MQTT topic. Default `default`.
    pub fleet: String,
    /// The device's name in its fleet, which no other device may have. Default empty: the host
    /// name, because that is unique wherever devices are told apart at all.
    pub name: String,
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self { fleet: "default".into(), name: String::new() }
    }
}

impl DeviceSettings {
    /// The name, or the host name if none is given.
    #[must_use]
    pub fn resolved_name(&self) -> String {
        if self.name.is_empty() { host_name() } else { self.name.clone() }
    }

    /// One sentence for each value that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if !is_name(&self.fleet) {
            wrong.push(("fleet", NAME_RULE.into()));
        }
        if self.name.is_empty() {
            if !is_name(&host_name()) {
                wrong.push((
                    "name",
                    format!("is not given, and the host name won't do: {NAME_RULE}"),
                ));
            }
        } else if !is_name(&self.name) {
            wrong.push(("name", NAME_RULE.into()));
        }
        wrong
    }
}

/// Fleet and device stand in MQTT topics, client ids, file names and web addresses, so they are kept
/// to what all of these allow.
const NAME_RULE: &str = "use 1 to 64 of the letters a-z and A-Z, digits, '-', '_' and '.', beginning with a letter or digit";

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `[cycle]`: when a cycle of learning begins and how much it works on. A cycle is a snapshot of the
/// tasks, `learn.steps` training steps, an evaluation, and the decision what to do with the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CycleSettings {
    /// Training tasks that must have arrived since the last cycle began. Default 50: fewer say
    /// little that the last cycle didn't know.
    pub min_new_tasks: u64,
    /// Held-out questions without which no cycle begins. Default 50, that of
    /// `promotion.min_questions`: with fewer nothing is decided, so training would be in vain.
    pub min_held_out: usize,
    /// Held-out questions that an evaluation asks, at most; the newest are taken. Default 200, which
    /// bounds its time: each is answered twice, by the candidate and by the active adapter.
    pub max_held_out_questions: usize,
    /// Training tasks in a cycle, at most; the newest are taken. Default 10000, which bounds the
    /// snapshot's size; a cycle of 200 steps with 2 prompts each sees 400.
    pub max_train_tasks: usize,
    /// Rest after a cycle that failed (the worker died, the learner gave up), in seconds, before the
    /// next try. Default 900. It doubles with each failure in a row, up to a day.
    pub retry_after_s: u64,
    /// Rest after a cycle, in seconds, after which the same tasks are learned from once more even if
    /// no new ones came. Default 86400, a day: another seed may find what the last one missed. 0:
    /// only new tasks begin a cycle.
    pub repeat_after_s: u64,
    /// Held-out tasks that must have arrived since a promotion before the active adapter is checked
    /// on them against its parent. Default 50, as for a promotion; 0 leaves the check out.
    pub check_after_held_out: usize,
}

impl Default for CycleSettings {
    fn default() -> Self {
        Self {
            min_new_tasks: 50,
            min_held_out: 50,
            max_held_out_questions: 200,
            max_train_tasks: 10_000,
            retry_after_s: 900,
            repeat_after_s: DAY_S,
            check_after_held_out: 50,
        }
    }
}

impl CycleSettings {
    /// One sentence for each value that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        between(&mut wrong, "min_new_tasks", self.min_new_tasks, 1, 1_000_000);
        between(&mut wrong, "min_held_out", self.min_held_out as u64, 2, 100_000);
        between(&mut wrong, "max_train_tasks", self.max_train_tasks as u64, 1, 1_000_000);
        between(&mut wrong, "retry_after_s", self.retry_after_s, 1, DAY_S);
        between(&mut wrong, "repeat_after_s", self.repeat_after_s, 0, 365 * DAY_S);
        if self.max_held_out_questions < self.min_held_out {
            let (most, least) = (self.max_held_out_questions, self.min_held_out);
            let sentence = format!("is {most}: use at least min_held_out, {least}");
            wrong.push(("max_held_out_questions", sentence));
        } else {
            let most = self.max_held_out_questions as u64;
            between(&mut wrong, "max_held_out_questions", most, 2, 100_000);
        }
        between(&mut wrong, "check_after_held_out", self.check_after_held_out as u64, 0, 100_000);
        wrong
    }
}

/// `[compute]`: how the worker computes, and with how much of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeSettings {
    /// `fast` rounds activations to 8 bits where a kernel gains from it, `exact` computes in f32.
    /// Default `fast`, as in `latrod train`: an error below llama.cpp's own, several times as fast.
    pub mode: Compute,
    /// Where the worker computes: `cpu`, `cuda` (the first NVIDIA GPU) or `metal`. Default `cpu`; the
    /// others only if the program was built with them. A GPU's memory is not planned, and
    /// `memory_limit_mib` does not apply to it.
    pub device: DeviceKind,
    /// Threads of the worker. Default 0: one fewer than the cores, at least one. The worker runs only
    /// when nothing else wants to, but caches and memory bandwidth know no priorities: a core left
    /// free answers at once, and the device stays cooler. Results don't depend on it.
    pub threads: usize,
    /// Rationales that are sampled together, at most. Default 64. More are faster and take more
    /// memory; the worker takes fewer by itself where memory is short.
    pub batch: usize,
    /// Memory that the worker may plan with, in MiB. Default 0: what is free when it starts, less a
    /// margin.
    pub memory_limit_mib: u64,
    /// How long the worker keeps the model in memory without being allowed to compute, in seconds.
    /// Default 600: shorter pauses are cheaper to sit out than to load the model again.
    pub unload_after_s: u64,
    /// How long the worker may show no progress, in seconds, before it is ended and started again.
    /// Default 300, many times what the slowest piece of work takes between two signs of life.
    pub stall_s: u64,
}

impl Default for ComputeSettings {
    fn default() -> Self {
        Self {
            mode: Compute::Fast,
            device: DeviceKind::Cpu,
            threads: 0,
            batch: 64,
            memory_limit_mib: 0,
            unload_after_s: 600,
            stall_s: 300,
        }
    }
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

    /// One sentence for each value that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if let Some(sentence) = self.device.why_not() {
            wrong.push(("device", format!("is {}: {sentence}", self.device.name())));
        }
        between(&mut wrong, "threads", self.threads as u64, 0, 1024);
        between(&mut wrong, "batch", self.batch as u64, 1, 4096);
        if self.memory_limit_mib != 0 && self.memory_limit_mib < Self::MIN_MEMORY_MIB {
            let (limit, least) = (self.memory_limit_mib, Self::MIN_MEMORY_MIB);
            let sentence = format!(
                "is {limit}, too little for any model: use at least {least}, or 0 for what is free"
            );
            wrong.push(("memory_limit_mib", sentence));
        }
        between(&mut wrong, "unload_after_s", self.unload_after_s, 0, 365 * DAY_S);
        between(&mut wrong, "stall_s", self.stall_s, 10, DAY_S);
        wrong
    }
}

/// `[status]`: where `latrod status` finds the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusSettings {
    /// The Unix socket that the daemon listens on. Default `/run/latrod/status.sock`, in what
    /// systemd's `RuntimeDirectory=latrod` makes; empty: none.
    pub socket: PathBuf,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self { socket: "/run/latrod/status.sock".into() }
    }
}

impl StatusSettings {
    /// Bytes of a socket's path, at most: `sun_path` has 104 on macOS and 108 on Linux, with a zero.
    const MAX_BYTES: usize = 103;

    /// One sentence for each value that cannot be used.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let length = self.socket.as_os_str().len();
        if length <= Self::MAX_BYTES {
            return Vec::new();
        }
        let most = Self::MAX_BYTES;
        vec![(
            "socket",
            format!("has {length} bytes, and a socket's path may have {most}: shorten it"),
        )]
    }
}

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// Notes a value that is not from `least` to `most`.
fn between(
    wrong: &mut Vec<(&'static str, String)>,
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
) {
    if !(least..=most).contains(&value) {
        wrong.push((field, format!("is {value}: use a number from {least} to {most}")));
    }
}
