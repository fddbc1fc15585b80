//! From readings over time to one condition: may training run, and if not, why not.
//!
//! Pure: time comes in with each reading, and nothing is read or started here. Two things are kept
//! apart. *Idle* is earned: the device must have been quiet for `idle_after_s`, and is lost at once.
//! Heat, power, memory and permission only stand in its way, so when they are over training
//! resumes without waiting again.
//!
//! ```text
//!              quiet for idle_after_s, and this sample quiet too
//!       ┌───────┐ ──────────────────────────────────────────────► ┌──────┐
//!       │ in use│                                                 │ idle │
//!       └───────┘ ◄────────────────────────────────────────────── └──────┘
//!         someone is here; or a noisy measure over its limit for busy_after_s;
//!         or no sample for 60 s
//!
//!  reported:  Hot  >  LowResources  >  NoPower  >  Closed  >  Busy (in use)  >  Idle
//! ```
//!
//! Hot, a low battery and low memory or disk each have a second mark at which they are over, a
//! little beyond the limit, so that a value at the limit doesn't make training come and go.
//!
//! Noisy measures (loads and pressures) count once they were over their limit in every sample of
//! `busy_after_s`. A shorter spike neither ends idleness nor breaks the quiet: a timer job that runs
//! every minute must not keep a device from ever being idle, and the worker gives way to it anyway
//! (`SCHED_IDLE`). Idleness never begins within a spike.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::sections::idle::ActivitySettings;
use crate::daemon::activity::signal::{Measure, Reading, Signal, Verdict};

/// A time without samples after which quiet isn't taken for granted any more.
const MAX_GAP: Duration = Duration::from_secs(60);
/// Memory and disk that were low must rise this far above their limit.
const RESOURCE_MARGIN: f64 = 1.1;
/// A battery that was low must be charged this far above its limit, in percentage points.
const BATTERY_MARGIN: f64 = 5.0;

/// Whether training may run, and why not. Reasons are one short clause with numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum Condition {
    /// It may.
    Idle,
    /// The device is in use, or was until a moment ago.
    Busy {
        /// What uses it.
        reason: String,
        /// Seconds until it counts as idle if it stays quiet; none while it is in use.
        idle_in_s: Option<u64>,
    },
    /// Too hot, or not yet cool again.
    Hot {
        /// Where, and how hot.
        reason: String,
    },
    /// On battery, or the battery is low.
    NoPower {
        /// Which of them.
        reason: String,
    },
    /// Not allowed now: a time window or an inhibitor.
    Closed {
        /// Which of them.
        reason: String,
        /// Seconds until the next time window opens; none if an inhibitor holds, or no window
        /// opens any more.
        opens_in_s: Option<u64>,
    },
    /// Memory or disk is short. A frozen worker still holds its memory: it must end to help.
    LowResources {
        /// Which of them.
        reason: String,
    },
}

/// A [`Condition`] without its reason, to see whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// See [`Condition::Idle`].
    Idle,
    /// See [`Condition::Busy`].
    Busy,
    /// See [`Condition::Hot`].
    Hot,
    /// See [`Condition::NoPower`].
    NoPower,
    /// See [`Condition::Closed`].
    Closed,
    /// See [`Condition::LowResources`].
    LowResources,
}

impl Condition {
    /// Which condition it is. Reasons hold numbers that change with every sample; this doesn't.
    #[must_use]
    pub fn kind(&self) -> ConditionKind {
        match self {
            Self::Idle => ConditionKind::Idle,
            Self::Busy { .. } => ConditionKind::Busy,
            Self::Hot { .. } => ConditionKind::Hot,
            Self::NoPower { .. } => ConditionKind::NoPower,
            Self::Closed { .. } => ConditionKind::Closed,
            Self::LowResources { .. } => ConditionKind::LowResources,
        }
    }

    /// Why training may not run; none if it may.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Idle => None,
            Self::Busy { reason, .. }
            | Self::Hot { reason }
            | Self::NoPower { reason }
            | Self::Closed { reason, .. }
            | Self::LowResources { reason } => Some(reason),
        }
    }
}

/// What has been seen so far, as far as it matters.
#[derive(Debug, Clone)]
pub struct IdleJudge {
    idle_after: Duration,
    busy_after: Duration,
    resume_celsius: f64,
    last: Option<Duration>,
    quiet_since: Option<Duration>,
    idle: bool,
    /// Per noisy measure that is over its limit: since when.
    over_since: BTreeMap<Measure, Duration>,
    /// Measures that have passed their limit and not yet their second mark, with that mark.
    held: BTreeMap<Measure, f64>,
}

