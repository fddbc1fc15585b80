//! The arguments that say how to get to a broker.

use std::path::PathBuf;

use crate::cli::CliError;
use crate::cli::shared::common::usage;
use crate::contract::keys::read_small;
use crate::report::mqtt::connection::ConnectOptions;
use crate::report::mqtt::{MqttSettings, Protocol};
use crate::settings::Settings as _;

/// How to get to a broker whose address is known.
#[derive(Debug, Clone, clap::Args)]
pub struct BrokerArgs {
    /// User name at the broker
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// File with the password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// PEM file with the certificates to trust, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with a certificate to show to the broker
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    mqtt5: bool,
}

impl BrokerArgs {
    /// How to connect to `broker` as `client_id`: with a clean session, without a last will, one message at a
    /// time.
    ///
    /// # Errors
    /// Unusable arguments and files (exit code 64).
    pub fn connect_options(
        &self,
        broker: &str,
        client_id: String,
    ) -> Result<ConnectOptions, CliError> {
        let settings = MqttSettings {
            broker: broker.to_owned(),
            protocol: if self.mqtt5 { Protocol::V5 } else { Protocol::V311 },
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            ..MqttSettings::default()
        };
        if let Some((field, why)) = settings.problems().into_iter().next() {
            return Err(usage(format!("--{} {why}", field.replace('_', "-"))));
        }
        let options = settings.connect_options(client_id, self.credentials()?).map_err(usage)?;
        Ok(ConnectOptions { max_inflight: 1, ..options })
    }

    fn credentials(&self) -> Result<Option<(String, String)>, CliError> {
        let Some(user) = &self.username else { return Ok(None) };
        let password = match &self.password_file {
            Some(path) => read_small("password", path).map_err(usage)?,
            None => String::new(),
        };
        Ok(Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
    }
}
