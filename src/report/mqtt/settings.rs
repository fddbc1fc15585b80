//! The settings of the connection to a broker, `[mqtt]` in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::connection::ConnectOptions;
use super::tls;
use crate::report::ReportError;
use crate::settings::{Problem, Rule, Settings, Value, choices, settings};

choices! {
    /// The protocol's version on the wire.
    pub enum Protocol {
        /// MQTT 3.1.1, which every broker speaks.
        V311 = "3.1.1",
        /// MQTT 5: expiry of sessions and commands, reasons for refusals.
        V5 = "5",
    }
}

#[expect(clippy::derivable_impls, reason = "`choices!` makes the enum, without a default")]
impl Default for Protocol {
    fn default() -> Self {
        Self::V311
    }
}

settings! {
    /// The broker to report to, and who may command. Nothing of a task's text is sent.
    pub struct MqttSettings {
        /// The broker: mqtt://host:port or, with TLS, mqtts://host:port; ports 1883 and 8883 may be
        /// left out. Empty: no broker, everything is reported to the journal alone.
        broker: String = String::new() => Rule::Any,
        /// Version of the protocol.
        protocol: Protocol = Protocol::V311 => Rule::Any,
        /// Client id. Empty: latrod-FLEET-DEVICE.
        ///
        /// It must stay the same from start to start, because the broker keeps commands for it; no
        /// two devices may share one.
        client_id: String = String::new() => Rule::Custom(one_line),
        /// User name at the broker. Empty: none.
        username: String = String::new() => Rule::Any,
        /// File with the password; a line break at its end doesn't count. Without it the password is
        /// that of LATROD_MQTT_PASSWORD in the environment, or else the systemd credential
        /// mqtt-password.
        ///
        /// Read at every connection, so that it can be renewed.
        password_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/mqtt-password"),
        /// PEM file with the certificates to trust. Without it, those of the system.
        ca_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/ca.pem"),
        /// PEM file with the device's own certificate, for brokers that ask for one.
        cert_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/device.pem"),
        /// PEM file with the private key of `cert_file`. A systemd credential is a file too:
        /// /run/credentials/latrod.service/mqtt-key.
        key_file: Option<PathBuf> = None => Rule::Example("/etc/latrod/device-key.pem"),
        /// How often an idle connection is checked, in seconds.
        ///
        /// With 30 the fleet sees a device that lost its power as offline after 45 s, for some 10
        /// bytes per minute.
        keep_alive_s: u16 = 30 => Rule::Whole(5, 3600),
        /// Limit of the first random delay between attempts to connect, in seconds.
        reconnect_min_s: u32 = 1 => Rule::Whole(1, 3600),
        /// Limit of the longest delay, in seconds.
        ///
        /// A fleet of thousands then doesn't overrun a broker that comes back.
        reconnect_max_s: u32 = 128 => Rule::Whole(0, 3600),
        /// Messages that may wait for the broker's acknowledgement at the same time.
        ///
        /// 16 are below the 20 that mosquitto takes at once in MQTT 5.
        max_inflight: u16 = 16 => Rule::Whole(1, 200),
        /// Messages that wait on disk for the broker. Beyond, the oldest events are dropped and
        /// counted.
        ///
        /// 10000 are weeks of events.
        max_outbox_messages: u32 = 10_000 => Rule::Whole(100, 1_000_000),
        /// Size of these messages, in MiB.
        max_outbox_mib: u32 = 8 => Rule::Whole(1, 1024),
        /// Progress messages that wait in memory while the broker is away. Beyond, the oldest are
        /// dropped and counted. 0: all.
        max_waiting_progress: u32 = 64 => Rule::Whole(0, 10_000),
        /// How often the state is reported when nothing changes, in seconds.
        ///
        /// A page that shows the fleet takes a device for silent after a few of these.
        state_every_s: u32 = 60 => Rule::Whole(5, 86_400),
        /// Ed25519 public keys of those who may give commands, each a PEM file or 32 bytes in base64.
        /// Empty: no commands.
        operator_keys: Vec<String> = Vec::new() => Rule::Any,
        /// Take commands without a signature from anybody whom the broker lets publish them: for a
        /// closed test bench only.
        allow_unsigned: bool = false => Rule::Any,
        /// The topic below which Home Assistant looks for devices, as it is set there: homeassistant unless
        /// somebody has changed it. Empty: the device does not announce itself.
        ///
        /// The broker must let the device write to device/+/config below it and read status below it.
        home_assistant: String = String::new() => Rule::Custom(topic_prefix),
    }
    check MqttSettings::conflicts
}

fn one_line(value: Value<'_>) -> Option<String> {
    let Value::Text(text) = value else { return None };
    let is_odd = text.len() > 256 || text.chars().any(char::is_control);
    is_odd.then(|| "must be one line of at most 256 bytes".into())
}

