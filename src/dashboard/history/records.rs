//! What goes into the history and what comes out of it.

use serde::Serialize;

use super::{DAY_MS, HOUR_MS};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long single messages are kept, in milliseconds. Times without a resolution of their own
    /// are those of the next coarser one.
    pub raw_ms: i64,
    /// How long buckets of 5 minutes are kept, in milliseconds.
    pub fine_ms: i64,
    /// How long hourly buckets and days are kept, in milliseconds.
    pub coarse_ms: i64,
    /// How long events are kept, in milliseconds.
    pub events_ms: i64,
    /// How long the audit log is kept, in milliseconds. The size limit does not touch it.
    pub deeds_ms: i64,
    /// How large the file may become, in bytes: past it, every resolution and the events lose
    /// their oldest. SQLite's log beside it takes up to 32 MiB more.
    pub max_bytes: u64,
    /// How many devices there may be.
    pub max_devices: usize,
    /// How many events of one device are kept, the newest.
    pub max_events_per_device: u32,
    /// How many messages of one device and hour are kept, the first to come.
    pub max_samples_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            raw_ms: 48 * HOUR_MS,
            fine_ms: 30 * DAY_MS,
            coarse_ms: 730 * DAY_MS,
            events_ms: 365 * DAY_MS,
            deeds_ms: 730 * DAY_MS,
            max_bytes: 4 << 30,
            max_devices: 10_000,
            max_events_per_device: 1_000,
            max_samples_per_hour: 7_200,
        }
    }
}

/// The numbers of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `fleet/device`.
    pub device: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// By name, each in the unit that its name says.
    pub numbers: Vec<(String, f64)>,
}

/// An event of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// `fleet/device`.
    pub device: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The message's name: the same if it comes again.
    pub id: String,
    /// What kind of event.
    pub event: String,
    pub severity: String,
    pub sentence: String,
    /// JSON; empty if it had more than 8 KiB.
    pub detail: String,
}

/// Time that a device spent in a state, in one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// `fleet/device`.
    pub device: String,
    /// Any time of that day (UTC), in milliseconds since 1970.
    pub at_ms: i64,
    pub state: String,
    /// Why it was in that state: best a name, not a sentence with numbers in it.
    pub reason: String,
    /// Milliseconds, at most a day's.
    pub ms: u64,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    pub who: String,
    pub what: String,
    pub target: String,
    pub outcome: String,
}

/// An alarm that somebody has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledgment {
    /// `fleet/device`.
    pub device: String,
    /// The alarm's name.
    pub alarm: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    pub who: String,
}

/// What is written at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub samples: Vec<Sample>,
    pub happenings: Vec<Happening>,
    pub spent: Vec<Spent>,
    pub deeds: Vec<Deed>,
    /// The newest of a device and an alarm counts.
    pub acknowledgments: Vec<Acknowledgment>,
    /// Roll-outs by number, as JSON. The newest of a number counts.
    pub rollouts: Vec<(i64, String)>,
}

/// What was left out since the history was opened, because it broke a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Numbers that are not finite, or whose names are too long or too many.
    pub numbers: u64,
    /// Messages: too old, of impossible times, of devices too many or too loud.
    pub samples: u64,
    /// Events of impossible times or names, or of devices too many.
    pub happenings: u64,
    /// Times of impossible days, or of devices too many.
    pub spent: u64,
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.numbers += other.numbers;
        self.samples += other.samples;
        self.happenings += other.happenings;
        self.spent += other.spent;
    }
}

/// One or more messages of a device, as to one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Of the first message, or the start of the first bucket, in milliseconds since 1970.
    pub at_ms: i64,
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    /// The newest; of those that came after the raw window, none.
    pub last: f64,
}

/// A number over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    pub name: String,
    /// In the order of time.
    pub points: Vec<Point>,
}

/// Which events to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// `fleet/device`; `None` for all.
    pub device: Option<String>,
    /// Kinds of events; empty for all.
    pub kinds: Vec<String>,
    /// The first of the range, in milliseconds since 1970.
    pub from_ms: i64,
    /// Just behind the range.
    pub to_ms: i64,
    /// At most so many, and at most 10,000.
    pub limit: usize,
}

/// How long a device was in a state for a reason, of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The day's start (UTC), in milliseconds since 1970.
    pub day_ms: i64,
    pub state: String,
    pub reason: String,
    pub ms: u64,
}

/// What a slice of upkeep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Upkeep {
    /// Hours of devices whose buckets were made.
    pub hours: u64,
    /// Rows deleted.
    pub rows: u64,
    /// What the file holds, without its free space, in bytes.
    pub used_bytes: u64,
    /// What the file takes, in bytes.
    pub file_bytes: u64,
    /// Whether there is more to do now; if not, a minute later is soon enough.
    pub more: bool,
}
