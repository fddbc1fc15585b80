//! The settings of the worker that no task or model decides.

use std::path::PathBuf;

use super::protocol::Setup;
use crate::engine::device::DeviceKind;
use crate::kernels::Compute;
use crate::latro::settings::TrainSettings;
use crate::settings::{Rule, settings};

/// A week, in seconds: longer bounds are none.
const WEEK_S: u64 = 7 * 24 * 3600;

settings! {
    /// How the worker computes, how much memory it may take, and how long it may be silent.
    pub struct WorkerSettings {
        /// Threads to compute with. 0: as many as the process may use.
        ///
        /// Their priority is so low that this costs others nothing.
        threads: usize = 0 => Rule::Whole(0, 1024),
        /// How products with the frozen weights are computed.
        ///
        /// `fast` learns as well as `exact` in half the time.
        compute: Compute = Compute::Fast => Rule::Any,
        /// Where products are computed.
        device: DeviceKind = DeviceKind::Cpu => Rule::Any,
        /// Rationales sampled together, at most; all of one question always are.
        ///
        /// More hardly make a processor faster. Fewer are taken where memory is short.
        batch: usize = 64 => Rule::Whole(1, 1 << 16),
        /// The most memory that the worker may take, in MiB. 0: nine tenths of what the system and
        /// the control group can spare when the model is loaded.
        ///
        /// A lower limit leaves room for what is started later.
        memory_limit_mib: u64 = 0 => Rule::Any,
        /// The longest question to plan memory for before tasks are read, in tokens.
        prompt_tokens: usize = 256 => Rule::Whole(1, 1 << 20),
        /// How long a computation may show no progress, in seconds, before the worker counts as
        /// stalled and is replaced; time in which it is frozen doesn't count.
        ///
        /// The idle class may be starved by others for a while, and that is not a fault.
        stall_s: u64 = 300 => Rule::Whole(5, WEEK_S),
        /// How long loading the model may take, its hash included, in seconds.
        load_s: u64 = 900 => Rule::Whole(5, WEEK_S),
        /// How long the worker is given to save its work when it is ended, before it is killed, in
        /// seconds.
        ///
        /// It takes less than one. A killed worker loses half a step at most.
        stop_s: u64 = 10 => Rule::Whole(1, 3600),
    }
}

impl WorkerSettings {
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
    use crate::settings::Settings;

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
