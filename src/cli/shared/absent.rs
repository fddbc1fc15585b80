//! Commands that this build was made without. They are known, so that whoever types one learns why it is
//! not there instead of reading a guess at another command.

use std::ffi::OsString;

use crate::cli::CliError;
use crate::cli::shared::common::usage;

/// A command that was left out of this build, with whatever follows it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Says that the command is not there.
///
/// # Errors
/// Always: a usage error that names the feature.
pub fn run(command: &str, feature: &str) -> Result<(), CliError> {
    Err(usage(format!(
        "this build has no `{command}`: it was made without the feature {feature}; use a full build, or \
         build with --features {feature}"
    )))
}
