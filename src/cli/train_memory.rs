//! The memory that `latrod train` may take, and what it then computes at once.

use std::path::Path;

use super::CliError;
use super::common::{too_little, usage};
use crate::arch::spec::ModelSpec;
use crate::engine::row_chunks::RowChunks;
use crate::engine::weights::WeightBytes;
use crate::gguf::GgufFile;
use crate::memory::fit::{Fitting, fit};
use crate::memory::plan::{MemoryPlan, MemorySettings};
use crate::system::memory::available_memory;

/// The most that fits what `--memory-limit` allows or, without one, the machine has free.
pub fn within_memory(
    limit: Option<u64>,
    file: &GgufFile,
    spec: &ModelSpec,
    settings: &MemorySettings,
) -> Result<Fitting, CliError> {
    let weights = WeightBytes::of(file);
    if let Some(limit) = limit {
        return fit(spec, &weights, settings, limit).map_err(|least| too_little(&least, limit));
    }
    let plan = MemoryPlan::predict(spec, &weights, settings);
    match available_memory(Path::new("/")) {
        Some(available) if plan.total > available => Err(usage(format!(
            "training takes {} MiB and {} MiB are free; --memory-limit makes it sample fewer rationales \
             together and work in smaller row_chunks",
            plan.total.div_ceil(1 << 20),
            available >> 20,
        ))),
        _ => Ok(Fitting { settings: settings.clone(), plan }),
    }
}

/// What memory will be used, and for what.
pub fn sentence(batch: usize, row_chunks: RowChunks, plan: &MemoryPlan) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let RowChunks { rows, head_rows } = row_chunks;
    format!(
        "memory: {} MiB at most (weights {}, sampling {}, training {}); {batch} rationales together, \
         row_chunks of {rows} rows, {head_rows} of logits",
        mib(plan.total),
        mib(plan.weights),
        mib(plan.sampling()),
        mib(plan.training()),
    )
}
