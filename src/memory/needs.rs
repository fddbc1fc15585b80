//! What a model and its run need, held against a limit.
//!
//! Looked at before anything is loaded, so that too large a model is a sentence and not a visit from
//! the OOM killer.

use super::fit::{Fitting, fit, fit_batch};
use super::plan::{MemoryPlan, MemorySettings};
use super::{Limit, MemoryError};
use crate::arch::spec::ModelSpec;
use crate::engine::device::DeviceKind;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::kernels::Compute;
use crate::latro::settings::TrainSettings;

/// A model and what is to be done with it, as far as memory goes.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Where it is done. On a device whose memory is not planned everything fits, and plans are 0.
    pub device: DeviceKind,
    pub spec: &'a ModelSpec,
    pub weights: WeightBytes,
    /// Threads that compute.
    pub threads: usize,
    pub compute: Compute,
    /// How rows are cut.
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
    /// [`MemoryError::TooLittle`] if none does.
    pub fn fit(&self, batch: usize, limit: Limit) -> Result<(usize, MemoryPlan), MemoryError> {
        if !self.device.is_planned() {
            return Ok((batch, MemoryPlan::default()));
        }
        let settings = self.settings(batch);
        match fit_batch(self.spec, &self.weights, &settings, limit.bytes) {
            // Without sampling the batch stays: it is part of what a run is known by.
            Ok(Fitting { settings, plan }) if settings.batch > 0 => Ok((settings.batch, plan)),
            Ok(Fitting { plan, .. }) => Ok((batch, plan)),
            Err(least) => Err(too_little(least, limit)),
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
    ) -> Result<(usize, MemoryPlan), MemoryError> {
        if !self.device.is_planned() {
            return self.fit(batch, limit);
        }
        match fit(self.spec, &self.weights, &self.settings(batch), limit.bytes) {
            Ok(Fitting { settings, .. }) => self.row_chunks = settings.row_chunks,
            Err(least) => return Err(too_little(least, limit)),
        }
        self.fit(batch, limit)
    }

    /// As [`Self::fit`], with this batch and no smaller one.
    ///
    /// # Errors
    /// [`MemoryError::TooLittle`].
    pub fn fit_exactly(&self, batch: usize, limit: Limit) -> Result<MemoryPlan, MemoryError> {
        if !self.device.is_planned() {
            return Ok(MemoryPlan::default());
        }
        let plan = self.plan(batch);
        if plan.total <= limit.bytes { Ok(plan) } else { Err(too_little(plan, limit)) }
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
    /// [`MemoryError::TooLittle`] if not even one can.
    pub fn fit_questions(
        &self,
        batch: usize,
        limit: Limit,
    ) -> Result<(usize, MemoryPlan), MemoryError> {
        if !self.device.is_planned() {
            return self.fit(batch.max(1), limit);
        }
        fit_batch(self.spec, &self.weights, &self.question_settings(batch), limit.bytes)
            .map(|Fitting { settings, plan }| (settings.questions, plan))
            .map_err(|least| too_little(least, limit))
    }
}

fn too_little(least: MemoryPlan, limit: Limit) -> MemoryError {
    MemoryError::TooLittle { least: Box::new(least), limit }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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

    fn needs<'a>(
        spec: &'a ModelSpec,
        weights: WeightBytes,
        settings: &'a TrainSettings,
    ) -> Needs<'a> {
        Needs {
            device: DeviceKind::Cpu,
            spec,
            weights,
            threads: 2,
            compute: Compute::Fast,
            row_chunks: RowChunks::default(),
            settings,
            prompt_tokens: 50,
            answer_tokens: 8,
        }
    }

    fn bytes(bytes: u64) -> Limit {
        Limit { bytes, who: "the test allows" }
    }

    #[test]
    fn where_memory_is_short_fewer_rationales_are_sampled_together() {
        let ((spec, weights), settings) = (spec(), wide());
        let needs = needs(&spec, weights, &settings);
        let (all, few) = (needs.plan(4096).total, needs.plan(2000).total);
        assert!(few < all, "{few} {all}");

        assert_eq!(needs.fit(4096, bytes(all)).unwrap().0, 4096);
        assert_eq!(needs.fit(4096, bytes(few)).unwrap(), (2000, needs.plan(2000)));
        assert!(needs.fit_exactly(4096, bytes(few)).is_err());
        let error = needs.fit(4096, bytes(30 << 20)).unwrap_err();

        let sentence = error.to_string();
        let least = needs.plan(1).total.div_ceil(1 << 20);
        assert!(sentence.starts_with(&format!("it takes {least} MiB at least")), "{sentence}");
        assert!(sentence.contains("and the test allows 30 MiB"), "{sentence}");
    }

    #[test]
    fn where_memory_is_short_fewer_questions_are_asked_together() {
        let ((spec, weights), settings) = (spec(), wide());
        let needs = needs(&spec, weights, &settings);
        let plan = |n| MemoryPlan::predict(&spec, &weights, &needs.question_settings(n)).total;
        let (all, quarter) = (plan(64), plan(16));
        assert!(quarter < all, "{quarter} {all}");

        assert_eq!(needs.fit_questions(64, bytes(all)).unwrap().0, 64);
        assert_eq!(needs.fit_questions(64, bytes(quarter)).unwrap().0, 16);
        assert!(needs.fit_questions(64, bytes(1 << 20)).is_err());
    }
}
