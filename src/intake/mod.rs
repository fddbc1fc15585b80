//! Takes in task files that are dropped into a folder, at any time, in any number, half-written or
//! broken. No task is lost or taken twice, whenever the process is killed.
//!
//! ```text
//!  spool/x.jsonl ──settled──► read in pieces ──► 1. tasks/<time>-<hash>.jsonl    new tasks, durable
//!                                                2. ledger, one transaction      deduplicated by id
//!                                                3. quarantine/…                 rejected lines
//!                                                4. spool/x.jsonl removed        if it is unchanged
//! ```
//!
//! After a kill at any point the file is still there and is read again: the tasks of step 1 come
//! into the ledger from the archive, those of step 2 are known, and step 3 writes the same file.
//! Many small files share one round of these steps.
//!
//! Owns the folders `tasks` and `quarantine` in the state folder, and what is done with the spool.
//! The tables are the [`crate::store::ledger::Ledger`]'s. Doesn't know
//! when a scan is due or who is told about it.

mod archive;
mod commit;
mod error;
mod quarantine;
mod scan;
mod settings;
mod spool;
mod take;
mod watch;

pub use error::IntakeError;
pub use scan::{FileProblem, ScanReport};
pub use settings::SpoolSettings;
pub use spool::Spool;

#[cfg(test)]
mod tests;
