//! `latrod dashboard`: the fleet as a page.

use std::path::PathBuf;

use crate::cli::CliError;
use crate::cli::shared::common::{failed, say, usage};
use crate::config::dashboard::load;
use crate::contract::keys::random_hex;
use crate::dashboard::web::access::users::{Role, User};
use crate::dashboard::{DashboardError, Settings, check, serve};

/// Follow the devices of a fleet over MQTT and show them on a page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Subscribes to what devices report, keeps their history in SQLite, and serves a page for browsers: who is
there, what each device does and why, what it has learned, what is wrong, and commands for one device or for
many. Without users in the configuration it prints an address with a token for this run.

Examples:
  latrod dashboard --config dashboard.toml
  latrod dashboard --config dashboard.toml --check
  latrod dashboard --new-user anna --role operator")]
pub struct Args {
    /// The configuration, a TOML file. Without one: all fleets of the broker on this machine, and the
    /// history in ~/.local/state/latrod-dashboard
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Report what is wrong with the configuration, and end
    #[arg(long, requires = "config")]
    check: bool,
    /// Make a token for a user, and print it with the entry for the configuration
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "check"])]
    new_user: Option<String>,
    /// What the new user may do
    #[arg(long, value_name = "ROLE", requires = "new_user", default_value = "viewer",
          value_parser = ["viewer", "operator"])]
    role: String,
}

/// Runs the command.
///
/// # Errors
/// An unusable configuration (exit code 78); an address that is taken or a history that cannot be used (1).
pub fn run(args: Args) -> Result<(), CliError> {
    if let Some(name) = &args.new_user {
        let role = if args.role == "operator" { Role::Operator } else { Role::Viewer };
        return new_user(name, role);
    }
    let settings = match &args.config {
        Some(path) => load(path).map_err(|errors| CliError::Config(errors.to_string()))?,
        None => without_configuration(),
    };
    if args.check {
        check(&settings).map_err(|error| CliError::Config(error.to_string()))?;
        return say("the configuration can be used");
    }
    let ready = |address: &str| {
        // Whoever reads the log instead finds it there.
        log::info!("the page is served");
        let _ = say(format_args!("open {address}"));
    };
    serve(settings, ready).map_err(|error| match error {
        DashboardError::Setting { .. } => CliError::Config(error.to_string()),
        _ => failed(error),
    })
}

/// Whoever just tries it may not write to /var/lib.
fn without_configuration() -> Settings {
    let mut settings = Settings::default();
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    if let Some(folder) = variable("XDG_STATE_HOME").or_else(home) {
        settings.history.state_dir = folder.join("latrod-dashboard");
    }
    settings
}

fn new_user(name: &str, role: Role) -> Result<(), CliError> {
    let token = random_hex::<24>().map_err(failed)?;
    let entry = User::entry(name, role, &token).map_err(usage)?;
    say(format_args!(
        "token, for {name} alone:    {token}\nfor page.users of the configuration:    {entry:?}"
    ))
}
