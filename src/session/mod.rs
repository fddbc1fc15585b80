//! A learning run on disk: it joins the learner with the store, step by step, so that nothing done
//! is lost but the phase in flight.
//!
//! ```text
//!   open ─► sample ─► rollouts saved ─► update ─► sentinel ─► metrics line ─► checkpoint ─┐
//!             ▲                                      │ trip                                │
//!             │                                      └─► last good checkpoint, lr/2, β·2   │
//!             └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A run that is killed anywhere and opened again does the same steps with the same numbers. What to
//! do with the numbers (print, publish, stop) is the caller's business.

pub mod comparison;
mod error;
mod folder;
mod questions;
mod run;
mod start;

pub use error::SessionError;
pub use folder::{Folder, Identity};
pub use questions::{Questions, QuestionsError};
pub use run::{Outcome, Phase, Session};
pub use start::begin_with;
