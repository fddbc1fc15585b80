//! The settings of the worker that no task or model decides.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::protocol::Setup;
use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::latro::settings::TrainSettings;

/// The most threads that may be asked for: starting many more takes minutes.
const MAX_THREADS: usize = 1024;
/// The most rationales that may be asked for at once.
const MAX_BATCH: usize = 1 << 16;
/// A week: longer bounds are none.
const MAX_BOUND_S: u64 = 7 * 24 * 3600;

/// How the worker computes, how much memory it may take, and how long it may be silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Threads to compute with. Default 0: as many as the process may use; the priority of all of
    /// them is so low that this costs others nothing.
    pub threads: usize,
    /// How products with the frozen weights are computed: `fast` rounds activations to 8 bits,
    /// `exact` doesn't. Default: `fast`, which learns as well in half the time.
    pub compute: Compute,
    /// Where products are computed. Default: `cpu`.
    pub device: DeviceKind,
    /// Rationales sampled together, at most; all of one question always are. Default 64: more
    /// hardly makes a processor faster. Fewer are taken where memory is short.
    pub batch: usize,
    /// The most memory that the worker may take, in MiB. Default 0: nine tenths of what the system
    /// and the control group can spare when the model is loaded. A lower limit leaves room for
    /// what is started later.
    pub memory_limit_mib: u64,
    /// The longest question to plan memory for before tasks are read, in tokens. Default 256.
    pub prompt_tokens: usize,
    /// Seconds without any progress of a computation after which the worker counts as stalled and
    /// is replaced; time in which it is frozen doesn't count. Default 300: the idle class may be
    /// starved by others for a while, and that is no fault.
    pub stall_s: u64,
    /// Seconds that loading the model may take, its hash included. Default 900.
    pub load_s: u64,
    /// Seconds that the worker is given to save its work when it is ended, before it is killed.
    /// Default 10; it takes less than one. What is killed also resumes where it was.
    pub stop_s: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            compute: Compute::Fast,
            device: DeviceKind::Cpu,
            batch: 64,
            memory_limit_mib: 0,
            prompt_tokens: 256,
            stall_s: 300,
            load_s: 900,
            stop_s: 10,
        }
    }
}

impl WorkerSettings {
    /// Each value that cannot be used: the field and a sentence.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |name, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                let sentence = format!("{name} is {value}: use a number from {least} to {most}");
                problems.push((name, sentence));
            }
        };
        check("threads", self.threads as u64, 0, MAX_THREADS as u64);
        check("batch", self.batch as u64, 1, MAX_BATCH as u64);
        check("prompt_tokens", self.prompt_tokens as u64, 1, 1 << 20);
        check("stall_s", self.stall_s, 5, MAX_BOUND_S);
        check("load_s", self.load_s, 5, MAX_BOUND_S);
        check("stop_s", self.stop_s, 1, 3600);
        problems
    }

    /// The first message to a worker that is to train with `settings`.
    #[must_use]
    pub fn setup(
        &self,
        model: PathBuf,
        expected_sha256: Option<String>,
        hash_cache: Option<PathBuf>,
        settings: TrainSettings,
    ) -> Setup {
        Setup {
            model,
            expected_sha256,
            hash_cache,
            compute: self.compute,
            device: self.device,
            threads: self.threads,
            batch: self.batch,
            memory_limit_mib: self.memory_limit_mib,
            settings,
            prompt_tokens: self.prompt_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(WorkerSettings::default().problems(), []);
    }

    #[test]
    fn every_problem_is_named() {
        let settings = WorkerSettings { batch: 0, stall_s: 1, ..WorkerSettings::default() };

        let names: Vec<_> = settings.problems().into_iter().map(|(name, _)| name).collect();

        assert_eq!(names, ["batch", "stall_s"]);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(toml::from_str::<WorkerSettings>("threads = 2\ncompute = \"exact\"").is_ok());
        assert!(toml::from_str::<WorkerSettings>("thread = 2").is_err());
    }
}
