//! The file's settings with the operator's over them, and how both change while the daemon runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Driver;
use crate::config::Config;
use crate::daemon::faults::FaultKind;

/// How the daemon is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The file that [`Config`] was read from, to be read again on a reload.
    pub config_path: PathBuf,
    /// What it says.
    pub config: Config,
    /// The folder that `/proc`, `/sys` and `/run` lie in.
    pub root: PathBuf,
}

/// The daemon's settings.
pub(super) struct Settings {
    start: Start,
    /// The file's settings with the operator's over them.
    pub effective: Config,
}

impl Settings {
    pub fn new(start: Start) -> Self {
        Self { effective: start.config.clone(), start }
    }

    /// How long a worker may rest before it is ended.
    pub const fn unload_after(&self) -> Duration {
        Duration::from_secs(self.effective.compute.unload_after_s)
    }

    /// The file's settings with these over them.
    pub fn with(&self, overrides: &BTreeMap<String, String>) -> Result<Config, String> {
        self.start.config.with(overrides)
    }
}

impl Driver {
    /// Works with the operator's settings over the file's.
    pub(super) fn apply_settings(&mut self) {
        let config = match self.settings.with(&self.operator.state().settings) {
            Ok(config) => config,
            Err(why) => {
                log::error!(event = "settings_refused"; "the operator's settings don't fit the file's any more: {why}");
                self.settings.start.config.clone()
            }
        };
        self.use_config(config);
    }

    /// Works with other settings from now on.
    fn use_config(&mut self, config: Config) {
        let before = std::mem::replace(&mut self.settings.effective, config);
        let config = self.settings.effective.clone();
        if config.idle != before.idle {
            let (root, state) = (self.settings.start.root.clone(), config.state_dir.clone());
            if let Err(error) = self.watch.use_settings(config.idle.clone(), root, state) {
                log::error!("[idle] stays as it was: {error}");
            }
        }
        self.scheduler.set_unload_after(self.settings.unload_after());
        self.storage.set_tasks(config.tasks.clone());
        let reload = config.model != before.model || config.compute != before.compute;
        if reload {
            self.supervisor.kill(self.pace.now());
        }
        if reload || config.learn != before.learn {
            self.mend(FaultKind::Settings);
        }
        if self.storage.set_adapters(config.adapters) {
            self.open_storage();
        }
    }

    /// Reads the configuration again; one that cannot be used changes nothing.
    pub(super) fn reload(&mut self) {
        self.channels.manager.reloading();
        match Config::load(&self.settings.start.config_path) {
            Ok(config) => {
                let fixed = |c: &Config| (c.state_dir.clone(), c.device.clone(), c.mqtt.clone());
                if fixed(&config) != fixed(&self.settings.start.config) {
                    log::warn!("state_dir, [device] and [mqtt] take effect at the next start");
                }
                self.settings.start.config = config;
                self.apply_settings();
                self.mend(FaultKind::Settings);
                log::info!(event = "reloaded"; "the configuration was read again");
            }
            Err(errors) => {
                log::error!(event = "reload_failed"; "the configuration stays as it was: {errors}");
            }
        }
        self.channels.manager.ready();
    }
}
