//! The settings of `latrod dashboard`, one struct a section of its configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};

use super::DashboardError;
use super::history::Limits;
use super::web::access::users::User;
use crate::contract::topics::{Kind, ROOT, check_name};
use crate::report::mqtt::connection::ConnectOptions;
use crate::report::mqtt::subscriber::Subscriber;
use crate::report::mqtt::{MqttSettings, Protocol};
use crate::settings::{Problem, Rule, Settings as _, Value, settings};
use crate::system::secret::{self, Secret};

/// Fleets that one dashboard may name.
const MOST_FLEETS: usize = 256;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

settings! {
    /// The page: where it is served, what it shows, and who may see it.
    pub struct PageSettings {
        /// Address and port at which the page is served.
        ///
        /// By default only this machine reaches it. For others put a proxy with TLS before it: the program
        /// speaks plain HTTP.
        listen: String = "127.0.0.1:8600".into() => Rule::Custom(address),
        /// The fleets that are shown; "+" stands for all that the broker lets us read.
        fleets: Vec<String> = vec!["+".into()] => Rule::Entries(MOST_FLEETS),
        /// Who may log in, each as NAME:ROLE:HASH, as `latrod dashboard --new-user NAME` prints it. The
        /// role is viewer or operator. Empty: a token for this run is printed at the start.
        users: Vec<String> = Vec::new() => Rule::Any,
        /// The header in which a proxy names the user who has logged in there, such as
        /// X-Forwarded-User. Empty: none is believed. Users that `users` doesn't list are viewers; the
        /// proxy must remove the header from what it is sent.
        proxy_header: String = String::new() => Rule::Custom(header),
        /// Addresses of the proxies whose header is believed.
        proxies: Vec<String> = Vec::new() => Rule::Entries(64),
        /// The operator's private key (Ed25519, PKCS #8 PEM), with which commands are signed. Without it, the
        /// page is read-only.
        operator_key: Option<PathBuf> = None => Rule::Example("/etc/latrod/operator.pem"),
        /// Send commands without a signature, for a closed test bench whose devices allow that.
        unsigned: bool = false => Rule::Any,
        /// How long a command stays valid, in seconds. Devices that are away get it when they come back.
        command_valid_s: u64 = 3600 => Rule::Whole(10, crate::contract::wire::MAX_LIFE_S),
        /// Show every device in /metrics, too, instead of the fleet in sums alone.
        ///
        /// That is up to nine series a device: for thousands, ask whoever runs Prometheus.
        device_metrics: bool = false => Rule::Any,
        /// Pages that may be open at once; each is kept up to date.
        max_open_pages: u32 = 100 => Rule::Whole(1, 10_000),
    }
    check PageSettings::conflicts
}

settings! {
    /// What is kept of the past, in a SQLite database.
    pub struct HistorySettings {
        /// The folder of the database.
        state_dir: PathBuf = "/var/lib/latrod-dashboard".into() => Rule::Any,
        /// How long every single value is kept, in hours.
        raw_hours: u32 = 48 => Rule::Whole(1, 8760),
        /// How long values of five minutes are kept, in days.
        fine_days: u32 = 30 => Rule::Whole(1, 3660),
        /// How long values of an hour, and what devices did each day, are kept, in days.
        coarse_days: u32 = 730 => Rule::Whole(1, 36_600),
        /// Size of the database, at most, in MiB. Beyond, the oldest go first.
        ///
        /// A device that is always on and reports ten numbers takes about 6 MiB in two years.
        max_mib: u64 = 8192 => Rule::Whole(16, 1 << 24),
    }
}

settings! {
    /// The broker whose devices are shown.
    pub struct BrokerSettings {
        /// The broker: mqtt://host:port or, with TLS, mqtts://host:port.
        broker: String = "mqtt://localhost".into() => Rule::Any,
        /// Version of the protocol. With 3.1.1 a message over 1 MiB, from whomever, ends every connection.
        protocol: Protocol = Protocol::V5 => Rule::Any,
        /// Client id. Empty: latrod-dashboard and a random number, so that several can run.
        client_id: String = String::new() => Rule::Any,
        /// User name at the broker. Empty: none.
        username: String = String::new() => Rule::Any,
        /// File with the password; a line break at its end doesn't count. Without it the password is
        /// that of LATROD_MQTT_PASSWORD in the environment, or else the systemd credential
        /// mqtt-password.
        password_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/mqtt-password"),
        /// PEM file with the certificates to trust. Without it, those of the system.
        ca_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/ca.pem"),
        /// PEM file with our own certificate, for brokers that ask for one.
        cert_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/dashboard.pem"),
        /// PEM file with the private key of `cert_file`.
        key_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/dashboard-key.pem"),
    }
    check BrokerSettings::conflicts
}

