//! Whether the device is idle, cool and powered: what can be measured of it ([`Activity`]), and what
//! that means over time ([`IdleJudge`]).
//!
//! ```text
//! files below a root ─► Activity::sample ─► Reading ─► IdleJudge::observe ─► Condition
//! ```
//!
//! `Activity` reads each value and compares it with its limit. The judge is pure and adds patience: how
//! long the device must be quiet, how long a spike is forgiven, how far heat must fall. Neither knows
//! what the daemon does with the answer. Every signal is optional: a device that lacks one is judged by
//! the others, and the [`Reading`] says so. [`DeviceWatch`] holds both, with what was last seen.

mod clock;
mod idle;
mod sensors;
mod signal;
mod watch;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Zoned;

pub use idle::{Condition, ConditionKind, IdleJudge};
pub use signal::{Measure, Reading, Signal, Verdict};
pub use watch::DeviceWatch;

#[cfg(target_os = "macos")]
use sensors::macos;
use sensors::{cpu, disk, gpu, heat, inhibit, power, users};

pub use crate::config::sections::idle::{ActivitySettings, Users};
use crate::config::sections::windows;
use crate::config::sections::windows::{Window, WindowError};
use crate::system::files::{self, Root};
use crate::system::proc::{self, Resource};

/// How often sensors and load files are looked for anew: drivers come and go.
const SEARCH_EVERY: Duration = Duration::from_secs(60);

/// Which of the device's load is the daemon's own, so that it isn't mistaken for others'.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own<'a> {
    /// The daemon and its children, each named from its start on.
    pub pids: &'a [u32],
    /// Whether the worker is at work now, rather than frozen or gone: the limits that hold while
    /// training are used then, and pressure is not judged.
    pub training: bool,
    /// Whether it computes on the GPU, whose load then is ours too.
    pub on_gpu: bool,
}

/// The device, as far as it can be measured.
///
/// A sample costs a few dozen small reads. None of them waits, except that of the state folder's file
/// system (see `disk`) if it lies on a network disk.
#[derive(Debug)]
pub struct Activity {
    settings: ActivitySettings,
    windows: Vec<Window>,
    root: Root,
    state_dir: PathBuf,
    cpu: cpu::CpuMeter,
    sources: Option<Sources>,
    #[cfg(target_os = "macos")]
    mac: Option<macos::Mac>,
}

/// Files that are looked for once a minute.
#[derive(Debug)]
struct Sources {
    found_at: Duration,
    sensors: Vec<heat::Sensor>,
    gpus: Vec<gpu::LoadFile>,
}

impl Activity {
    /// Gets ready to sample the device whose files lie below `root` (`/`, or a copy of another
    /// device's for tests) and which keeps its state in `state_dir` (a real path, not below `root`).
    ///
    /// # Errors
    /// A time window that can't be understood; checking the settings finds these before.
    pub fn new(
        settings: ActivitySettings,
        root: PathBuf,
        state_dir: PathBuf,
    ) -> Result<Self, WindowError> {
        let windows = settings.windows.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        #[cfg(target_os = "macos")]
        let mac = (root == std::path::Path::new("/")).then(macos::Mac::new).flatten();
        Ok(Self {
            settings,
            windows,
            root: Root::new(root),
            state_dir,
            cpu: cpu::CpuMeter::default(),
            sources: None,
            #[cfg(target_os = "macos")]
            mac,
        })
    }

    /// Measures everything once. `now` is monotonic time since any start, `wall` local time.
    ///
    /// The load of the CPU is that since the last call; the first one says [`Verdict::Pending`].
    pub fn sample(&mut self, now: Duration, wall: &Zoned, own: &Own) -> Reading {
        let fresh = |sources: &Sources| {
            // A `now` before the last search can only come from a caller's new clock.
            now.checked_sub(sources.found_at).is_some_and(|age| age < SEARCH_EVERY)
        };
        if !self.sources.as_ref().is_some_and(fresh) {
            self.sources = Some(Sources {
                found_at: now,
                sensors: heat::find(&self.root, &self.settings.ignore_sensors),
                gpus: gpu::find(&self.root),
            });
        }
        let signals = vec![
            self.cpu_load(own),
            self.pressure(Measure::CpuPressure, own),
            self.pressure(Measure::IoPressure, own),
            self.pressure(Measure::MemoryPressure, own),
            self.free_memory(),
            self.gpu_load(own),
            self.temperature(),
            self.power(),
            self.users(wall),
            self.inhibited(),
            self.window(wall),
            self.free_disk(),
        ];
        let closed = !windows::are_open(&self.windows, wall);
        let opens_in = closed.then(|| windows::opens_in(&self.windows, wall)).flatten();
        Reading { signals, opens_in_s: opens_in.map(|wait| wait.as_secs()) }
    }

