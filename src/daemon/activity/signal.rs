//! One measure of the device with its limit and what it means, and all of them at one moment.
//!
//! Plain values: knows neither where they were read nor what follows from them (`idle` does).

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::system::files;

/// What a [`Signal`] measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// CPU time of other processes, percent of all cores.
    CpuLoad,
    /// Share of the last 10 s in which some process waited for a CPU, percent.
    CpuPressure,
    /// Share of the last 10 s in which some process waited for disks, percent.
    IoPressure,
    /// Share of the last 10 s in which some process waited for memory, percent.
    MemoryPressure,
    /// Memory that programs can still get, MiB.
    FreeMemory,
    /// Load of the GPU, percent.
    GpuLoad,
    /// The hottest sensor, °C.
    Temperature,
    /// Mains or battery; the value is the battery's charge, percent.
    Power,
    /// People at the device; the value is how many count.
    Users,
    /// Inhibit files and systemd's inhibitors; the value is how many there are.
    Inhibit,
    /// The time windows in which training is allowed.
    Windows,
    /// Free space on the disk of the state folder, MiB.
    FreeDisk,
}

impl Measure {
    /// The name with its unit, for machines: `cpu_load_percent`, `free_memory_mib`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::CpuLoad => "cpu_load_percent",
            Self::CpuPressure => "cpu_pressure_percent",
            Self::IoPressure => "io_pressure_percent",
            Self::MemoryPressure => "memory_pressure_percent",
            Self::FreeMemory => "free_memory_mib",
            Self::GpuLoad => "gpu_load_percent",
            Self::Temperature => "temperature_celsius",
            Self::Power => "battery_percent",
            Self::Users => "users",
            Self::Inhibit => "inhibitors",
            Self::Windows => "time_window",
            Self::FreeDisk => "free_disk_mib",
        }
    }

    /// The unit of [`Signal::value`] and [`Signal::limit`]; empty for counts and for [`Self::Windows`].
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::CpuLoad
            | Self::CpuPressure
            | Self::IoPressure
            | Self::MemoryPressure
            | Self::GpuLoad
            | Self::Power => "%",
            Self::FreeMemory | Self::FreeDisk => "MiB",
            Self::Temperature => "°C",
            Self::Users | Self::Inhibit | Self::Windows => "",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CpuLoad => "cpu",
            Self::CpuPressure => "cpu pressure",
            Self::IoPressure => "io pressure",
            Self::MemoryPressure => "memory pressure",
            Self::FreeMemory => "free memory",
            Self::GpuLoad => "gpu",
            Self::Temperature => "temperature",
            Self::Power => "power",
            Self::Users => "users",
            Self::Inhibit => "inhibited",
            Self::Windows => "time window",
            Self::FreeDisk => "free disk",
        })
    }
}

/// What one measure says about training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its limit, or without one.
    Ok,
    /// The device is being used.
    Busy,
    /// Too hot.
    Hot,
    /// On battery, or the battery is low.
    Power,
    /// Not allowed now: a time window or an inhibitor.
    Blocked,
    /// Memory or disk is short.
    Low,
    /// Not known yet: it takes one more sample.
    Pending,
    /// This device has no such thing to read.
    Absent,
    /// It is there and cannot be read; the text says why. Blocks nothing.
    Unreadable,
}

/// One measure at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What was measured.
    pub measure: Measure,
    /// The value, in the measure's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The limit it was held against, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// The same in words and numbers, such as `43 % by others (limit 20 %)`.
    pub text: String,
}

impl Signal {
    /// `limit`, or none where it is 0, which stands for "not judged".
    fn judged(limit: f64) -> Option<f64> {
        (limit > 0.0).then_some(limit)
    }

    /// A value that is bad (`over`) above its limit; a limit of 0 is none. `what` follows the
    /// number in the text.
    pub(super) fn at_most(
        measure: Measure,
        value: f64,
        limit: f64,
        over: Verdict,
        what: &str,
    ) -> Self {
        let limit = Self::judged(limit);
        let verdict = if limit.is_some_and(|limit| value > limit) { over } else { Verdict::Ok };
        Self::with_value(measure, value, limit, verdict, what)
    }

    /// A value that is bad (`under`) below its limit; a limit of 0 is none.
    pub(super) fn at_least(
        measure: Measure,
        value: f64,
        limit: f64,
        under: Verdict,
        what: &str,
    ) -> Self {
        let limit = Self::judged(limit);
        let verdict = if limit.is_some_and(|limit| value < limit) { under } else { Verdict::Ok };
        Self::with_value(measure, value, limit, verdict, what)
    }

    fn with_value(
        measure: Measure,
        value: f64,
        limit: Option<f64>,
        verdict: Verdict,
        what: &str,
    ) -> Self {
        let unit = measure.unit();
        let mut text = format!("{value:.0} {unit}");
        if !what.is_empty() {
            text = format!("{text} {what}");
        }
        if let Some(limit) = limit {
            text = format!("{text} (limit {limit:.0} {unit})");
        }
        Self { measure, value: Some(value), limit, verdict, text }
    }

    /// A measure described in words.
    pub(super) fn words(measure: Measure, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { measure, value: None, limit: None, verdict, text: text.into() }
    }

    /// A measure whose source cannot be read: absent where that is because there is none.
    pub(super) fn failed(measure: Measure, error: &io::Error) -> Self {
        if files::is_absent(error) {
            Self::words(measure, Verdict::Absent, "not available on this device")
        } else {
            Self::words(measure, Verdict::Unreadable, format!("cannot be read: {error}"))
        }
    }

    /// The signal as one sentence: `cpu: 43 % by others (limit 20 %)`.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.measure, self.text)
    }
}

/// All signals at one moment, one of each [`Measure`], also those that are absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The signals, in the order of [`Measure`].
    pub signals: Vec<Signal>,
    /// Seconds until the next time window opens; none while one is open, or if none ever will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_in_s: Option<u64>,
}

impl Reading {
    /// The signal of `measure`, if it was taken.
    #[must_use]
    pub fn signal(&self, measure: Measure) -> Option<&Signal> {
        self.signals.iter().find(|signal| signal.measure == measure)
    }
}
