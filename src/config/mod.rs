//! The daemon's configuration: one TOML file to typed, checked settings, with all errors at once.
//!
//! Each section's settings belong to the module that uses them; here they are put together, read
//! (`document`), and checked against each other (`checks`). Knows nothing of what a setting
//! does. What is legal but probably wrong is a [`warnings::Warning`], never an error.
//!
//! ```text
//!  file ─► bytes ─► spanned document ─► typed settings ─► problems of each section ─► cross-checks
//!                       │  syntax            │ a wrong key is noted, taken out, and it goes on
//!                       └────────────────────┴──────────► ConfigErrors, in the file's order
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::intake::SpoolSettings;
use crate::latro::settings::TrainSettings;
use crate::promotion::gate::GateSettings;
use crate::report::mqtt::MqttSettings;
use crate::settings::Settings;
use crate::store::versions::VersionSettings;

mod checks;
#[cfg(feature = "operator")]
pub mod dashboard;
mod document;
pub mod error;
mod keys;
mod messages;
pub mod reference;
pub mod sections;
mod suggest;
pub mod warnings;

pub use crate::system::secret::{Secret, SecretError};
use keys::Keys;

pub use error::{ConfigError, ConfigErrors};
pub use sections::hook::HookSettings;
pub use sections::idle::ActivitySettings;
pub use sections::{ComputeSettings, CycleSettings, DeviceSettings, StatusSettings};

/// Everything that `latrod run` is told.
///
/// A missing key takes its default, an unknown one is refused. Paths are absolute, because a service
/// has no working folder of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The GGUF model that is adapted. There is no default.
    pub model: PathBuf,
    /// The folder of everything that the daemon keeps: tasks, checkpoints, adapters, its ledger.
    /// Default `/var/lib/latrod`, which is what systemd's `StateDirectory=latrod` makes.
    pub state_dir: PathBuf,
    /// Who this device is.
    pub device: DeviceSettings,
    /// When a cycle of learning begins and how much it works on.
    pub cycle: CycleSettings,
    /// The learner's own settings, those of `latrod train`.
    pub learn: TrainSettings,
    /// How the worker computes, and with how much of the device.
    pub compute: ComputeSettings,
    /// Where tasks come from, and how many are kept.
    pub tasks: SpoolSettings,
    /// When the device is idle, cool and powered enough.
    pub idle: ActivitySettings,
    /// What a candidate must show to be promoted.
    pub promotion: GateSettings,
    /// How many promoted adapters are kept, and who may read them.
    pub adapters: VersionSettings,
    /// The broker, and who may command.
    pub mqtt: MqttSettings,
    /// What runs after a promotion or a rollback.
    pub hook: HookSettings,
    /// Where `latrod status` finds the daemon.
    pub status: StatusSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            state_dir: "/var/lib/latrod".into(),
            device: DeviceSettings::default(),
            cycle: CycleSettings::default(),
            learn: TrainSettings::default(),
            compute: ComputeSettings::default(),
            tasks: SpoolSettings::default(),
            idle: ActivitySettings::default(),
            promotion: GateSettings::default(),
            adapters: VersionSettings::default(),
            mqtt: MqttSettings::default(),
            hook: HookSettings::default(),
            status: StatusSettings::default(),
        }
    }
}

/// Something that looks at every section of a configuration.
trait Visit {
    fn section<S: Settings + Serialize>(&mut self, name: &'static str, settings: &S);
}

/// A configuration: keys at the top of the file, and sections.
trait Sections: Default + DeserializeOwned {
    /// The keys before all sections.
    const TOP: &'static [&'static str];

    /// Shows every section, in the order of the reference file.
    fn visit(&self, visitor: &mut impl Visit);

    /// Reports what sections cannot say of themselves.
    fn check_across(&self, document: &mut document::Document<'_>);

    /// Reads and checks a text; `path` is what errors name.
    fn of_text(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut document = document::Document::parse(text);
        if let Some(config) = document.settings::<Self>(&Keys::of::<Self>()) {
            checks::check(&config, &mut document);
            if document.is_clean() {
                return Ok(config);
            }
        }
        Err(document.into_errors(path))
    }

    /// Reads and checks a file of at most 1 MiB.
    fn of_file(path: &Path) -> Result<Self, ConfigErrors> {
        let text = document::read(path).map_err(|e| ConfigErrors::of_file(path, e))?;
        Self::of_text(path, &text)
    }
}

impl Sections for Config {
    const TOP: &'static [&'static str] = &["model", "state_dir"];

