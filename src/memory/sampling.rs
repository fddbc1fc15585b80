//! The memory of sampling alone, for commands that don't train.

use std::path::Path;

use super::MemoryError;
use crate::engine::Engine;
use crate::engine::cpu::kv_cache::KvCache;
use crate::kernels::float_bytes;
use crate::latro::sampling::generate::{Limits, Places};
use crate::latro::sampling::rollouts::longest_continuation;
use crate::latro::sampling::sampler::Pick;
use crate::ops::attention::HeadShape;
use crate::system::memory::available_memory;

/// What is sampled together.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    pub prompts: usize,
    /// Length of the longest prompt.
    pub prompt_tokens: usize,
    /// Rationales for each prompt.
    pub branches: usize,
    /// Length of the longest rationale.
    pub new_tokens: usize,
    /// Length of the longest answer that is scored behind one; 0 if none is.
    pub answer_tokens: usize,
}

impl Sampling {
    /// Refuses to sample more at once than the machine has memory for. Devices whose memory is not
    /// planned take everything.
    ///
    /// # Errors
    /// [`MemoryError::Sampling`].
    pub fn check(self, model: &impl Engine) -> Result<(), MemoryError> {
        if !model.device().is_planned() {
            return Ok(());
        }
        let (spec, compute) = (model.spec(), model.compute());
        // Nobody has room for more, and sums stay small.
        let most = 1 << 24;
        let limits = Limits {
            branches: self.branches.min(most),
            max_new_tokens: self.new_tokens.min(most),
            batch: self.prompts.saturating_mul(self.branches).min(most),
            continuation: match self.answer_tokens.min(most) {
                0 => 0,
                tokens => longest_continuation(tokens),
            },
            pick: Pick::Greedy,
        };
        let places = Places::new(self.prompts, self.prompt_tokens, &limits);
        let slots = places.slots();
        let logits = float_bytes(&[limits.batch + places.scored_rows, spec.vocab]);
        let cache = KvCache::bytes(spec.layers, HeadShape::from(spec), slots, compute);
        let needed = cache.saturating_add(logits);
        match available_memory(Path::new("/")) {
            Some(free) if needed > free => Err(MemoryError::Sampling {
                rationales: self.prompts * self.branches,
                new_tokens: self.new_tokens,
                needed,
                free,
            }),
            _ => Ok(()),
        }
    }
}
