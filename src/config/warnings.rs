//! What is legal and probably wrong, seen from this device and this moment.
//!
//! None of it keeps the daemon from starting: a model may come later, a disk may be mounted later.

use std::path::Path;

use rustix::fs::Access;
use serde::Serialize;

use super::Config;
use crate::report::mqtt::Broker;

/// Something to look at.
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
        Ok(_) => format!("{shown} is no file: the daemon waits until there is a GGUF file"),
        Err(e) => format!("{shown} cannot be opened ({e}): the daemon waits until it can"),
    };
    Some(Warning::new("model", sentence))
}

fn state(path: &Path) -> Option<Warning> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => None,
        Ok(_) => {
            Some(Warning::new("state_dir", format!("{shown} is no folder: nothing can be kept")))
        }
        // systemd makes the folder, and so does the daemon where it may.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => Some(Warning::new("state_dir", format!("{shown} cannot be opened: {e}"))),
    }
}

fn spool(path: &Path) -> Option<Warning> {
    let shown = path.display();
    let sentence = match std::fs::metadata(path) {
        Ok(about) if !about.is_dir() => format!("{shown} is no folder: no task can arrive"),
        Ok(_) => {
            rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err()?;
            format!(
                "this user may not take files out of {shown}: check as the user that the daemon \
                 runs as, or change the folder's group"
            )
        }
        Err(e) => format!("{shown} cannot be opened ({e}): no task can arrive"),
    };
    Some(Warning::new("tasks.folder", sentence))
}

fn broker(config: &Config, found: &mut Vec<Warning>) {
    let mqtt = &config.mqtt;
    let Ok(broker) = Broker::parse(&mqtt.broker) else {
        // Settings that were checked have either none or one that can be read.
        return;
    };
    if !broker.tls && !broker.is_local() {
        let sentence = format!(
            "{} is another machine and the connection has no TLS: everyone on the way can read it, \
             the password too, and change it; use mqtts://",
            broker.host
        );
        found.push(Warning::new("mqtt.broker", sentence));
    }
    if mqtt.allow_unsigned {
        let sentence = "anybody whom the broker lets publish may command this device: for a closed \
                        test bench only";
        found.push(Warning::new("mqtt.allow_unsigned", sentence));
    } else if mqtt.operator_keys.is_empty() {
        let sentence = "none is given, so that every command will be refused";
        found.push(Warning::new("mqtt.operator_keys", sentence));
    }
    match config.mqtt_password() {
        Err(e) => found.push(Warning::new("mqtt.password_file", e.to_string())),
        Ok(None) if !mqtt.username.is_empty() => {
            let sentence = "there is a username and no password: not in password_file, not in \
                            LATROD_MQTT_PASSWORD, not in the credential mqtt-password";
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
            format!("the host name, {name}, is one that many devices have: give a name"),
        )
    })
}
