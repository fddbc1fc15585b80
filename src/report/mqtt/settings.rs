//! The settings of the connection to a broker, `[mqtt]` in the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::report::ReportError;

/// The protocol's version on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// MQTT 3.1.1, which every broker speaks.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5: expiry of sessions and commands, reasons for refusals.
    #[serde(rename = "5")]
    V5,
}

/// `[mqtt]`: whom to tell, and who may command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttSettings {
    /// The broker: `mqtt://host:port` or, with TLS, `mqtts://host:port`; ports 1883 and 8883 may be
    /// left out. Default empty: no broker, everything is told to the journal alone.
    pub broker: String,
    /// Version of the protocol, `"3.1.1"` (default, since every broker speaks it) or `"5"`.
    pub protocol: Protocol,
    /// Client id. Default empty: `latrod-<fleet>-<device>`. It must stay the same from start to
    /// start, for the broker keeps commands for it; no two devices may share one.
    pub client_id: String,
    /// User name at the broker. Default empty: none.
    pub username: String,
    /// File with the password; a line break at its end doesn't count. Read at every connection, so
    /// that it can be renewed. Default: none.
    pub password_file: Option<PathBuf>,
    /// PEM file with the certificates to trust. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the device's own certificate, for brokers that ask for one. Default: none.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of `cert_file`. Default: none.
    pub key_file: Option<PathBuf>,
    /// How often an idle connection is checked. Default 30: the fleet sees a device that lost its
    /// power as offline after 45 s, for some 10 bytes per minute.
    pub keep_alive_s: u16,
    /// Limit of the first delay between attempts to connect. Default 1.
    pub reconnect_min_s: u32,
    /// Limit of the longest delay. Default 128: a fleet of thousands doesn't overrun a broker that
    /// comes back.
    pub reconnect_max_s: u32,
    /// Messages on their way to the broker without its acknowledgement. Default 16, below the 20
    /// that mosquitto takes at once by MQTT 5.
    pub max_inflight: u16,
    /// Messages that wait for the broker on disk; beyond, the oldest events are dropped and
    /// counted. Default 10000: weeks of events.
    pub max_outbox_messages: u32,
    /// Size of these messages. Default 8.
    pub max_outbox_mib: u32,
    /// Progress messages that wait in memory while the broker is away; beyond, the oldest are
    /// dropped and counted. Default 64. 0 drops all of them at once.
    pub max_waiting_progress: u32,
    /// How often the state is told when nothing changes. Default 60. A page that shows the fleet
    /// takes a device for silent after a few of these.
    pub state_every_s: u32,
    /// Public keys of those who may give commands: Ed25519, each a PEM file or 32 bytes in base64.
    /// Default none: no command is taken.
    pub operator_keys: Vec<String>,
    /// Takes commands without a signature, from anybody whom the broker lets publish them. Default
    /// false; for a closed test bench only.
    pub allow_unsigned: bool,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            broker: String::new(),
            protocol: Protocol::default(),
            client_id: String::new(),
            username: String::new(),
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            keep_alive_s: 30,
            reconnect_min_s: 1,
            reconnect_max_s: 128,
            max_inflight: 16,
            max_outbox_messages: 10_000,
            max_outbox_mib: 8,
            max_waiting_progress: 64,
            state_every_s: 60,
            operator_keys: Vec::new(),
            allow_unsigned: false,
        }
    }
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

    /// Values that cannot be used: the field's name and a sentence. Files are not looked at.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut check = |field: &'static str, bad: bool, why: &str| {
            if bad {
                found.push((field, why.to_owned()));
            }
        };
        check("keep_alive_s", !(5..=3600).contains(&self.keep_alive_s), "it should be 5 to 3600");
        check("reconnect_min_s", self.reconnect_min_s == 0, "it should be at least 1");
        check(
            "reconnect_max_s",
            self.reconnect_max_s < self.reconnect_min_s || self.reconnect_max_s > 3600,
            "it should be at least reconnect_min_s and at most 3600",
        );
        check("max_inflight", !(1..=200).contains(&self.max_inflight), "it should be 1 to 200");
        check(
            "max_outbox_messages",
            !(100..=1_000_000).contains(&self.max_outbox_messages),
            "it should be 100 to 1000000",
        );
        check(
            "max_outbox_mib",
            !(1..=1024).contains(&self.max_outbox_mib),
            "it should be 1 to 1024",
        );
        check(
            "max_waiting_progress",
            self.max_waiting_progress > 10_000,
            "it should be at most 10000",
        );
        check(
            "state_every_s",
            !(5..=86_400).contains(&self.state_every_s),
            "it should be 5 to 86400",
        );
        let odd_id = self.client_id.len() > 256 || self.client_id.chars().any(char::is_control);
        check("client_id", odd_id, "it should be one line of at most 256 bytes");
        check(
            "password_file",
            self.password_file.is_some() && self.username.is_empty(),
            "a password needs a username",
        );
        check(
            "cert_file",
            self.cert_file.is_some() != self.key_file.is_some(),
            "cert_file and key_file go together",
        );
        if self.is_on() {
            match Broker::parse(&self.broker) {
                Err(why) => found.push(("broker", why)),
                Ok(broker) if !broker.tls => {
                    for (field, file) in
                        [("ca_file", &self.ca_file), ("cert_file", &self.cert_file)]
                    {
                        if file.is_some() {
                            found.push((field, "it is for mqtts:// brokers only".to_owned()));
                        }
                    }
                }
                Ok(_) => {}
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
