//! `latrod demo`: the whole system on this machine.

use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::shared::common::{failed, say, usage};
use crate::demo::{DEVICE, DemoError, Running, Settings, run as show};

/// Show the whole system on this machine: a device that learns, a broker, and the fleet's page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a broker, the daemon with a tiny model and sums to learn from, made-up devices beside it,
and the page, and prints the address to open. The device learns within a minute or two, and its
first adapter is promoted. Training does not wait for the machine to be idle here, as that of
`latrod run` does. Ctrl-C ends everything; nothing stays behind.

Examples:
  latrod demo
  latrod demo --devices 500
  latrod demo --model model.gguf --tasks tasks.jsonl --devices 0")]
pub struct Args {
    /// Made-up devices beside the one that learns
    #[arg(long, value_name = "N", default_value_t = 12,
          value_parser = clap::value_parser!(u64).range(0..=5000))]
    devices: u64,
    /// A GGUF model to learn with, instead of the built-in tiny one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Task files to learn from, instead of sums: a file, or a folder of *.jsonl, *.json and *.csv files
    #[arg(long, value_name = "PATH", requires = "model")]
    tasks: Option<PathBuf>,
    /// Address and port of the page; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
}

/// Runs the command.
///
/// # Errors
/// Files that cannot be used (exit code 64); a system that does not let it start (1).
pub fn run(args: Args) -> Result<(), CliError> {
    let absolute = |path: PathBuf| {
        // Links keep their names, which say what kind of file it is.
        std::path::absolute(&path).map_err(|error| usage(format!("{}: {error}", path.display())))
    };
    let settings = Settings {
        devices: args.devices as usize,
        model: args.model.map(absolute).transpose()?,
        tasks: args.tasks.map(absolute).transpose()?,
        listen: args.listen.to_string(),
    };
    show(&settings, |running| {
        let _ = say(text(&settings, &running));
    })
    .map_err(|error| match error {
        DemoError::NoTasks(_) | DemoError::NoModel(_) => usage(error),
        _ => failed(error),
    })
}

/// What there is to look at, and to try.
fn text(settings: &Settings, running: &Running<'_>) -> String {
    let Running { page, broker, .. } = running;
    let (fleet, device) = DEVICE;
    let model = settings.model.as_deref().and_then(Path::file_name);
    let model = model.map_or("a tiny model".into(), |name| name.to_string_lossy().into_owned());
    let neighbors = match settings.devices {
        0 => String::new(),
        1 => ", and a made-up device is beside it".into(),
        n => format!(", and {n} made-up devices are beside it"),
    };
    let (folder, socket) = (running.folder.display(), running.socket.display());
    let key = running.key.display();
    format!(
        "open {page}\n\n\
         {fleet}/{device} learns with {model}{neighbors}. In another terminal:\n\
         \x20 latrod status --socket {socket}\n\
         \x20 latrod command --broker {broker} --fleet {fleet} --device {device} --key {key} pause\n\
         Ctrl-C ends it and removes {folder}."
    )
}
