//! `latrod simulate`: made-up devices for trying a dashboard or a broker.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::CliError;
use crate::cli::shared::broker::BrokerArgs;
use crate::cli::shared::common::{failed, say, usage};
use crate::contract::keys::OperatorKeys;
use crate::contract::topics::Topics;
use crate::simulator::{Settings, Shares, SimulatorError, Totals, Trust, simulate};

/// What stands for commands without a signature among the operators' keys.
const UNSIGNED: &str = "unsigned";
/// Most devices: names have five digits.
const MOST_DEVICES: u64 = 99_999;

/// Simulate devices that report over MQTT, to try a dashboard or a broker
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each made-up device has a connection of its own and speaks as docs/mqtt.md says: it waits for
tasks and for idle moments, trains, promotes or rejects what it has learned, gets hot, breaks,
recovers, and obeys commands. The same seed gives the same lives. Every few seconds a line says
how many are connected. Ctrl-C ends all of them in good order; a second one ends the program at
once.

Examples:
  latrod simulate --broker mqtt://localhost --devices 200
  latrod simulate --broker mqtt://localhost --devices 200 --speed 60 --commands unsigned
  latrod simulate --broker mqtts://broker:8883 --ca-file ca.pem --devices 10000 --flaky 0.05 \\
      --skewed 0.01 --clones 0.001 --silent 0.01 --commands operator.pem.pub --report truth.json")]
pub struct Args {
    /// The broker: mqtt://host:port or mqtts://host:port
    #[arg(long, value_name = "URL")]
    broker: String,
    /// How many devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_DEVICES))]
    devices: u64,
    /// Their fleet
    #[arg(long, value_name = "NAME", default_value = "simulated")]
    fleet: String,
    /// How their names begin: NAME-00001, NAME-00002 …
    #[arg(long, value_name = "NAME", default_value = "sim")]
    prefix: String,
    /// What everything made up follows from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Stop after this time; without it, on Ctrl-C
    #[arg(long, value_parser = minutes)]
    minutes: Option<Duration>,
    /// Share of the devices that lose their connection now and then, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    flaky: f64,
    /// Share of the devices whose clock is off by hours
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    skewed: f64,
    /// Share of the devices whose name a second process has, too
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    clones: f64,
    /// Share of the devices that stop speaking after a while but stay connected
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    silent: f64,
    /// Take commands that are signed with these public keys (PEM files, or 32 bytes in base64), or
    /// unsigned ones
    #[arg(long, value_name = "unsigned|KEY", num_args = 1..)]
    commands: Vec<String>,
    /// How often a device reports its state when nothing changes
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    state_every: u64,
    /// How many times as fast as real devices they live
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Devices that connect in a second, at most
    #[arg(long, value_name = "N", default_value_t = 500,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connects: u64,
    /// Write what is true of each device to this file (JSON) every few seconds and at the end
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    access: BrokerArgs,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments and files (exit code 64); a system that allows too few connections, or a report that
/// cannot be written (1).
pub fn run(args: Args) -> Result<(), CliError> {
    // The longest of the names.
    Topics::new(&args.fleet, &format!("{}-{MOST_DEVICES}", args.prefix)).map_err(usage)?;
    let options = args.access.connect_options(&args.broker, String::new())?;
    let (unsigned, keys): (Vec<_>, Vec<_>) =
        args.commands.into_iter().partition(|entry| entry == UNSIGNED);
    let keys = OperatorKeys::load(&keys).map_err(usage)?;
    let trust = Trust { keys, unsigned: !unsigned.is_empty() };
    let settings = Settings {
        devices: args.devices as usize,
        fleet: args.fleet,
        prefix: args.prefix,
        seed: args.seed,
        lasts: args.minutes,
        shares: Shares {
            flaky: args.flaky,
            skewed: args.skewed,
            clones: args.clones,
            silent: args.silent,
        },
        state_every_s: args.state_every,
        speed: args.speed,
        connects_per_s: args.connects as usize,
        report: args.report,
    };
    let mut before = (Duration::ZERO, 0);
    let tell = |since: Duration, totals: Totals, lost: Option<&str>| {
        let _ = say(line(since, totals, before, lost));
        before = (since, totals.sent);
    };
    simulate(settings, options, trust, tell).map_err(|error| match error {
        SimulatorError::Name(_) => usage(error),
        _ => failed(error),
    })
}

/// The totals in a line. `before`: the time and the messages of the line before.
fn line(since: Duration, totals: Totals, before: (Duration, u64), lost: Option<&str>) -> String {
    let Totals { processes, connected, sent, acknowledged, reconnects, commands, .. } = totals;
    let seconds = since.saturating_sub(before.0).as_secs_f64().max(0.001);
    let rate = sent.saturating_sub(before.1) as f64 / seconds;
    let lost = lost.map(|why| format!("; one was lost: {why}")).unwrap_or_default();
    format!(
        "{:>5} s: {connected} of {processes} connected, {rate:.0} messages/s, {sent} sent, {acknowledged} \
         acknowledged, {reconnects} reconnects, {commands} commands{lost}",
        since.as_secs()
    )
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("give a number from {low} to {high}"))
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1000.0)
}

fn minutes(text: &str) -> Result<Duration, String> {
    number(text, 0.01, 1e6).map(|minutes| Duration::from_secs_f64(60.0 * minutes))
}
