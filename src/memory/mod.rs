//! How much memory training, sampling and evaluating take, and the settings with which they fit a
//! limit. Every command and the worker ask here, and say the same sentences.
//!
//! | file | owns |
//! |---|---|
//! | `plan` | the memory of a run, as the sum of what each part says of its buffers |
//! | `fit` | the largest batch and pieces of rows within a limit |
//! | `limit` | how much may be taken: the setting, the system, the control group |
//! | `needs` | a model and its run against a limit: batch, pieces, questions |
//! | `sampling` | the memory of sampling alone |
//! | `error` | the sentences |

pub mod error;
pub mod fit;
pub mod limit;
pub mod needs;
pub mod plan;
pub mod sampling;

pub use error::MemoryError;
pub use limit::Limit;
pub use needs::Needs;
