//! The process that holds the model: it trains and evaluates for the daemon, is frozen to yield and
//! ended to free its memory.
//!
//! | file | side | owns |
//! |---|---|---|
//! | `protocol` | both | the messages |
//! | `settings` | daemon | how many threads, how much memory, how long it may be silent |
//! | `child` | daemon | the process: started, frozen, spoken to, ended |
//! | `pulse` | daemon | whether a worker that says nothing is stalled |
//! | `serve` | worker | threads, jobs in their order, how it ends |
//! | `guest` | worker | the lowest priority for everything that it does |
//! | `load`, `memory`, `hash` | worker | the model, the memory that it may take, its SHA-256 |
//! | `job`, `failure` | worker | a job from its message to its answer |
//!
//! All work is durable on disk (see [`crate::session`]), so that a worker may be ended at any moment,
//! by anything, and the next one goes on where it was.

pub mod child;
mod failure;
mod guest;
pub mod hash;
mod job;
mod load;
pub mod protocol;
mod pulse;
mod serve;
mod settings;

pub use pulse::Pulse;
pub use serve::serve;
pub use settings::WorkerSettings;
