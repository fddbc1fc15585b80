//! `latrod run`: the daemon.

use std::path::PathBuf;

use rustix::fs::Mode;

use crate::cli::CliError;
use crate::cli::shared::common::failed;
use crate::config::Config;
use crate::daemon::driver::{Driver, Start, StartError};

/// Learn while the device is idle, and tell the fleet
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Watches a folder for tasks, waits until the device is idle, trains in a process of its own, and gives
way at once when the device is needed. A candidate becomes the active adapter only if it is better on
held-out tasks. `latrod validate` checks the configuration; `latrod status` says what the daemon does.

SIGTERM and SIGINT end it, SIGHUP makes it read its configuration again. Whatever kills it, the next
start resumes there.")]
pub struct Args {
    /// The configuration, a TOML file
    #[arg(long)]
    config: PathBuf,
    /// Where /proc, /sys and /run of the device lie
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// An unusable configuration (exit code 78), a state folder that another daemon uses (75), a system
/// that does not let it start (1).
pub fn run(args: Args) -> Result<(), CliError> {
    let config =
        Config::load(&args.config).map_err(|errors| CliError::Config(errors.to_string()))?;
    // Tasks are the device's own affair: what is not opened up on purpose is for nobody else.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        let start = Start { config_path: args.config, config, root: args.root };
        let driver = Driver::new(start).map_err(|error| match error {
            StartError::Taken(_) => CliError::TryLater(error.to_string()),
            StartError::Settings(_) => CliError::Config(error.to_string()),
            StartError::System { .. } => failed(error),
        })?;
        driver.run().await;
        Ok(())
    })
}
