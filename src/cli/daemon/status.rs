//! `latrod status`: what the running daemon is doing.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::shared::common::{failed, say};
use crate::config::StatusSettings;
use crate::daemon::activity::Verdict;
use crate::daemon::status::{Status, socket};

/// Show what the running daemon is doing, and why
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration, which names its socket
    #[arg(long, conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// The daemon's socket, if it is not at the usual place
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// No daemon that answers (exit code 75), an unusable configuration (78), a socket that may not be
/// used (1).
pub fn run(args: &Args) -> Result<(), CliError> {
    let socket = match (&args.socket, &args.config) {
        (Some(path), _) => path.clone(),
        (None, Some(config)) => crate::cli::daemon::validate::load(config)?.status.socket,
        (None, None) => StatusSettings::default().socket,
    };
    let text = socket::ask(&socket).map_err(|error| no_answer(&socket, &error))?;
    if args.json {
        return say(text);
    }
    let status: Status = serde_json::from_str(&text)
        .map_err(|_| failed("the daemon is of another version than this program: use --json"))?;
    say(describe(&status))
}

fn no_answer(socket: &Path, error: &std::io::Error) -> CliError {
    let shown = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => CliError::TryLater(format!(
            "no daemon listens at {shown}; start it, or give its --config or --socket"
        )),
        ErrorKind::PermissionDenied => {
            failed(format!("{shown}: {error}; be root, the daemon's user or a member of its group"))
        }
        _ => CliError::TryLater(format!("{shown}: {error}; try again")),
    }
}

/// The status for people.
fn describe(s: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to a text never fails.
        let _ = writeln!(out, "{name:>8}  {text}");
    };
    line("state", format!("{} for {}: {}", s.state.name(), time(s.for_s), s.reason));
    for (name, sentence) in &s.faults {
        line("fault", format!("{name}: {sentence}"));
    }
    line("device", format!("{}/{}, latrod {}, up {}", s.fleet, s.device, s.version, time(s.up_s)));
    let hash = s.model.sha256.get(..8).unwrap_or("not loaded yet");
    line("model", format!("{} ({hash})", s.model.path.display()));
    let adapter = s.adapter.as_deref();
    line("adapter", adapter.unwrap_or("none: the base model serves alone").to_owned());
    if let Some(version) = &s.awaiting {
        line("waits", format!("{version}, for an operator's approval"));
    }
    if let Some(cycle) = &s.cycle {
        line(
            "cycle",
            format!(
                "{}, {}, step {} of {}; {} tasks, {} held out",
                cycle.number, cycle.stage, cycle.step, cycle.steps, cycle.train, cycle.held_out
            ),
        );
    }
    if let Some(outcome) = &s.last_cycle {
        line("last", outcome.clone());
    }
    for (name, value) in &s.settings {
        line("set", format!("{name} = {value}, by an operator"));
    }
    if let Some(worker) = &s.worker {
        let how = if worker.frozen { "frozen" } else { "running" };
        let job = worker.job.as_deref().unwrap_or("no job");
        line("worker", format!("process {}, {how}, {job}", worker.pid));
    }
    let t = &s.tasks;
    line(
        "tasks",
        format!(
            "{} to learn from ({} new), {} held out, {} set aside",
            t.train, t.new, t.held_out, t.set_aside
        ),
    );
    let b = &s.broker;
    if b.url.is_empty() {
        line("broker", "none".into());
    } else {
        let how = if b.connected { "connected" } else { "not connected" };
        line("broker", format!("{}, {how}, {} messages wait", b.url, b.waiting));
    }
    for signal in s.signals.iter().filter(|signal| signal.verdict != Verdict::Absent) {
        line("", signal.sentence());
    }
    line("next", format!("look at the device in {:.1} s", s.next_look_s));
    out
}

/// A time in the largest units that say enough.
fn time(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}
