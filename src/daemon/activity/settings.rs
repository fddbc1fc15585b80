//! What counts as idle, cool and powered: the settings of this folder, and the check of them all.
//!
//! Knows nothing of files under `/proc` and `/sys`; whether a limit can be measured at all shows
//! when the device is sampled.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::windows::Window;

/// Which people at the device keep it from training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// Nobody: people are not looked at. For servers and devices that log themselves in.
    Ignore,
    /// Those who use it: a key pressed at a terminal within `users_idle_after_s`, or a graphical
    /// session in the foreground of a screen that is on.
    Active,
    /// Everyone who is logged in, whatever they do.
    Any,
}

/// The limits within which the device is free for training.
///
/// Every limit is judged only where the device can measure it: a Raspberry Pi whose kernel has
/// pressure information switched off trains by its CPU load alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivitySettings {
    /// The device must have been quiet for this long, in seconds, before training starts. Default
    /// 120: long enough that a pause between two requests is not taken for an idle device.
    pub idle_after_s: u64,
    /// A noisy measure (CPU, GPU, pressure) must stay over its limit for this long, in seconds,
    /// until it counts. Default 2: one burst of a timer job neither ends training nor starts the
    /// wait of `idle_after_s` anew; 0 takes every sample at its word. People, inhibit files, heat
    /// and power always count at once.
    pub busy_after_s: u64,
    /// CPU time of other processes, in percent of all cores, above which training does not start.
    /// Default 20; 0: not judged.
    pub max_cpu_percent: f64,
    /// The same limit while training, above which training yields. Default 30: above the limit
    /// for starting, so that a load at the edge does not make training come and go. 0: not judged.
    pub max_cpu_training_percent: f64,
    /// Share of the last 10 s in which some process waited for a CPU, in percent, above which
    /// training does not start. Default 10; 0: not judged. Reported but never judged while
    /// training, because the worker waits for CPUs too.
    pub max_cpu_pressure_percent: f64,
    /// Share of the last 10 s in which some process waited for disks, in percent, above which
    /// training does not start. Default 30; 0: not judged. Reported but never judged while
    /// training, because the worker reads its model from the same disks.
    pub max_io_pressure_percent: f64,
    /// Share of the last 10 s in which some process waited for memory, in percent, above which
    /// memory counts as short. Default 10; 0: not judged.
    pub max_memory_pressure_percent: f64,
    /// Memory that must stay available to other programs, in MiB. Default 256; 0: not judged.
    pub min_free_memory_mib: u64,
    /// Load of the GPU, in percent, above which the device is busy. Default 20; 0: not judged.
    /// Measured on Jetson and amdgpu. Not judged while training on that GPU, because the kernel
    /// does not say whose load it is.
    pub max_gpu_percent: f64,
    /// Temperature of the hottest sensor, in °C, above which training stops. Default 80: below where
    /// kernels of the usual boards throttle (85 on a Raspberry Pi 5, 99 on a Jetson Orin). 0: not
    /// judged.
    pub max_celsius: f64,
    /// Temperature, in °C, down to which a device that was too hot must cool. Default 70.
    pub resume_celsius: f64,
    /// Names of sensors that are not looked at (a thermal zone's `type`, or the `name` of a hwmon
    /// chip). Default: `PMIC-Die` and `thermal-fan-est`, which on older Jetsons show constants,
    /// and `nvme` and `drivetemp`, whose reading can keep a drive from sleeping.
    pub ignore_sensors: Vec<String>,
    /// Whether a device with a battery trains on mains power alone. Default true. Without a
    /// battery it has no effect.
    pub require_mains: bool,
    /// Charge of the battery, in percent, below which training stops, on mains too. Default 20;
    /// 0: not judged.
    pub min_battery_percent: f64,
    /// Which people at the device keep it from training. Default `active`.
    pub users: Users,
    /// How long nothing must have been typed at a terminal, in seconds, until the person there
    /// counts as away. Default 600.
    pub users_idle_after_s: u64,
    /// Files whose existence keeps the device from training, and folders in which any entry does.
    /// Absolute paths. Default: none.
    pub inhibit_paths: Vec<PathBuf>,
    /// Whether programs that ask systemd to keep the device from idling (a presentation, a film,
    /// `systemd-inhibit --what=idle`) are listened to. Default true.
    pub systemd_inhibitors: bool,
    /// When training is allowed, in local time: `"22:00-06:00"`, `"Sat,Sun 00:00-24:00"`,
    /// `"Mon-Fri 19:30-07:00"` (the days on which it begins). Default: none, which is always.
    pub windows: Vec<String>,
    /// Space that must stay free on the disk of the state folder, in MiB. Default 1024; 0: not
    /// judged.
    pub min_free_disk_mib: u64,
    /// The same as a share of that disk, in percent. Default 2; 0: not judged.
    pub min_free_disk_percent: f64,
}

