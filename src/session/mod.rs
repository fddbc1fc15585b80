//! A training run on disk: connects the learner with the store, step by step, so that only the phase
//! in progress can be lost.
//!
//! ```text
//!   open ─► sample ─► rollouts saved ─► update ─► sentinel ─► metrics line ─► checkpoint ─┐
//!             ▲                                      │ trip                                │
//!             │                                      └─► last good checkpoint, lr/2, β·2   │
//!             └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A run that is killed anywhere and opened again does the same steps with the same numbers. What to
//! do with the numbers (print, publish, stop) is up to the caller.

mod builder;
pub mod comparison;
mod error;
mod evaluations;
mod folder;
mod method;
mod questions;
mod rejected;
mod run;
mod start;

pub use builder::SessionBuilder;
pub use error::SessionError;
pub use evaluations::{Best, Evaluations};
pub use folder::{Folder, METRICS_FILE, RunIdentity};
pub use questions::{Questions, QuestionsError, with_rationales};
pub use rejected::write_rejected;
pub use run::{Phase, Session, StepOutcome};
pub use start::start_from;
