//! The command line: one file per command, each turning arguments into a library call and its
//! result into output.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod ask;
pub mod daemon;
#[cfg(feature = "debug")]
pub mod debug;
pub mod eval;
pub mod export;
pub mod inspect;
#[cfg(feature = "operator")]
pub mod operator;
#[cfg(feature = "charts")]
pub mod plot;
mod shared;
pub mod train;

use daemon::{run, status, validate, worker};
#[cfg(feature = "demo")]
use operator::demo;
#[cfg(feature = "operator")]
use operator::{command, dashboard, simulate};
#[cfg(not(all(
    feature = "charts",
    feature = "debug",
    feature = "demo",
    feature = "operator"
)))]
use shared::absent;
pub use shared::choice;
pub use shared::error::CliError;

/// Learn a LoRA adapter on a quantized GGUF model, on the device that serves it.
#[derive(Debug, Parser)]
#[command(name = "latrod", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    #[cfg(not(feature = "demo"))]
    #[command(hide = true, disable_help_flag = true)]
    Demo(absent::Args),
    Train(Box<train::Args>),
    Eval(eval::Args),
    Ask(ask::Args),
    #[cfg(feature = "operator")]
    #[command(name = "command")]
    Give(Box<command::Args>),
    #[cfg(not(feature = "operator"))]
    #[command(name = "command", hide = true, disable_help_flag = true)]
    Give(absent::Args),
    #[cfg(feature = "operator")]
    Dashboard(dashboard::Args),
    #[cfg(not(feature = "operator"))]
    #[command(hide = true, disable_help_flag = true)]
    Dashboard(absent::Args),
    #[cfg(feature = "operator")]
    Simulate(Box<simulate::Args>),
    #[cfg(not(feature = "operator"))]
    #[command(hide = true, disable_help_flag = true)]
    Simulate(absent::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    #[cfg(feature = "charts")]
    Plot(plot::Args),
    #[cfg(not(feature = "charts"))]
    #[command(hide = true, disable_help_flag = true)]
    Plot(absent::Args),
    Run(run::Args),
    Status(status::Args),
    Validate(validate::Args),
    #[command(hide = true)]
    Worker(worker::Args),
    #[cfg(feature = "debug")]
    #[command(subcommand)]
    Debug(debug::Command),
    #[cfg(not(feature = "debug"))]
    #[command(hide = true, disable_help_flag = true)]
    Debug(absent::Args),
}

/// The whole command line as clap sees it: what manual pages and completions are made of.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the program and returns its exit code: 0 done, 1 failed, 64 usage or input,
/// 75 try later, 78 configuration.
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
        Command::Run(_) | Command::Dashboard(_) => "latrod=info,warn",
        // Its broker tells of every client that comes and goes.
        Command::Demo(_) => {
            "latrod::daemon::supervisor=warn,latrod::daemon::driver=warn,latrod::daemon=info,latrod=warn"
        }
        _ => "warn",
    });
    let result = match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo(a) => demo::run(a),
        #[cfg(not(feature = "demo"))]
        Command::Demo(_) => absent::run("demo", "demo"),
        Command::Train(a) => train::run(*a),
        Command::Eval(a) => eval::run(&a),
        Command::Ask(a) => ask::run(&a),
        #[cfg(feature = "operator")]
        Command::Give(a) => command::run(*a),
        #[cfg(not(feature = "operator"))]
        Command::Give(_) => absent::run("command", "operator"),
        #[cfg(feature = "operator")]
        Command::Dashboard(a) => dashboard::run(a),
        #[cfg(not(feature = "operator"))]
        Command::Dashboard(_) => absent::run("dashboard", "operator"),
        #[cfg(feature = "operator")]
        Command::Simulate(a) => simulate::run(*a),
        #[cfg(not(feature = "operator"))]
        Command::Simulate(_) => absent::run("simulate", "operator"),
        Command::Inspect(a) => inspect::run(a),
        Command::Export(a) => export::run(a),
        #[cfg(feature = "charts")]
        Command::Plot(a) => plot::run(a),
        #[cfg(not(feature = "charts"))]
        Command::Plot(_) => absent::run("plot", "charts"),
        Command::Run(a) => run::run(a),
        Command::Status(a) => status::run(&a),
        Command::Validate(a) => validate::run(a),
        Command::Worker(a) => return worker::run(&a),
        #[cfg(feature = "debug")]
        Command::Debug(c) => debug::run(c),
        #[cfg(not(feature = "debug"))]
        Command::Debug(_) => absent::run("debug", "debug"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            shared::common::warn(&e);
            ExitCode::from(e.exit_code())
        }
    }
}
