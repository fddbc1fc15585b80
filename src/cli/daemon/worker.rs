//! `latrod worker`: the process that holds the model, started by the daemon and hidden from people.

use std::process::ExitCode;

/// Train and evaluate for the daemon that started this process
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's process id; the worker ends when that process does
    #[arg(long)]
    parent: u32,
}

/// Serves the daemon until it ends or closes standard input. Returns 0 then, 64 after a line that is
/// no message, 1 if the model could not be loaded or a job panicked.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    crate::worker::serve(args.parent)
}