impl Default for ActivitySettings {
    fn default() -> Self {
        Self {
            idle_after_s: 120,
            busy_after_s: 2,
            max_cpu_percent: 20.0,
            max_cpu_training_percent: 30.0,
            max_cpu_pressure_percent: 10.0,
            max_io_pressure_percent: 30.0,
            max_memory_pressure_percent: 10.0,
            min_free_memory_mib: 256,
            max_gpu_percent: 20.0,
            max_celsius: 80.0,
            resume_celsius: 70.0,
            ignore_sensors: ["PMIC-Die", "thermal-fan-est", "nvme", "drivetemp"]
                .map(String::from)
                .to_vec(),
            require_mains: true,
            min_battery_percent: 20.0,
            users: Users::Active,
            users_idle_after_s: 600,
            inhibit_paths: Vec::new(),
            systemd_inhibitors: true,
            windows: Vec::new(),
            min_free_disk_mib: 1024,
            min_free_disk_percent: 2.0,
        }
    }
}

/// The longest time that a setting may ask for, in seconds: a week.
const MAX_WAIT_S: u64 = 7 * 24 * 3600;
/// The longest list that a setting may hold.
const MAX_ENTRIES: usize = 64;

impl ActivitySettings {
    /// Name and sentence for each value that cannot be used; empty if all can.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for (name, value) in [
            ("idle_after_s", self.idle_after_s),
            ("busy_after_s", self.busy_after_s),
            ("users_idle_after_s", self.users_idle_after_s),
        ] {
            if value > MAX_WAIT_S {
                found.push((name, format!("{value} s is more than a week ({MAX_WAIT_S} s)")));
            }
        }
        for (name, value) in [
            ("max_cpu_percent", self.max_cpu_percent),
            ("max_cpu_training_percent", self.max_cpu_training_percent),
            ("max_cpu_pressure_percent", self.max_cpu_pressure_percent),
            ("max_io_pressure_percent", self.max_io_pressure_percent),
            ("max_memory_pressure_percent", self.max_memory_pressure_percent),
            ("max_gpu_percent", self.max_gpu_percent),
            ("min_battery_percent", self.min_battery_percent),
            ("min_free_disk_percent", self.min_free_disk_percent),
        ] {
            if !(0.0..=100.0).contains(&value) {
                found.push((name, format!("{value} is not a share from 0 to 100 percent")));
            }
        }
        let judged_both = self.max_cpu_percent > 0.0 && self.max_cpu_training_percent > 0.0;
        if judged_both && self.max_cpu_training_percent < self.max_cpu_percent {
            found.push((
                "max_cpu_training_percent",
                format!(
                    "{} is below max_cpu_percent ({}): training would end where it may start",
                    self.max_cpu_training_percent, self.max_cpu_percent
                ),
            ));
        }
        if !(0.0..=125.0).contains(&self.max_celsius) {
            found.push(("max_celsius", format!("{} is not from 0 to 125 °C", self.max_celsius)));
        }
        // Written so that NaN is a problem too.
        let cools_down = self.resume_celsius >= -40.0 && self.resume_celsius < self.max_celsius;
        if self.max_celsius > 0.0 && !cools_down {
            found.push((
                "resume_celsius",
                format!(
                    "{} is not from -40 °C to below max_celsius ({})",
                    self.resume_celsius, self.max_celsius
                ),
            ));
        }
        for (name, length) in [
            ("ignore_sensors", self.ignore_sensors.len()),
            ("inhibit_paths", self.inhibit_paths.len()),
            ("windows", self.windows.len()),
        ] {
            if length > MAX_ENTRIES {
                found.push((name, format!("{length} entries are more than {MAX_ENTRIES}")));
            }
        }
        for path in self.inhibit_paths.iter().filter(|path| !path.is_absolute()) {
            found.push(("inhibit_paths", format!("{} is not an absolute path", path.display())));
        }
        for text in &self.windows {
            if let Err(problem) = text.parse::<Window>() {
                found.push(("windows", problem.to_string()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(settings: &ActivitySettings) -> Vec<&'static str> {
        settings.problems().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(ActivitySettings::default().problems(), []);
    }

    #[test]
    fn every_value_that_cannot_be_used_is_named() {
        let settings = ActivitySettings {
            idle_after_s: u64::MAX,
            max_cpu_percent: 50.0,
            max_cpu_training_percent: 40.0,
            max_gpu_percent: f64::NAN,
            min_battery_percent: 101.0,
            max_celsius: 60.0,
            resume_celsius: 60.0,
            inhibit_paths: vec![PathBuf::from("busy")],
            windows: vec!["25:00-26:00".into(), "22:00-06:00".into()],
            ..ActivitySettings::default()
        };
        assert_eq!(
            names(&settings),
            [
                "idle_after_s",
                "max_gpu_percent",
                "min_battery_percent",
                "max_cpu_training_percent",
                "resume_celsius",
                "inhibit_paths",
                "windows"
            ]
        );
    }

    #[test]
    fn a_limit_that_is_off_is_no_problem() {
        let settings = ActivitySettings {
            max_cpu_training_percent: 0.0,
            max_celsius: 0.0,
            ..ActivitySettings::default()
        };
        assert_eq!(names(&settings), [""; 0]);
    }

    #[test]
    fn settings_come_from_toml_and_unknown_names_are_refused() {
        let read: ActivitySettings =
            toml::from_str("max_cpu_percent = 5\nusers = \"any\"\nwindows = [\"22:00-06:00\"]")
                .expect("three known settings");
        let expected = ActivitySettings {
            max_cpu_percent: 5.0,
            users: Users::Any,
            windows: vec!["22:00-06:00".into()],
            ..ActivitySettings::default()
        };
        assert_eq!(read, expected);
        assert!(toml::from_str::<ActivitySettings>("max_cpu = 5").is_err());
    }
}