fn topic_prefix(value: Value<'_>) -> Option<String> {
    let Value::Text(text) = value else { return None };
    let odd = |c: char| c.is_control() || matches!(c, '+' | '#');
    let is_odd = text.len() > 128
        || text.chars().any(odd)
        || text.starts_with(['/', '$'])
        || text.ends_with('/');
    is_odd.then(|| "must be a topic without + and #, such as homeassistant".into())
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl Broker {
    /// Reads `mqtt://host:port` or `mqtts://host:port`.
    ///
    /// # Errors
    /// A sentence: what is wrong and what it should look like.
    pub fn parse(url: &str) -> Result<Self, String> {
        let form = "it should be mqtt://host:port or mqtts://host:port";
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            _ => return Err(form.to_owned()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("name and password belong into username and password_file".to_owned());
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(form)?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#');
        if host.is_empty() || host.contains(odd) {
            return Err(form.to_owned());
        }
        let port = match port {
            None => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(format!("{port:?} is no port; {form}")),
                Ok(port) => port,
            },
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// Whether it is on this machine, as far as its name tells.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl MqttSettings {
    /// Whether there is a broker to speak to.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.broker.is_empty()
    }

    /// How to connect as `client_id`, with name and password if there are any: with a clean session and
    /// without a last will.
    ///
    /// # Errors
    /// A broker that is none, files that cannot be used.
    pub fn connect_options(
        &self,
        client_id: String,
        credentials: Option<(String, String)>,
    ) -> Result<ConnectOptions, ReportError> {
        let unusable = |why| ReportError::Setting { key: "broker", why };
        let broker = Broker::parse(&self.broker).map_err(unusable)?;
        let tls = if broker.tls { Some(tls::client_config(self)?) } else { None };
        Ok(ConnectOptions {
            broker,
            protocol: self.protocol,
            client_id,
            credentials,
            tls,
            keep_alive: Duration::from_secs(self.keep_alive_s.into()),
            clean: true,
            will: None,
            max_inflight: self.max_inflight,
        })
    }

    fn conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |bad: bool, field: &'static str, sentence: &str| {
            if bad {
                found.push((field, sentence.to_owned()));
            }
        };
        check(
            self.reconnect_max_s < self.reconnect_min_s,
            "reconnect_max_s",
            "is below reconnect_min_s: use at least that",
        );
        check(
            self.password_file.is_some() && self.username.is_empty(),
            "password_file",
            "needs a username",
        );
        check(
            self.cert_file.is_some() != self.key_file.is_some(),
            "cert_file",
            "and key_file go together: give both or neither",
        );
        if !self.is_on() {
            return found;
        }
        match Broker::parse(&self.broker) {
            Err(why) => found.push(("broker", format!("cannot be used: {why}"))),
            Ok(broker) => {
                for (field, file) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file)] {
                    if file.is_some() && !broker.tls {
                        found.push((field, "is for mqtts:// brokers only".into()));
                    }
                }
            }
        }
        found
    }

    /// The first of [`MqttSettings::problems`] as an error.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        match self.problems().into_iter().next() {
            Some((key, why)) => Err(ReportError::Setting { key, why }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_read() {
        let read = |url| Broker::parse(url).map(|b| (b.host, b.port, b.tls)).ok();
        let some = |host: &str, port, tls| Some((host.to_owned(), port, tls));
        assert_eq!(read("mqtt://broker"), some("broker", 1883, false));
        assert_eq!(read("mqtts://broker.example/"), some("broker.example", 8883, true));
        assert_eq!(read("mqtt://10.0.0.1:99"), some("10.0.0.1", 99, false));
        assert_eq!(read("mqtts://[::1]:99"), some("::1", 99, true));
        assert_eq!(read("mqtt://[::1]"), some("::1", 1883, false));
        let wrong = ["", "broker", "http://b", "mqtt://", "mqtt://b:0", "mqtt://b:x", "mqtt://b/c"];
        for url in
            wrong.iter().chain(&["mqtt://u:p@b", "mqtt://a b", "mqtt://[::1", "mqtt://b:70000"])
        {
            assert_eq!(read(url), None, "{url}");
        }
    }

    #[test]
    fn the_defaults_have_no_problems() {
        assert_eq!(MqttSettings::default().problems(), []);
        assert!(!MqttSettings::default().is_on());
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let settings = MqttSettings {
            broker: "mqtt://b".to_owned(),
            ca_file: Some("ca.pem".into()),
            keep_alive_s: 1,
            reconnect_min_s: 0,
            reconnect_max_s: 4000,
            max_inflight: 0,
            max_outbox_messages: 0,
            max_outbox_mib: 0,
            max_waiting_progress: 10_001,
            state_every_s: 0,
            client_id: "a\nb".to_owned(),
            password_file: Some("p".into()),
            key_file: Some("k".into()),
            ..MqttSettings::default()
        };
        let fields: Vec<_> = settings.problems().into_iter().map(|p| p.0).collect();
        assert_eq!(fields.len(), 12, "{fields:?}");
    }
}
