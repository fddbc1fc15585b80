//! `[idle]`: what counts as idle, cool and powered.
//!
//! Whether a limit can be measured at all shows when the device is sampled.

use std::path::PathBuf;

use crate::config::sections::windows::Window;
use crate::settings::{Problem, Rule, choices, settings};

choices! {
    /// Which people at the device keep it from training.
    pub enum Users {
        /// Nobody: people are not looked at. For servers and devices that log themselves in.
        Ignore = "ignore",
        /// Those who use it: a key pressed at a terminal within users_idle_after_s, or a graphical
        /// session in the foreground of a screen that is on.
        Active = "active",
        /// Everyone who is logged in, whatever they do.
        Any = "any",
    }
}

/// The longest time that a setting may ask for, in seconds: a week.
const WEEK_S: u64 = 7 * 24 * 3600;
const PERCENT: Rule = Rule::Number(0.0, 100.0);
const SECONDS: Rule = Rule::Whole(0, WEEK_S);
const LIST: Rule = Rule::Entries(64);

settings! {
    /// When the device is idle, cool and powered.
    ///
    /// Every limit is judged only where the device can measure it: a Raspberry Pi whose kernel has
    /// pressure information switched off trains by its CPU load alone.
    pub struct ActivitySettings {
        /// How long the device must have been quiet before training starts, in seconds.
        ///
        /// Long enough that a pause between two requests is not taken for an idle device.
        idle_after_s: u64 = 120 => SECONDS,
        /// How long a noisy measure (CPU, GPU, pressure) must stay over its limit before it counts,
        /// in seconds.
        ///
        /// So one burst of a timer job neither ends training nor restarts the wait of
        /// `idle_after_s`; 0 takes every sample at its word. People, inhibit files, heat and power
        /// always count at once.
        busy_after_s: u64 = 2 => SECONDS,
        /// CPU time of other processes, in percent of all cores, above which training does not
        /// start. 0: not judged.
        max_cpu_percent: f64 = 20.0 => PERCENT,
        /// The same limit while training, above which training yields. 0: not judged.
        ///
        /// Above the limit for starting, so that a load at the edge does not make training come and
        /// go.
        max_cpu_training_percent: f64 = 30.0 => PERCENT,
        /// Share of the last 10 s in which some process waited for a CPU, in percent, above which
        /// training does not start. 0: not judged.
        ///
        /// Reported but never judged while training, because the worker waits for CPUs too.
        max_cpu_pressure_percent: f64 = 10.0 => PERCENT,
        /// Share of the last 10 s in which some process waited for disks, in percent, above which
        /// training does not start. 0: not judged.
        ///
        /// Reported but never judged while training, because the worker reads its model from the
        /// same disks.
        max_io_pressure_percent: f64 = 30.0 => PERCENT,
        /// Share of the last 10 s in which some process waited for memory, in percent, above which
        /// memory counts as short. 0: not judged.
        max_memory_pressure_percent: f64 = 10.0 => PERCENT,
        /// Memory that must stay available to other programs, in MiB. 0: not judged.
        min_free_memory_mib: u64 = 256 => Rule::Any,
        /// Load of the GPU, in percent, above which the device is busy. 0: not judged.
        ///
        /// Measured on Jetson and amdgpu. Not judged while training on that GPU, because the kernel
        /// does not say whose load it is.
        max_gpu_percent: f64 = 20.0 => PERCENT,
        /// Temperature of the hottest sensor, in °C, above which training stops. 0: not judged.
        ///
        /// 80 is below where kernels of the usual boards throttle (85 on a Raspberry Pi 5, 99 on a
        /// Jetson Orin).
        max_celsius: f64 = 80.0 => Rule::Number(0.0, 125.0),
        /// Temperature, in °C, to which a device that was too hot must cool before training resumes.
        resume_celsius: f64 = 70.0 => Rule::Any,
        /// Sensors that are not looked at, by a thermal zone's `type` or the `name` of a hwmon chip.
        ///
        /// PMIC-Die and thermal-fan-est show constants on older Jetsons; reading nvme and drivetemp
        /// can keep a drive from sleeping.
        ignore_sensors: Vec<String> = ["PMIC-Die", "thermal-fan-est", "nvme", "drivetemp"]
            .map(String::from)
            .to_vec() => LIST,
        /// Train a device with a battery on mains power only. Without a battery it has no effect.
        require_mains: bool = true => Rule::Any,
        /// Charge of the battery, in percent, below which training stops, on mains power too. 0: not
        /// judged.
        min_battery_percent: f64 = 20.0 => PERCENT,
        /// Which people at the device keep it from training.
        users: Users = Users::Active => Rule::Any,
        /// How long nothing must have been typed at a terminal before the person there counts as
        /// away, in seconds.
        users_idle_after_s: u64 = 600 => SECONDS,
        /// Files whose existence keeps the device from training, and folders in which any entry
        /// does. Absolute paths.
        inhibit_paths: Vec<PathBuf> = Vec::new() => LIST,
        /// Listen to programs that ask systemd to keep the device from idling: a presentation, a
        /// film, `systemd-inhibit --what=idle`.
        systemd_inhibitors: bool = true => Rule::Any,
        /// Local times at which training is allowed, such as "22:00-06:00", "Sat,Sun 00:00-24:00" or
        /// "Mon-Fri 19:30-07:00" (the days on which it begins). Empty: always.
        windows: Vec<String> = Vec::new() => LIST,
        /// Space that must stay free on the disk of `state_dir`, in MiB. 0: not judged.
        min_free_disk_mib: u64 = 1024 => Rule::Any,
        /// The same as a share of that disk, in percent. 0: not judged.
        min_free_disk_percent: f64 = 2.0 => PERCENT,
    }
    check ActivitySettings::conflicts
}

impl ActivitySettings {
    fn conflicts(&self) -> Vec<Problem> {
        let (start, training) = (self.max_cpu_percent, self.max_cpu_training_percent);
        let mut found = Vec::new();
        if start > 0.0 && training > 0.0 && training < start {
            let sentence = format!(
                "is {training}, below max_cpu_percent ({start}): training would stop where it may \
                 start"
            );
            found.push(("max_cpu_training_percent", sentence));
        }
        let (max, resume) = (self.max_celsius, self.resume_celsius);
        // Written so that NaN is a problem too.
        let cools_down = resume >= -40.0 && resume < max;
        if max > 0.0 && !cools_down {
            let sentence = format!("is {resume}: use -40 to below max_celsius ({max})");
            found.push(("resume_celsius", sentence));
        }
        for path in self.inhibit_paths.iter().filter(|path| !path.is_absolute()) {
            let sentence = format!("names {}, which is not an absolute path", path.display());
            found.push(("inhibit_paths", sentence));
        }
        let windows = self.windows.iter().filter_map(|text| text.parse::<Window>().err());
        found.extend(windows.map(|problem| ("windows", format!("is unusable: {problem}"))));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

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
