//! The command line: one file per command, each turning arguments into a library call and its
//! result into output.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod ask;
mod common;
pub mod debug;
pub mod error;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod plot;
pub mod progress;
pub mod train;
mod train_settings;

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
    Inspect(inspect::Args),
    Export(export::Args),
    Plot(plot::Args),
    #[command(subcommand)]
    Debug(debug::Command),
}

/// Runs the program and returns its exit code: 0 done, 1 failed, 64 usage or input, 75 try later.
#[must_use]
pub fn main() -> ExitCode {
    crate::kernels::threads::keep_candle_single_threaded();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 64 } else { 0 });
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = match cli.command {
        Command::Train(a) => train::run(*a),
        Command::Eval(a) => eval::run(a),
        Command::Ask(a) => ask::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::Export(a) => export::run(a),
        Command::Plot(a) => plot::run(a),
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
