//! `latrod validate`: everything that is wrong with a configuration, or what was understood.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::cli::CliError;
use crate::cli::shared::common::say;
use crate::config::warnings::{Warning, warnings};
use crate::config::{Config, ConfigErrors};

/// Check a configuration file and say what it means
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every error is one line, FILE:LINE: KEY: what is wrong. Exit code 78 if there are any. What is legal
and probably wrong (a model that isn't there yet, a broker without TLS) is a warning.

Example:
  latrod validate --config /etc/latrod/latrod.toml")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What the daemon would work with, as far as a person wants to see it at a glance.
#[derive(Debug, Serialize)]
struct Understood {
    fleet: String,
    device: String,
    model: PathBuf,
    tasks: PathBuf,
    state_dir: PathBuf,
    compute: String,
    threads: usize,
    broker: Option<String>,
}

impl Understood {
    fn of(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mode = serde_json::to_value(config.compute.mode).unwrap_or_default();
        Self {
            fleet: config.device.fleet.clone(),
            device: config.device.resolved_name(),
            model: config.model.clone(),
            tasks: config.tasks.folder.clone(),
            state_dir: config.state_dir.clone(),
            compute: mode.as_str().unwrap_or_default().into(),
            threads: config.compute.resolved_threads(cores),
            broker: config.mqtt.is_on().then(|| config.mqtt.broker.clone()),
        }
    }

    fn text(&self, file: &Path, warnings: &[Warning]) -> String {
        let threads = match self.threads {
            1 => "1 thread".into(),
            n => format!("{n} threads"),
        };
        let lines = [
            ("device", format!("{} of fleet {}", self.device, self.fleet)),
            ("model", self.model.display().to_string()),
            ("tasks", self.tasks.display().to_string()),
            ("state", self.state_dir.display().to_string()),
            ("compute", format!("{}, {threads}", self.compute)),
            ("broker", self.broker.clone().unwrap_or_else(|| "none".into())),
        ];
        let mut text = format!("{} can be used\n", file.display());
        for (name, value) in lines {
            text += &format!("  {name:<8} {value}\n");
        }
        for Warning { key, sentence } in warnings {
            text += &format!("warning: {key}: {sentence}\n");
        }
        text
    }
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be used: exit code 78.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) if args.json => {
            say(json!({
                "valid": false,
                "file": errors.path,
                "complete": errors.complete,
                "errors": errors.errors,
            }))?;
            return Err(CliError::Config(errors.summary()));
        }
        Err(errors) => return Err(refused(&errors)),
    };
    let (understood, warnings) = (Understood::of(&config), warnings(&config));
    if args.json {
        say(json!({
            "valid": true,
            "file": args.config,
            "understood": understood,
            "warnings": warnings,
        }))
    } else {
        say(understood.text(&args.config, &warnings))
    }
}

/// Reads the configuration for a command that needs it.
///
/// # Errors
/// As [`run`], after each error was printed on a line of its own.
pub fn load(path: &Path) -> Result<Config, CliError> {
    Config::load(path).map_err(|errors| refused(&errors))
}

/// Prints the errors as they are, for editors to jump to; what is returned counts them.
fn refused(errors: &ConfigErrors) -> CliError {
    let mut stderr = std::io::stderr().lock();
    for line in errors.lines() {
        // Nobody may be watching, which is no failure.
        let _ = writeln!(stderr, "{line}");
    }
    CliError::Config(errors.summary())
}
