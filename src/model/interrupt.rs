//! A flag that asks long computations to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ModelError;

/// Shared between whoever decides to stop and the computation, which looks at it between blocks of
/// the transformer and between steps of decoding.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The flag itself, for signal handlers.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`ModelError::Interrupted`] once the flag is set.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.0.load(Ordering::Relaxed) { Err(ModelError::Interrupted) } else { Ok(()) }
    }
}
