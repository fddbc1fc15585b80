//! A flag that asks long computations to stop, and a count that shows that they go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::ModelError;

/// Shared between whoever decides to stop and the computation, which looks at it between blocks of
/// the transformer and between steps of decoding.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    /// How often the computation has looked: a heartbeat for whoever watches it.
    checks: Arc<AtomicU64>,
}

impl Interrupt {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that is not set, for the next computation; its looks are counted on from this one's.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { flag: Arc::default(), checks: Arc::clone(&self.checks) }
    }

    /// The flag itself, for signal handlers.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Asks to stop.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// How often computations have called [`Self::check`].
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`ModelError::Interrupted`] once the flag is set.
    pub fn check(&self) -> Result<(), ModelError> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if self.flag.load(Ordering::Relaxed) { Err(ModelError::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_flag_is_not_set_and_counts_on() {
        let first = Interrupt::new();
        first.check().unwrap();
        first.set();

        let second = first.renewed();

        assert!(first.check().is_err() && second.check().is_ok());
        assert_eq!((first.checks(), second.checks()), (3, 3));
    }
}
