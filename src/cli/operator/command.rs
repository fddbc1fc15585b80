//! `latrod command`: signs a command, sends it to a device over MQTT and prints its acknowledgements.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::CliError;
use crate::cli::shared::broker::BrokerArgs;
use crate::cli::shared::common::{failed, say, usage};
use crate::contract::envelope::Envelope;
use crate::contract::keys::{load_signing_key, new_key_pair};
use crate::contract::topics::Topics;
use crate::contract::wire;
use crate::contract::wire::{Ack, AckState, Command};
use crate::report::mqtt::connection::ConnectOptions;
use crate::report::mqtt::operator::{Answer, give};

/// What a device can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// Don't train until `resume`
    Pause,
    /// Train again when the device is idle
    Resume,
    /// Begin a cycle at the next idle moment, however few new tasks there are
    TrainNow,
    /// Check the active adapter against its parent on held-out tasks that came since
    Check,
    /// Make VERSION the active adapter
    Promote,
    /// Go back to the parent of the active adapter
    Rollback,
    /// Override a setting of the configuration file with KEY=VALUE; KEY= restores the file's value
    Set,
    /// Take tasks that were set aside back into training
    RestoreTasks,
}

/// Give a device a signed command over MQTT
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints the device's acknowledgements: received, running, then done, failed, refused or expired. The
exit code is 0 if the command was done, 1 if not, and 75 if the device did not say so in time. It may
still be done then: a device that is away gets it when it comes back, until it expires.

Examples:
  latrod command --new-key operator.pem
  latrod command --broker mqtts://broker:8883 --fleet press --device jetson-3 \\
      --key operator.pem pause
  latrod command … promote 00000003-0a1b2c3d
  latrod command … set learn.steps=200")]
pub struct Args {
    /// The broker: mqtt://host:port or mqtts://host:port
    #[arg(long, value_name = "URL", required_unless_present = "new_key")]
    broker: Option<String>,
    /// The device's fleet
    #[arg(long, required_unless_present = "new_key")]
    fleet: Option<String>,
    /// The device
    #[arg(long, required_unless_present = "new_key")]
    device: Option<String>,
    /// The operator's private key (Ed25519, PKCS #8 PEM), whose public key the device knows
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Send the command without a signature, for devices that allow it
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
    /// How long to wait for the device's answer; 0 waits for the broker only
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    /// How long the command stays valid
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(1..=crate::contract::wire::MAX_LIFE_S))]
    valid: u64,
    #[command(flatten)]
    access: BrokerArgs,
    /// Print the device's answers as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Make a new key pair instead: FILE (private) and FILE.pub (for the devices' configuration)
    #[arg(long, value_name = "FILE", exclusive = true)]
    new_key: Option<PathBuf>,
    /// What to do
    #[arg(value_enum, required_unless_present = "new_key")]
    action: Option<Action>,
    /// The version for promote, KEY=VALUE for set
    argument: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Unusable arguments and files (exit code 64); a command that failed or was refused (1); no answer
/// in time (75).
pub fn run(args: Args) -> Result<(), CliError> {
    if let Some(path) = &args.new_key {
        return make_key(path);
    }
    let missing = || usage("--broker, --fleet, --device and an action are needed");
    let topics = Topics::new(
        args.fleet.as_deref().ok_or_else(missing)?,
        args.device.as_deref().ok_or_else(missing)?,
    )
    .map_err(usage)?;
    let action = action(args.action.ok_or_else(missing)?, args.argument.clone())?;
    let issued = wire::wall_clock_ms() / 1000;
    let command = Command::new(&topics, action, issued, args.valid).map_err(failed)?;
    let envelope = seal(&args, &command)?;
    let client_id = format!("latrod-command-{}", &command.id[..16]);
    let options = args.access.connect_options(args.broker.as_deref().unwrap_or(""), client_id)?;
    let options = ConnectOptions { keep_alive: Duration::from_secs(10), ..options };
    let wait = (args.wait > 0).then(|| Duration::from_secs(args.wait));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(format!("cannot start: {e}")))?;
    let mut output = Ok(());
    let heard = |ack: &Ack| {
        if output.is_ok() {
            output = show(ack, args.json);
        }
    };
    let answer = runtime.block_on(give(&options, &topics, &command, &envelope, wait, heard));
    output?;
    conclude(answer, &topics, args.wait)
}

fn conclude(answer: Answer, topics: &Topics, wait: u64) -> Result<(), CliError> {
    let device = format!("{}/{}", topics.fleet(), topics.device());
    match answer {
        Answer::Ended(ack) if ack.state == AckState::Done => Ok(()),
        Answer::Ended(ack) => {
            let why = ack.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(failed(format!("{device} says {}{why}", ack.state)))
        }
        Answer::Sent { .. } if wait == 0 => Ok(()),
        Answer::Sent { last: None } => Err(CliError::TryLater(format!(
            "{device} has not answered within {wait} s; the broker keeps the command for it"
        ))),
        Answer::Sent { last: Some(ack) } => Err(CliError::TryLater(format!(
            "{device} has {} the command but not ended it within {wait} s",
            if ack.state == AckState::Running { "begun" } else { "received" }
        ))),
        Answer::NotSent { reason } => {
            Err(CliError::TryLater(format!("the command was not sent: {reason}")))
        }
    }
}

fn show(ack: &Ack, json: bool) -> Result<(), CliError> {
    if json {
        return say(serde_json::to_string(ack).map_err(failed)?);
    }
    match &ack.reason {
        Some(reason) => say(format_args!("{}: {reason}", ack.state)),
        None => say(ack.state),
    }
}

fn action(action: Action, argument: Option<String>) -> Result<wire::Action, CliError> {
    let (name, version, set) = match action {
        Action::Pause => ("pause", None, None),
        Action::Resume => ("resume", None, None),
        Action::TrainNow => ("train_now", None, None),
        Action::Check => ("check", None, None),
        Action::Promote => ("promote", argument.clone(), None),
        Action::Rollback => ("rollback", None, None),
        Action::Set => ("set", None, argument.clone()),
        Action::RestoreTasks => ("restore_tasks", None, None),
    };
    if argument.is_some() && version.is_none() && set.is_none() {
        return Err(usage(format!("{name} takes no argument")));
    }
    let (key, value) = match set.as_deref().map(|set| set.split_once('=')) {
        None => (None, None),
        Some(Some((key, value))) => (Some(key.to_owned()), Some(value.to_owned())),
        Some(None) => return Err(usage("set takes KEY=VALUE")),
    };
    wire::action(name, version, key, value).map_err(usage)
}

/// The command in its envelope, signed unless the arguments say otherwise.
fn seal(args: &Args, command: &Command) -> Result<Envelope, CliError> {
    let payload = command.to_json();
    match &args.key {
        Some(path) => Ok(Envelope::signed(&load_signing_key(path).map_err(usage)?, &payload)),
        None if args.unsigned => Ok(Envelope::unsigned(&payload)),
        None => Err(usage("devices take signed commands: name the operator's key with --key")),
    }
}

/// Writes a key pair; the private key for its owner's eyes only.
fn make_key(path: &Path) -> Result<(), CliError> {
    let (private, public) = new_key_pair().map_err(failed)?;
    let public_path = path.with_added_extension("pub");
    write_new(path, &private, 0o600)?;
    write_new(&public_path, &public, 0o644)?;
    say(format_args!(
        "wrote {} (keep it secret) and {} (name it in operator_keys of the devices)",
        path.display(),
        public_path.display()
    ))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| failed(format!("cannot write {}: {e}", path.display())))
}