    fn visit(&self, visitor: &mut impl Visit) {
        visitor.section("device", &self.device);
        visitor.section("cycle", &self.cycle);
        visitor.section("learn", &self.learn);
        visitor.section("compute", &self.compute);
        visitor.section("tasks", &self.tasks);
        visitor.section("idle", &self.idle);
        visitor.section("promotion", &self.promotion);
        visitor.section("adapters", &self.adapters);
        visitor.section("mqtt", &self.mqtt);
        visitor.section("hook", &self.hook);
        visitor.section("status", &self.status);
    }

    fn check_across(&self, document: &mut document::Document<'_>) {
        checks::across(self, document);
    }
}

impl Config {
    /// Reads and checks the file at `path`, of at most 1 MiB.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once, in the file's order. After a syntax error nothing
    /// further is checked, and [`ConfigErrors::complete`] says so.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::of_file(path)
    }

    /// As [`Self::load`], from text; `path` is what errors name.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        Self::of_text(path, text)
    }

    /// These settings with some others over them, by dotted name: `idle.max_celsius`. The value is
    /// TOML; what is none is taken for text. Only what an operator may change from afar: nothing
    /// that names files, programs, brokers or who may command.
    ///
    /// # Errors
    /// A sentence: no such setting, not from afar, or a value that cannot be used.
    pub fn with(&self, settings: &BTreeMap<String, String>) -> Result<Self, String> {
        if settings.is_empty() {
            return Ok(self.clone());
        }
        let text = toml::to_string(self).map_err(|e| e.to_string())?;
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        for (key, value) in settings {
            set_from_afar(&mut table, key, value)?;
        }
        let text = toml::to_string(&table).map_err(|e| e.to_string())?;
        Self::parse(Path::new("settings"), &text).map_err(|errors| {
            let sentences: Vec<String> =
                errors.errors.iter().map(|e| format!("{} {}", e.key, e.sentence)).collect();
            sentences.join("; ")
        })
    }

    /// The password for the broker, from one of the places that [`crate::system::secret`] lists; `Ok(None)` if
    /// there is none.
    ///
    /// # Errors
    /// If a place has it and it cannot be used.
    pub fn mqtt_password(&self) -> Result<Option<Secret>, SecretError> {
        let file = self.mqtt.password_file.as_deref();
        Secret::find(crate::system::secret::MQTT_PASSWORD, file.unwrap_or(Path::new("")))
    }
}

/// What may be set from afar: whole sections, and single keys of others.
const FROM_AFAR: [&str; 9] = [
    "cycle.",
    "learn.",
    "compute.",
    "promotion.",
    "idle.",
    "adapters.keep_",
    "tasks.max_",
    "tasks.settle_s",
    "tasks.held_out_share",
];

fn set_from_afar(table: &mut toml::Table, key: &str, value: &str) -> Result<(), String> {
    let names_files = ["idle.inhibit_paths", "promotion.general_prompts"].contains(&key);
    if names_files || !FROM_AFAR.iter().any(|prefix| key.starts_with(prefix)) {
        return Err(format!("{key} cannot be set from afar"));
    }
    let unknown = || format!("there is no setting {key}");
    let (section, name) = key.split_once('.').ok_or_else(unknown)?;
    let section = table.get_mut(section).and_then(toml::Value::as_table_mut).ok_or_else(unknown)?;
    let slot = section.get_mut(name).ok_or_else(unknown)?;
    *slot = match value.parse::<toml::Value>().ok() {
        // Whole numbers are as good where fractions are allowed.
        Some(toml::Value::Integer(n)) if slot.is_float() => toml::Value::Float(n as f64),
        Some(value) => value,
        None => toml::Value::String(value.to_owned()),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
