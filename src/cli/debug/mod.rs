//! `latrod debug …`: the raw numbers, for parity with other systems.

use super::CliError;

pub mod detokenize;
pub mod grad;
pub mod logits;
mod objective;
mod rollouts;
pub mod score;
pub mod tokenize;

/// Raw numbers, in the file formats of the PyTorch and llama.cpp references.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Tokenize(tokenize::Args),
    Detokenize(detokenize::Args),
    Logits(logits::Args),
    Score(score::Args),
    Grad(grad::Args),
}

/// Runs the command.
///
/// # Errors
/// As the command: a usage error for what it is given, a failure for what it cannot compute or write.
pub fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Tokenize(a) => tokenize::run(a),
        Command::Detokenize(a) => detokenize::run(a),
        Command::Logits(a) => logits::run(&a),
        Command::Score(a) => score::run(&a),
        Command::Grad(a) => grad::run(&a),
    }
}
