//! What is said where memory is short.

use super::limit::Limit;
use super::plan::MemoryPlan;

/// Something takes more memory than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Even the smallest plan is too large.
    #[error(
        "it takes {} MiB at least (weights {}, adapter and optimizer {}, program {}) and {} {} MiB: \
         free some memory or raise the limit, or use a smaller num_generations, rank, \
         max_new_tokens or model",
        mib(least.total), mib(least.weights), mib(least.adapter.saturating_add(least.optimizer)),
        mib(least.program), limit.who, limit.bytes >> 20
    )]
    TooLittle {
        /// The smallest plan.
        least: Box<MemoryPlan>,
        limit: Limit,
    },
    /// What was asked for is too large, and nobody allowed less.
    #[error(
        "training takes {} MiB and {} MiB are free; --memory-limit makes it sample fewer rationales \
         together and work in smaller pieces",
        mib(*needed), free >> 20
    )]
    NotFree {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// Sampling so much together is too large.
    #[error(
        "sampling {rationales} rationales of {new_tokens} tokens together takes {} MiB and {} MiB are \
         free; ask for fewer new tokens or, where the command has it, a smaller --batch",
        needed >> 20, free >> 20
    )]
    Sampling {
        rationales: usize,
        new_tokens: usize,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
}

/// Whole MiB, upwards.
pub(super) const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