    fn cpu_load(&mut self, own: &Own) -> Signal {
        let limit = if own.training {
            self.settings.max_cpu_training_percent
        } else {
            self.settings.max_cpu_percent
        };
        #[cfg(not(target_os = "macos"))]
        let load = self.cpu.others(&self.root, own.pids);
        #[cfg(target_os = "macos")]
        let load = match &mut self.mac {
            Some(mac) => Ok(mac.others(own.pids)),
            None => self.cpu.others(&self.root, own.pids),
        };
        match load {
            Ok(Some(load)) => {
                Signal::at_most(Measure::CpuLoad, load, limit, Verdict::Busy, "by others")
            }
            Ok(None) => Signal::words(Measure::CpuLoad, Verdict::Pending, "not measured yet"),
            Err(error) => Signal::failed(Measure::CpuLoad, &error),
        }
    }

    /// Pressure is the share of time in which at least one process waited for the resource. The worker
    /// counts in it like every process, so while it trains the figure cannot tell others' need from its
    /// own: on CPUs the worker, at `SCHED_IDLE`, is the first to wait, and with as many threads as cores
    /// it waits whenever anything else runs at all. The load of others (`cpu`) is exact then, so CPU and
    /// disk pressure are judged before training alone. Memory pressure is judged always: whoever causes
    /// it, the worker is what can give memory back.
    fn pressure(&self, measure: Measure, own: &Own) -> Signal {
        let settings = &self.settings;
        let (resource, limit, over) = match measure {
            Measure::MemoryPressure => {
                (Resource::Memory, settings.max_memory_pressure_percent, Verdict::Low)
            }
            Measure::IoPressure => (Resource::Io, settings.max_io_pressure_percent, Verdict::Busy),
            _ => (Resource::Cpu, settings.max_cpu_pressure_percent, Verdict::Busy),
        };
        let ours_too = own.training && over == Verdict::Busy;
        let (limit, what) = if ours_too { (0.0, "with our own") } else { (limit, "") };
        match proc::pressure(&self.root, resource) {
            Ok(share) => Signal::at_most(measure, share, limit, over, what),
            Err(error) => Signal::failed(measure, &error),
        }
    }

    fn free_memory(&self) -> Signal {
        let told = proc::meminfo(&self.root).and_then(|memory| {
            let missing = || io::Error::new(io::ErrorKind::InvalidData, "it has no `MemAvailable`");
            Ok(memory.available.ok_or_else(missing)? as f64 / f64::from(1 << 20))
        });
        #[cfg(not(target_os = "macos"))]
        let free = told;
        #[cfg(target_os = "macos")]
        let free = self.mac.as_ref().map_or(told, |mac| Ok(mac.available_mib()));
        let limit = self.settings.min_free_memory_mib as f64;
        match free {
            Ok(free) => Signal::at_least(Measure::FreeMemory, free, limit, Verdict::Low, ""),
            Err(error) => Signal::failed(Measure::FreeMemory, &error),
        }
    }

    fn gpu_load(&self, own: &Own) -> Signal {
        let ours_too = own.training && own.on_gpu;
        let (limit, what) =
            if ours_too { (0.0, "with our own") } else { (self.settings.max_gpu_percent, "") };
        let files = self.sources.as_ref().map_or(&[][..], |sources| &sources.gpus);
        match gpu::load(files) {
            Ok(Some(load)) => Signal::at_most(Measure::GpuLoad, load, limit, Verdict::Busy, what),
            Ok(None) => Signal::words(
                Measure::GpuLoad,
                Verdict::Absent,
                "this device has no GPU whose load the kernel reports",
            ),
            Err(error) => Signal::failed(Measure::GpuLoad, &error),
        }
    }

    fn temperature(&self) -> Signal {
        let sensors = self.sources.as_ref().map_or(&[][..], |sources| &sources.sensors);
        let hottest = heat::hottest(sensors)
            .map(|found| found.map(|(name, celsius)| (format!("at {name}"), celsius)));
        #[cfg(target_os = "macos")]
        let hottest = match &self.mac {
            Some(mac) => Ok(mac.hottest().map(|celsius| (String::new(), celsius))),
            None => hottest,
        };
        let limit = self.settings.max_celsius;
        match hottest {
            Ok(Some((place, celsius))) => {
                Signal::at_most(Measure::Temperature, celsius, limit, Verdict::Hot, &place)
            }
            Ok(None) => {
                Signal::words(Measure::Temperature, Verdict::Absent, "this device has no sensor")
            }
            Err(error) => Signal::failed(Measure::Temperature, &error),
        }
    }

