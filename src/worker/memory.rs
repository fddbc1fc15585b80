//! How much memory the worker may take, and what it then computes at once.
//!
//! Looked at before anything is loaded, so that too large a model is a sentence and not a visit of
//! the OOM killer. Knows the formula of [`MemoryPlan`] and the system's own numbers.

use std::path::Path;

use super::protocol::{Failure, FailureKind, PlanMib};
use crate::arch::spec::ModelSpec;
use crate::engine::device::DeviceKind;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::kernels::Compute;
use crate::latro::settings::TrainSettings;
use crate::memory::fit::{Fitting, fit, fit_batch};
use crate::memory::plan::{MemoryPlan, MemorySettings};
use crate::system::memory::{available_memory, cgroup_memory};

/// Memory that is left to others at least, in bytes; a tenth of what is free where that is more.
const MARGIN: u64 = 64 << 20;

/// The most memory that the worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub bytes: u64,
    /// Who says so, for a sentence.
    who: &'static str,
}

impl Limit {
    /// The least of the setting (0: no such limit), what the system has free and what the control
    /// groups leave, the latter two less a margin. `root` is the folder above `proc` and `sys`.
    #[must_use]
    pub fn find(setting_mib: u64, root: &Path) -> Self {
        let spare = |bytes: u64| bytes.saturating_sub(MARGIN.max(bytes / 10));
        let setting = (setting_mib > 0).then(|| setting_mib.saturating_mul(1 << 20));
        [
            (setting, "the setting memory_limit_mib allows"),
            (available_memory(root).map(spare), "the system can spare"),
            (cgroup_memory(root).map(spare), "the control group can spare"),
        ]
        .into_iter()
        .filter_map(|(bytes, who)| Some(Self { bytes: bytes?, who }))
        .min_by_key(|limit| limit.bytes)
        .unwrap_or(Self { bytes: u64::MAX, who: "anybody allows" })
    }
}

/// A model and what is to be done with it, as far as memory goes.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Where it is done. On a device whose memory is not planned everything fits, and plans are 0.
    pub device: DeviceKind,
    pub spec: &'a ModelSpec,
    pub weights: WeightBytes,
    /// Threads that compute.
    pub threads: usize,
    /// How rows are cut.
    pub compute: Compute,
    pub row_chunks: RowChunks,
    pub settings: &'a TrainSettings,
    /// The longest prompt, in tokens.
    pub prompt_tokens: usize,
    /// The longest answer, in tokens.
    pub answer_tokens: usize,
}

impl Needs<'_> {
    /// The plan's settings for sampling `batch` rationales together.
    fn settings(&self, batch: usize) -> MemorySettings {
        let tokens = (self.prompt_tokens, self.answer_tokens);
        let settings =
            MemorySettings::of_run(self.settings, batch, tokens, (self.threads, self.compute));
        MemorySettings { row_chunks: self.row_chunks, ..settings }
    }

    /// The plan for sampling `batch` rationales together.
    #[must_use]
    pub fn plan(&self, batch: usize) -> MemoryPlan {
        MemoryPlan::predict(self.spec, &self.weights, &self.settings(batch))
    }

    /// The largest batch, at most `batch`, with which it fits, and the plan for it.
    ///
    /// # Errors
    /// [`FailureKind::Memory`] with both numbers if none does.
    pub fn fit(&self, batch: usize, limit: Limit) -> Result<(usize, MemoryPlan), Failure> {
        if !self.device.is_planned() {
            return Ok((batch, MemoryPlan::default()));
        }
        let settings = self.settings(batch);
        match fit_batch(self.spec, &self.weights, &settings, limit.bytes) {
            // Without sampling the batch stays: it is part of what a run is known by.
            Ok(Fitting { settings, plan }) if settings.batch > 0 => Ok((settings.batch, plan)),
            Ok(Fitting { plan, .. }) => Ok((batch, plan)),
            Err(least) => Err(self.too_little(least.total, limit)),
        }
    }

    /// As [`Self::fit`], with smaller pieces of rows where no batch fits otherwise.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_row_chunks(
        &mut self,
        batch: usize,
        limit: Limit,
    ) -> Result<(usize, MemoryPlan), Failure> {
        if !self.device.is_planned() {
            return self.fit(batch, limit);
        }
        match fit(self.spec, &self.weights, &self.settings(batch), limit.bytes) {
            Ok(Fitting { settings, .. }) => self.row_chunks = settings.row_chunks,
            Err(least) => return Err(self.too_little(least.total, limit)),
        }
        self.fit(batch, limit)
    }

    /// As [`Self::fit`], with this batch and no smaller one.
    ///
    /// # Errors
    /// [`FailureKind::Memory`] with both numbers.
    pub fn fit_exactly(&self, batch: usize, limit: Limit) -> Result<MemoryPlan, Failure> {
        if !self.device.is_planned() {
            return Ok(MemoryPlan::default());
        }
        let plan = self.plan(batch);
        if plan.total <= limit.bytes { Ok(plan) } else { Err(self.too_little(plan.total, limit)) }
    }

    /// For asking `batch` questions together, one rationale each. The adapters that are compared take
    /// no more than one adapter and the optimizer that is not there.
    fn question_settings(&self, batch: usize) -> MemorySettings {
        MemorySettings { num_generations: 1, batch: 0, questions: batch.max(1), ..self.settings(0) }
    }

    /// The largest number of questions, at most `batch`, that can be asked together, and the plan
    /// for them.
    ///
    /// # Errors
    /// [`FailureKind::Memory`] with both numbers if not even one can.
    pub fn fit_questions(
        &self,
        batch: usize,
        limit: Limit,
    ) -> Result<(usize, MemoryPlan), Failure> {
        if !self.device.is_planned() {
            return self.fit(batch.max(1), limit);
        }
        fit_batch(self.spec, &self.weights, &self.question_settings(batch), limit.bytes)
            .map(|Fitting { settings, plan }| (settings.questions, plan))
            .map_err(|least| self.too_little(least.total, limit))
    }

    fn too_little(&self, needed: u64, limit: Limit) -> Failure {
        let TrainSettings { num_generations, max_new_tokens, .. } = self.settings;
        let sentence = format!(
            "it takes {} MiB and {} {} MiB; free some memory, or use a smaller num_generations (now {num_generations}), \
             max_new_tokens (now {max_new_tokens}) or model",
            needed.div_ceil(1 << 20),
            limit.who,
            limit.bytes >> 20,
        );
        Failure::new(FailureKind::Memory, sentence)
    }
}

