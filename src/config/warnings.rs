//! Settings that are valid but probably wrong on this device, as it is now.
//!
//! None of them keeps the daemon from starting: a model may arrive later, a disk may be mounted later.

use std::path::Path;

use rustix::fs::Access;
use serde::Serialize;

use super::Config;
use crate::report::mqtt::Broker;

/// A setting that is probably wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The key's path, for example `model`.
    pub key: &'static str,
    /// What is probably wrong, and what to do if it is.
    pub sentence: String,
}

impl Warning {
    fn new(key: &'static str, sentence: impl Into<String>) -> Self {
        Self { key, sentence: sentence.into() }
    }
}

/// Everything that is probably wrong with `config` on this device.
#[must_use]
pub fn warnings(config: &Config) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(model(&config.model));
    found.extend(state(&config.state_dir));
    found.extend(spool(&config.tasks.folder));
    found.extend(device(config));
    broker(config, &mut found);
    found
}

fn model(path: &Path) -> Option<Warning> {
    let shown = path.display();
    let sentence = match std::fs::metadata(path) {
        Ok(about) if about.is_file() => return None,
        Ok(_) => format!("{shown} is not a regular file: the daemon waits for a GGUF file"),
        Err(e) => format!("{shown} cannot be opened ({e}): the daemon waits until it can"),
    };
    Some(Warning::new("model", sentence))
}

fn state(path: &Path) -> Option<Warning> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => None,
        Ok(_) => Some(Warning::new(
            "state_dir",
            format!("{shown} is not a folder: nothing can be saved"),
        )),
        // systemd makes the folder, and so does the daemon where it may.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => Some(Warning::new("state_dir", format!("{shown} cannot be opened: {e}"))),
    }
}

fn spool(path: &Path) -> Option<Warning> {
    let shown = path.display();
    let sentence = match std::fs::metadata(path) {
        Ok(about) if !about.is_dir() => format!("{shown} is not a folder: no tasks can arrive"),
        Ok(_) => {
            rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err()?;
            format!(
                "this user may not remove files from {shown}: run this check as the daemon's user, or \
                 change the folder's group"
            )
        }
        Err(e) => format!("{shown} cannot be opened ({e}): no tasks can arrive"),
    };
    Some(Warning::new("tasks.folder", sentence))
}

fn broker(config: &Config, found: &mut Vec<Warning>) {
    let mqtt = &config.mqtt;
    let Ok(broker) = Broker::parse(&mqtt.broker) else {
        // Checked settings name either no broker or a valid one.
        return;
    };
    if !broker.tls && !broker.is_local() {
        let sentence = format!(
            "{} is another machine and the connection has no TLS: anyone on the network path can \
             read and change what is sent, the password included; use mqtts://",
            broker.host
        );
        found.push(Warning::new("mqtt.broker", sentence));
    }
    if mqtt.allow_unsigned {
        let sentence = "anyone whom the broker lets publish can command this device: use this only on a \
                        closed test bench";
        found.push(Warning::new("mqtt.allow_unsigned", sentence));
    } else if mqtt.operator_keys.is_empty() {
        let sentence = "no key is given, so every command will be refused";
        found.push(Warning::new("mqtt.operator_keys", sentence));
    }
    match config.mqtt_password() {
        Err(e) => found.push(Warning::new("mqtt.password_file", e.to_string())),
        Ok(None) if !mqtt.username.is_empty() => {
            let sentence = "there is a username but no password: set password_file, \
                            LATROD_MQTT_PASSWORD or the credential mqtt-password";
            found.push(Warning::new("mqtt.password_file", sentence));
        }
        Ok(_) => {}
    }
    let files = [
        ("mqtt.ca_file", &mqtt.ca_file),
        ("mqtt.cert_file", &mqtt.cert_file),
        ("mqtt.key_file", &mqtt.key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file
            && let Err(e) = std::fs::File::open(file)
        {
            found.push(Warning::new(key, format!("{} cannot be opened: {e}", file.display())));
        }
    }
}

fn device(config: &Config) -> Option<Warning> {
    let name = config.device.resolved_name();
    let alike = ["localhost", "raspberrypi", "ubuntu", "debian", "tegra-ubuntu", "jetson", "linux"];
    let is_given = !config.device.name.is_empty();
    (!is_given && alike.contains(&name.as_str())).then(|| {
        Warning::new(
            "device.name",
            format!("many devices have the host name {name}: choose a name"),
        )
    })
}