    fn power(&self) -> Signal {
        let supply = match power::supply(&self.root) {
            Ok(Some(supply)) => supply,
            Ok(None) => return Signal::words(Measure::Power, Verdict::Absent, "no battery"),
            Err(error) => return Signal::failed(Measure::Power, &error),
        };
        let source = if supply.on_mains { "on mains" } else { "on battery" };
        let mut signal = match supply.charge_percent {
            Some(charge) => Signal::at_least(
                Measure::Power,
                charge,
                self.settings.min_battery_percent,
                Verdict::Power,
                source,
            ),
            None => Signal::words(Measure::Power, Verdict::Ok, source),
        };
        if self.settings.require_mains && !supply.on_mains {
            signal.verdict = Verdict::Power;
            signal.text = match supply.charge_percent {
                Some(charge) => format!("{charge:.0} % on battery (mains required)"),
                None => "on battery (mains required)".to_owned(),
            };
        }
        signal
    }

    fn users(&self, wall: &Zoned) -> Signal {
        let now_s = wall.timestamp().as_second();
        match users::people(&self.root, now_s, self.settings.users_idle_after_s) {
            Ok(users::People { present, active }) => {
                let counted = match self.settings.users {
                    Users::Ignore => 0,
                    Users::Active => active,
                    Users::Any => present,
                };
                let judged = self.settings.users != Users::Ignore;
                Signal {
                    measure: Measure::Users,
                    value: Some(counted as f64),
                    limit: judged.then_some(0.0),
                    verdict: if counted > 0 { Verdict::Busy } else { Verdict::Ok },
                    text: format!("{present} logged in, {active} of them active"),
                }
            }
            Err(error) => Signal::failed(Measure::Users, &error),
        }
    }

    fn inhibited(&self) -> Signal {
        let signal = |count: usize, verdict, text| Signal {
            measure: Measure::Inhibit,
            value: Some(count as f64),
            limit: Some(0.0),
            verdict,
            text,
        };
        if let Some((path, error)) = inhibit::first_path(&self.root, &self.settings.inhibit_paths) {
            let text = match error {
                None => format!("by {}", path.display()),
                Some(error) => format!("by {}, which cannot be read: {error}", path.display()),
            };
            return signal(1, Verdict::Blocked, text);
        }
        if !self.settings.systemd_inhibitors {
            return signal(0, Verdict::Ok, "by nothing".to_owned());
        }
        match inhibit::systemd_locks(&self.root) {
            Ok(count) if count > 0 => signal(
                count,
                Verdict::Blocked,
                format!("by {count} idle lock{} of systemd", if count == 1 { "" } else { "s" }),
            ),
            Err(error) if !files::is_absent(&error) => Signal::failed(Measure::Inhibit, &error),
            // Without systemd there are no locks, but inhibit files were looked for.
            Ok(_) | Err(_) => signal(0, Verdict::Ok, "by nothing".to_owned()),
        }
    }

    fn window(&self, wall: &Zoned) -> Signal {
        let (verdict, text) = if self.windows.is_empty() {
            (Verdict::Ok, "always open".to_owned())
        } else if windows::are_open(&self.windows, wall) {
            (Verdict::Ok, "open".to_owned())
        } else {
            let windows: Vec<String> = self.windows.iter().map(Window::to_string).collect();
            (Verdict::Blocked, format!("closed (open {})", windows.join(", ")))
        };
        Signal::words(Measure::Windows, verdict, text)
    }

    fn free_disk(&self) -> Signal {
        match disk::space(&self.state_dir) {
            Ok(disk::Space { free_mib, total_mib }) => {
                let share = total_mib * self.settings.min_free_disk_percent / 100.0;
                let limit = share.max(self.settings.min_free_disk_mib as f64);
                Signal::at_least(Measure::FreeDisk, free_mib, limit, Verdict::Low, "")
            }
            // A missing state folder does not mean that the device has no disk: say so.
            Err(error) => Signal::words(
                Measure::FreeDisk,
                Verdict::Unreadable,
                format!("the free space on the state folder's disk cannot be read: {error}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
