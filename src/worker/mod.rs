//! The process that holds the model. It trains and evaluates for the daemon, is frozen to yield the
//! device, and is ended to free its memory.
//!
//! | file | side | owns |
//! |---|---|---|
//! | `protocol` | both | the messages |
//! | `settings` | daemon | how many threads, how much memory, how long it may be silent |
//! | `child` | daemon | the process: started, frozen, spoken to, ended |
//! | `heartbeat` | daemon | whether a worker that says nothing is stalled |
//! | `serve` | worker | threads, jobs in their order, how it ends |
//! | `priority` | worker | the lowest priority for everything that it does |
//! | `load`, `memory`, `hash` | worker | the model, the memory that it may take, its SHA-256 |
//! | `job`, `failure` | worker | a job from its message to its answer |
//!
//! All work is durable on disk (see [`crate::session`]), so that a worker may be ended at any moment,
//! by anything, and the next one resumes its work.

pub mod child;
mod failure;
pub mod hash;
mod heartbeat;
mod job;
mod load;
mod priority;
pub mod protocol;
mod serve;
mod settings;

pub use heartbeat::Heartbeat;
pub use serve::serve;
pub use settings::WorkerSettings;
