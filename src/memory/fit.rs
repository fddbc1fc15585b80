//! The most that can be computed at once within a limit of memory.
//!
//! Pure functions of numbers, [`fit_given`] aside. Fewer rationales are sampled together first, since sampling and
//! training take turns and a batch costs sampling alone; then rows are cut into smaller pieces.

use std::path::Path;

use crate::arch::spec::ModelSpec;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::memory::plan::{MemoryPlan, MemorySettings};
use crate::memory::{Limit, MemoryError};
use crate::system::memory::available_memory;

/// The smallest pieces worth having: below, products take longer and hardly any memory is gained.
const LEAST: RowChunks = RowChunks { rows: 64, head_rows: 16 };

/// Settings that fit, and their plan.
#[derive(Debug, Clone)]
pub struct Fitting {
    /// As asked for, but perhaps with a smaller `batch`, fewer `questions` and smaller `pieces`.
    pub settings: MemorySettings,
    pub plan: MemoryPlan,
}

/// The largest batch within `limit` bytes, with the pieces of `settings`. Without sampling for a step
/// (`batch` 0) it is the questions that become fewer.
///
/// # Errors
/// The plan for a batch of one, if that is too large.
///
/// # Panics
/// Never: a batch of one is always tried.
pub fn fit_batch(
    spec: &ModelSpec,
    weights: &WeightBytes,
    settings: &MemorySettings,
    limit: u64,
) -> Result<Fitting, MemoryPlan> {
    let mut least = None;
    for (batch, questions) in batches(settings) {
        let settings = MemorySettings { batch, questions, ..settings.clone() };
        let plan = MemoryPlan::predict(spec, weights, &settings);
        if plan.total <= limit {
            return Ok(Fitting { settings, plan });
        }
        least = Some(plan);
    }
    Err(least.expect("one batch was tried"))
}

/// As [`fit_batch`], with smaller pieces where no batch fits otherwise.
///
/// # Errors
/// The plan for a batch of one and the smallest pieces, if that is too large.
pub fn fit(
    spec: &ModelSpec,
    weights: &WeightBytes,
    settings: &MemorySettings,
    limit: u64,
) -> Result<Fitting, MemoryPlan> {
    let with = |row_chunks| MemorySettings { row_chunks, ..settings.clone() };
    let mut row_chunks = settings.row_chunks;
    loop {
        let fitting = fit_batch(spec, weights, &with(row_chunks), limit);
        match smaller(row_chunks) {
            Some(next) if fitting.is_err() => row_chunks = next,
            _ => return fitting,
        }
    }
}

/// The most that fits a limit that was given. Without one everything is as asked for, and must fit
/// what the system below `root` has free.
///
/// # Errors
/// [`MemoryError`].
pub fn fit_given(
    spec: &ModelSpec,
    weights: &WeightBytes,
    settings: &MemorySettings,
    limit: Option<u64>,
    root: &Path,
) -> Result<Fitting, MemoryError> {
    if let Some(bytes) = limit {
        let too_little =
            |least| MemoryError::TooLittle { least: Box::new(least), limit: Limit::given(bytes) };
        return fit(spec, weights, settings, bytes).map_err(too_little);
    }
    let plan = MemoryPlan::predict(spec, weights, settings);
    match available_memory(root) {
        Some(free) if plan.total > free => Err(MemoryError::NotFree { needed: plan.total, free }),
        _ => Ok(Fitting { settings: settings.clone(), plan }),
    }
}

/// Batches with their questions, from what is asked for down to one.
fn batches(s: &MemorySettings) -> Vec<(usize, usize)> {
    if s.batch == 0 {
        // Halved rather than counted down, so that a little more or less free memory mostly gives the
        // same number, with which a stopped comparison goes on.
        let half = |n: &usize| Some(n / 2).filter(|n| *n > 0);
        return std::iter::successors(Some(s.questions), half).map(|n| (0, n)).collect();
    }
    // More than there is to sample or to ask changes nothing.
    let most = s.batch.min(s.prompts_per_step.saturating_mul(s.num_generations).max(s.questions));
    let fewer = (1..most).rev();
    std::iter::once(s.batch).chain(fewer).map(|n| (n, s.questions.min(n))).collect()
}

/// The next smaller pieces, rows first.
fn smaller(row_chunks: RowChunks) -> Option<RowChunks> {
    let RowChunks { rows, head_rows } = row_chunks;
    if rows > LEAST.rows {
        Some(RowChunks { rows: (rows / 2).max(LEAST.rows), head_rows })
    } else if head_rows > LEAST.head_rows {
        Some(RowChunks { rows, head_rows: (head_rows / 2).max(LEAST.head_rows) })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufFile;
    use crate::kernels::Compute;
    use crate::latro::settings::TrainSettings;

    fn tiny() -> (ModelSpec, WeightBytes) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.gguf");
        let file = GgufFile::open(&path).unwrap();
        (ModelSpec::from_gguf(&file).unwrap(), WeightBytes::of(&file))
    }

    fn settings(run: &TrainSettings) -> MemorySettings {
        MemorySettings::of_run(run, 64, (50, 8), (2, Compute::Fast))
    }

    fn total((spec, weights): &(ModelSpec, WeightBytes), settings: &MemorySettings) -> u64 {
        MemoryPlan::predict(spec, weights, settings).total
    }

    #[test]
    fn the_batch_shrinks_where_sampling_is_the_peak() {
        let model = tiny();
        // Many prompts, so that many branches are sampled together and few are trained on.
        let run =
            TrainSettings { num_generations: 2, prompts_per_step: 64, ..TrainSettings::edge() };
        let all = settings(&run);
        let few = MemorySettings { batch: 40, ..all.clone() };
        let limit = total(&model, &few);
        assert!(limit < total(&model, &all));

        let fitting = fit(&model.0, &model.1, &all, limit).unwrap();

        assert_eq!((fitting.settings.batch, fitting.plan.total), (40, limit));
        assert_eq!(fitting.settings.row_chunks, all.row_chunks);
        assert!(total(&model, &MemorySettings { batch: 41, ..all }) > limit);
    }

    #[test]
    fn row_chunks_shrink_where_training_is_the_peak() {
        let model = tiny();
        let run =
            TrainSettings { num_generations: 16, max_new_tokens: 200, ..TrainSettings::edge() };
        let all = settings(&run);
        let with = |rows, head_rows| MemorySettings {
            row_chunks: RowChunks { rows, head_rows },
            batch: 1,
            ..all.clone()
        };
        let limit = total(&model, &with(128, 128));
        assert!(limit < total(&model, &with(256, 128)));

        let fitting = fit(&model.0, &model.1, &all, limit).unwrap();

        assert_eq!(fitting.settings.row_chunks, RowChunks { rows: 128, head_rows: 128 });
        assert!(fitting.plan.total <= limit);
        assert!(fit_batch(&model.0, &model.1, &all, limit).is_err());
    }

    #[test]
    fn what_cannot_fit_is_told_with_the_least_plan() {
        let model = tiny();
        let all = settings(&TrainSettings::edge());
        let least = MemorySettings { batch: 1, row_chunks: LEAST, ..all.clone() };

        let refused = fit(&model.0, &model.1, &all, 1 << 20).unwrap_err();

        assert_eq!(refused.total, total(&model, &least));
        assert!(fit(&model.0, &model.1, &all, refused.total).is_ok());
    }
}
