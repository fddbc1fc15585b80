//! `latrod ask`.

use super::CliError;

/// ask
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<(), CliError> {
    Err(CliError::Failed("not here yet".into()))
}
