//! The command line: one file per command, each turning arguments into a library call and its
//! result into output.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod ask;
pub mod command;
mod common;
pub mod debug;
pub mod error;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod plot;
pub mod progress;
pub mod run;
pub mod status;
pub mod train;
mod train_memory;
mod train_settings;
pub mod validate;
pub mod worker;

pub use error::CliError;

/// Learn a LoRA adapter on a quantised GGUF model, on the device that serves it.
#[derive(Debug, Parser)]
#[command(name = "latrod", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Eval(eval::Args),
    Ask(ask::Args),
    #[command(name = "command")]
    Give(Box<command::Args>),
    Inspect(inspect::Args),
    Export(export::Args),
    Plot(plot::Args),
    Run(run::Args),
    Status(status::Args),
    Validate(validate::Args),
    #[command(hide = true)]
    Worker(worker::Args),
    #[command(subcommand)]
    Debug(debug::Command),
}

/// The whole command line as clap sees it: what manual pages and completions are made of.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the program and returns its exit code: 0 done, 1 failed, 64 usage or input, 75 try later.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 64 } else { 0 });
        }
    };
    crate::report::journal::init(match cli.command {
        // What a service does is of interest when something is wrong; it cannot be asked again.
        Command::Run(_) => "latrod=info,warn",
        _ => "warn",
    });
    let result = match cli.command {
        Command::Train(a) => train::run(*a),
        Command::Eval(a) => eval::run(a),
        Command::Ask(a) => ask::run(a),
        Command::Give(a) => command::run(*a),
        Command::Inspect(a) => inspect::run(a),
        Command::Export(a) => export::run(a),
        Command::Plot(a) => plot::run(a),
        Command::Run(a) => run::run(a),
        Command::Status(a) => status::run(&a),
        Command::Validate(a) => validate::run(a),
        Command::Worker(a) => return worker::run(&a),
        Command::Debug(c) => debug::run(c),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            common::warn(&e);
            ExitCode::from(e.exit_code())
        }
    }
}
