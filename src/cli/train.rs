//! `latrod train`.

use super::CliError;

/// train
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<(), CliError> {
    Err(CliError::Failed("not here yet".into()))
}
