//! `latrod debug score`.

use crate::cli::CliError;

/// score
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<(), CliError> {
    Err(CliError::Failed("not here yet".into()))
}