impl From<&MemoryPlan> for PlanMib {
    fn from(plan: &MemoryPlan) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Self {
            program: mib(plan.program),
            weights: mib(plan.weights),
            adapter: mib(plan.adapter),
            optimizer: mib(plan.optimizer),
            sampling: mib(plan.sampling()),
            training: mib(plan.training()),
            total: mib(plan.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::gguf::GgufFile;

    fn spec() -> (ModelSpec, WeightBytes) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        (ModelSpec::from_gguf(&file).unwrap(), WeightBytes::of(&file))
    }

    /// Very many prompts at once, so that sampling takes more than training.
    fn wide() -> TrainSettings {
        TrainSettings {
            num_generations: 4,
            prompts_per_step: 1024,
            max_new_tokens: 400,
            ..TrainSettings::edge()
        }
    }

    fn bytes(bytes: u64) -> Limit {
        Limit { bytes, who: "the test allows" }
    }

    #[test]
    fn where_memory_is_short_fewer_rationales_are_sampled_together() {
        let ((spec, weights), settings) = (spec(), wide());
        let needs = Needs {
            device: DeviceKind::Cpu,
            spec: &spec,
            weights,
            threads: 2,
            compute: Compute::Fast,
            row_chunks: RowChunks::default(),
            settings: &settings,
            prompt_tokens: 50,
            answer_tokens: 8,
        };
        let (all, few) = (needs.plan(4096).total, needs.plan(2000).total);
        assert!(few < all, "{few} {all}");

        assert_eq!(needs.fit(4096, bytes(all)).unwrap().0, 4096);
        assert_eq!(needs.fit(4096, bytes(few)).unwrap(), (2000, needs.plan(2000)));
        assert!(needs.fit_exactly(4096, bytes(few)).is_err());
        let error = needs.fit(4096, bytes(30 << 20)).unwrap_err();

        assert_eq!(error.kind, FailureKind::Memory);
        let least = needs.plan(1).total.div_ceil(1 << 20);
        let expected = format!("it takes {least} MiB and the test allows 30 MiB");
        assert!(error.sentence.starts_with(&expected), "{}", error.sentence);
    }

    #[test]
    fn where_memory_is_short_fewer_questions_are_asked_together() {
        let ((spec, weights), settings) = (spec(), wide());
        let needs = Needs {
            device: DeviceKind::Cpu,
            spec: &spec,
            weights,
            threads: 2,
            compute: Compute::Fast,
            row_chunks: RowChunks::default(),
            settings: &settings,
            prompt_tokens: 50,
            answer_tokens: 8,
        };
        let plan = |n| MemoryPlan::predict(&spec, &weights, &needs.question_settings(n)).total;
        let (all, quarter) = (plan(64), plan(16));
        assert!(quarter < all, "{quarter} {all}");

        assert_eq!(needs.fit_questions(64, bytes(all)).unwrap().0, 64);
        assert_eq!(needs.fit_questions(64, bytes(quarter)).unwrap().0, 16);
        assert!(needs.fit_questions(64, bytes(1 << 20)).is_err());
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Limit::find(0, root.path()).bytes, u64::MAX, "nobody says anything");

        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemAvailable: 2048000 kB\n").unwrap();

        let free = Limit::find(0, root.path());
        assert_eq!(free.bytes, 2_048_000 * 1024 / 10 * 9);
        assert_eq!(Limit::find(100, root.path()).bytes, 100 << 20);
        assert_eq!(Limit::find(1 << 40, root.path()), free, "more than there is");
        assert!(free.who.contains("system"));
    }
}