impl IdleJudge {
    /// A judge that has seen nothing: the device counts as in use.
    #[must_use]
    pub fn new(settings: &ActivitySettings) -> Self {
        Self {
            idle_after: Duration::from_secs(settings.idle_after_s),
            busy_after: Duration::from_secs(settings.busy_after_s),
            resume_celsius: settings.resume_celsius,
            last: None,
            quiet_since: None,
            idle: false,
            over_since: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Takes in one reading. `now` is monotonic; one before the last counts as the last, so
    /// that a clock that jumps back only stands still.
    pub fn observe(&mut self, now: Duration, reading: &Reading) -> Condition {
        let now = self.last.map_or(now, |last| last.max(now));
        let gap = self.last.is_some_and(|last| now - last > MAX_GAP);
        self.last = Some(now);
        if gap {
            self.idle = false;
            self.quiet_since = None;
        }
        let mut worst: Option<(u8, Condition)> = None;
        let mut in_use = None;
        let mut spike = false;
        for signal in &reading.signals {
            let lasting = self.lasts(now, signal);
            spike |= !lasting && signal.verdict == Verdict::Busy;
            let reason = self.hold(signal, lasting);
            let reason = || reason.clone().unwrap_or_else(|| signal.sentence());
            let found = match self.effective(signal, lasting) {
                Verdict::Hot => (4, Condition::Hot { reason: reason() }),
                Verdict::Low => (3, Condition::LowResources { reason: reason() }),
                Verdict::Power => (2, Condition::NoPower { reason: reason() }),
                Verdict::Blocked => {
                    let window = signal.measure == Measure::Windows;
                    let opens_in_s = reading.opens_in_s.filter(|_| window);
                    (1, Condition::Closed { reason: reason(), opens_in_s })
                }
                Verdict::Busy | Verdict::Pending => {
                    in_use.get_or_insert_with(|| signal.sentence());
                    continue;
                }
                Verdict::Ok | Verdict::Absent | Verdict::Unreadable => continue,
            };
            if worst.as_ref().is_none_or(|(rank, _)| found.0 > *rank) {
                worst = Some(found);
            }
        }
        let busy = self.use_of_device(now, in_use, spike);
        worst.map(|(_, condition)| condition).or(busy).unwrap_or(Condition::Idle)
    }

    /// Whether a bad verdict has lasted long enough to count.
    fn lasts(&mut self, now: Duration, signal: &Signal) -> bool {
        let noisy = matches!(
            signal.measure,
            Measure::CpuLoad
                | Measure::CpuPressure
                | Measure::IoPressure
                | Measure::MemoryPressure
                | Measure::GpuLoad
        );
        let over = matches!(signal.verdict, Verdict::Busy | Verdict::Low);
        if !noisy || !over {
            self.over_since.remove(&signal.measure);
            return true;
        }
        let since = *self.over_since.entry(signal.measure).or_insert(now);
        now - since >= self.busy_after
    }

    /// Keeps the second mark of a measure that has passed its limit, until it passes that too.
    /// While it is between the two, returns the reason to give.
    fn hold(&mut self, signal: &Signal, lasting: bool) -> Option<String> {
        let measure = signal.measure;
        match (signal.verdict, signal.value, signal.limit) {
            (Verdict::Hot, ..) => {
                self.held.insert(measure, self.resume_celsius);
            }
            (Verdict::Low, _, Some(limit)) if lasting && measure != Measure::MemoryPressure => {
                self.held.insert(measure, limit * RESOURCE_MARGIN);
            }
            (Verdict::Power, Some(charge), Some(limit)) if charge < limit => {
                self.held.insert(measure, (limit + BATTERY_MARGIN).min(100.0));
            }
            (Verdict::Ok, Some(value), _) => {
                let mark = *self.held.get(&measure)?;
                let over = match measure {
                    Measure::Temperature => value <= mark,
                    _ => value >= mark,
                };
                if over {
                    self.held.remove(&measure);
                    return None;
                }
                let unit = measure.unit();
                return Some(format!(
                    "{measure}: {value:.0} {unit}, was beyond its limit, waiting for {mark:.0} {unit}"
                ));
            }
            // The source is gone: nothing will ever pass the mark.
            (Verdict::Absent, ..) | (Verdict::Ok, None, _) => {
                self.held.remove(&measure);
            }
            // A failing read tells nothing new.
            (Verdict::Unreadable, ..) => {
                return self.held.contains_key(&measure).then(|| signal.sentence());
            }
            _ => {}
        }
        None
    }

    /// The verdict after patience: a spike is none, and a measure that is held keeps its verdict.
    fn effective(&self, signal: &Signal, lasting: bool) -> Verdict {
        if !lasting {
            return Verdict::Ok;
        }
        let tame = matches!(signal.verdict, Verdict::Ok | Verdict::Unreadable);
        if !tame || !self.held.contains_key(&signal.measure) {
            return signal.verdict;
        }
        match signal.measure {
            Measure::Temperature => Verdict::Hot,
            Measure::Power => Verdict::Power,
            _ => Verdict::Low,
        }
    }

    /// Keeps the time of quiet; none once the device is idle.
    fn use_of_device(
        &mut self,
        now: Duration,
        in_use: Option<String>,
        spike: bool,
    ) -> Option<Condition> {
        if let Some(reason) = in_use {
            self.idle = false;
            self.quiet_since = None;
            return Some(Condition::Busy { reason, idle_in_s: None });
        }
        let quiet = now - *self.quiet_since.get_or_insert(now);
        if quiet >= self.idle_after && !spike {
            self.idle = true;
        }
        if self.idle {
            return None;
        }
        let left = self.idle_after.saturating_sub(quiet);
        Some(Condition::Busy {
            reason: format!("quiet for less than {} s", self.idle_after.as_secs()),
            // Rounded up, so that 0 is never said of a device that isn't idle.
            idle_in_s: Some(left.as_secs() + u64::from(left.subsec_nanos() > 0 || left.is_zero())),
        })
    }
}

#[cfg(test)]
mod tests;