/// All settings of the dashboard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The page.
    pub page: PageSettings,
    /// The past.
    pub history: HistorySettings,
    /// The broker.
    pub mqtt: BrokerSettings,
}

fn header(value: Value<'_>) -> Option<String> {
    let Value::Text(text) = value else { return None };
    let fits = text.is_empty() || HeaderName::from_bytes(text.as_bytes()).is_ok();
    (!fits).then(|| "must be the name of a header, such as X-Forwarded-User".into())
}

fn address(value: Value<'_>) -> Option<String> {
    let Value::Text(text) = value else { return None };
    let fits = text.parse::<SocketAddr>().is_ok();
    (!fits).then(|| "must be an address and a port, such as 127.0.0.1:8600".into())
}

impl PageSettings {
    fn conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for fleet in self.fleets.iter().filter(|fleet| *fleet != "+") {
            if let Err(why) = check_name("the fleet's name", fleet) {
                found.push(("fleets", format!("holds {fleet:?}: {why}")));
            }
        }
        for user in &self.users {
            if let Err(why) = User::parse(user) {
                found.push(("users", format!("holds an entry that cannot be used: {why}")));
            }
        }
        if self.fleets.is_empty() {
            found.push(("fleets", "is empty: name a fleet, or \"+\" for all".into()));
        }
        if !self.proxies.is_empty() && self.proxy_header.is_empty() {
            found.push(("proxies", "needs proxy_header".into()));
        }
        for proxy in self.proxies.iter().filter(|proxy| proxy.parse::<IpAddr>().is_err()) {
            found.push(("proxies", format!("holds {proxy:?}, which is no address")));
        }
        if !self.proxy_header.is_empty() && self.proxies.is_empty() {
            found.push(("proxy_header", "needs proxies: from others it is not believed".into()));
        }
        if self.unsigned && self.operator_key.is_some() {
            found.push(("unsigned", "and operator_key exclude each other: remove one".into()));
        }
        found
    }
}

impl HistorySettings {
    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            raw_ms: i64::from(self.raw_hours) * 3_600_000,
            fine_ms: i64::from(self.fine_days) * DAY_MS,
            coarse_ms: i64::from(self.coarse_days) * DAY_MS,
            max_bytes: self.max_mib << 20,
            max_devices: super::fleet::MAX_DEVICES,
            ..Limits::default()
        }
    }
}

impl BrokerSettings {
    /// The same in the words of a device's link, which knows what is wrong with them.
    fn link(&self) -> MqttSettings {
        MqttSettings {
            broker: self.broker.clone(),
            protocol: self.protocol,
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            password_file: self.password_file.clone(),
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            ..MqttSettings::default()
        }
    }

    fn conflicts(&self) -> Vec<Problem> {
        self.link().problems()
    }

    fn password(&self) -> Result<String, DashboardError> {
        let file = self.password_file.as_deref().unwrap_or(Path::new(""));
        let found = Secret::find(secret::MQTT_PASSWORD, file);
        let found = found.map_err(|e| unusable("mqtt.password_file", e))?;
        Ok(found.map(|secret| secret.reveal().to_owned()).unwrap_or_default())
    }
}

fn unusable(key: &'static str, why: impl ToString) -> DashboardError {
    DashboardError::Setting { key, why: why.to_string() }
}

impl Settings {
    /// The file of the history.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.history.state_dir.join("history.sqlite")
    }

    /// Who listens to the fleets.
    ///
    /// # Errors
    /// A broker, a certificate or a password that cannot be used.
    pub fn subscriber(&self) -> Result<Subscriber, DashboardError> {
        let settings = self.mqtt.link();
        let credentials = match settings.username.as_str() {
            "" => None,
            user => Some((user.to_owned(), self.mqtt.password()?)),
        };
        let random = || format!("latrod-dashboard-{:08x}", getrandom::u32().unwrap_or_default());
        let given = Some(settings.client_id.clone()).filter(|id| !id.is_empty());
        let options = settings.connect_options(given.unwrap_or_else(random), credentials);
        let options = options.map_err(|e| unusable("mqtt", e))?;
        let options = ConnectOptions { keep_alive: Duration::from_secs(15), ..options };
        Ok(Subscriber::new(options, self.filters()))
    }

    /// What is subscribed to: everything that devices publish, and nothing that others do.
    fn filters(&self) -> Vec<String> {
        let kinds = [Kind::Status, Kind::Birth, Kind::State, Kind::Progress, Kind::Event];
        let names = kinds.map(|kind| kind.name().to_owned());
        let names = || names.iter().cloned().chain(["ack/+".to_owned()]);
        let of = |fleet: &String| names().map(|name| format!("{ROOT}/{fleet}/+/{name}")).collect();
        self.page.fleets.iter().flat_map(|fleet| -> Vec<String> { of(fleet) }).collect()
    }
}
