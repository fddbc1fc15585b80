//! A fleet in a few numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::{Device, DeviceId, Fleet, Status, alarms};
use crate::contract::event::Severity;
use crate::contract::wire::VersionInfo;

/// How long ago a device that learns has trained at most, in milliseconds: a week.
pub const WEEK_MS: u64 = 7 * 86_400_000;
/// Different values that are counted; hostile devices could make up any number of them.
const MAX_VALUES: usize = 500;

/// A fleet in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Devices.
    pub devices: usize,
    /// Devices by whether they are there.
    pub status: BTreeMap<Status, usize>,
    /// Devices that are there, by what they do.
    pub states: BTreeMap<String, usize>,
    /// Devices by the version of their active adapter; `base` for those that serve the untouched model.
    pub adapters: BTreeMap<String, usize>,
    /// Devices that have trained within a week.
    pub learning: usize,
    /// Devices with a promoted adapter.
    pub improved: usize,
    /// The median of what active adapters have gained, as a share of questions, over those that say.
    pub median_gain: Option<f64>,
    /// Devices with a warning or an error that nobody has seen.
    pub alarmed: usize,
    /// Tags that devices have, as `name=value`.
    pub tags: BTreeSet<String>,
    /// Names of alarms, by how many devices have them.
    pub alarms: BTreeMap<String, usize>,
}

/// Counts `value`, unless it is one too many.
fn count(counts: &mut BTreeMap<String, usize>, value: &str) {
    if let Some(known) = counts.get_mut(value) {
        *known += 1;
    } else if counts.len() < MAX_VALUES {
        counts.insert(value.to_owned(), 1);
    }
}

impl Summary {
    /// Those of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet, now_ms: u64) -> Self {
        let mut summary = Self { devices: fleet.len(), ..Self::default() };
        let mut gains = Vec::new();
        for (_, device) in fleet.iter() {
            summary.add(device, now_ms);
            gains.extend(gain(device));
        }
        gains.sort_by(f64::total_cmp);
        summary.median_gain = gains.get(gains.len() / 2).copied();
        summary
    }

    fn add(&mut self, device: &Device, now_ms: u64) {
        let status = device.status_at(now_ms);
        *self.status.entry(status).or_default() += 1;
        let alarms = alarms::of(device, now_ms);
        self.alarmed += usize::from(alarms::worst_of(&alarms) >= Some(Severity::Warning));
        for alarm in &alarms {
            count(&mut self.alarms, &alarm.name);
        }
        for (name, value) in device.birth().iter().flat_map(|birth| &birth.tags) {
            if self.tags.len() < MAX_VALUES {
                self.tags.insert(format!("{name}={value}"));
            }
        }
        let Some(state) = device.state() else { return };
        if status == Status::Online {
            count(&mut self.states, &state.state);
        }
        let adapter = state.adapter.as_ref();
        count(&mut self.adapters, adapter.map_or("base", |adapter| &adapter.version));
        self.improved += usize::from(adapter.is_some());
        // By the device's own clock on both sides, which may be wrong by years.
        let now_there = device.state_times().map_or(now_ms, |(sent_ms, at_ms)| {
            sent_ms.saturating_add(now_ms.saturating_sub(at_ms))
        });
        let trained =
            state.last_trained_ms.is_some_and(|ms| now_there.saturating_sub(ms) < WEEK_MS);
        self.learning += usize::from(trained);
    }
}

/// Devices with a warning or an error that nobody has seen.
#[must_use]
pub fn alarmed(fleet: &Fleet, now_ms: u64) -> usize {
    let worst = fleet.iter().map(|(_, device)| alarms::worst(device, now_ms));
    worst.filter(|worst| *worst >= Some(Severity::Warning)).count()
}

/// What a version has gained over the one that it was compared with, as a share of the questions that both
/// were asked, if it says so.
#[must_use]
pub fn gain_of(version: &VersionInfo) -> Option<f64> {
    let number = |name| version.numbers.get(name).copied();
    let gain = number("accuracy_after")? - number("accuracy_before")?;
    (-1.0..=1.0).contains(&gain).then_some(gain)
}

/// What a device's active adapter has gained over its parent. Gains of earlier ones were measured on other
/// questions, so they are not added.
#[must_use]
pub fn gain(device: &Device) -> Option<f64> {
    let state = device.state()?;
    let active = state.adapter.as_ref()?;
    gain_of(state.versions.iter().find(|version| version.version == active.version)?)
}

/// A promotion, or its end.
#[derive(Debug, Clone, Copy)]
pub struct Change<'f> {
    /// The device.
    pub id: &'f DeviceId,
    /// The version.
    pub version: &'f VersionInfo,
    /// What it has gained, as in [`gain_of`].
    pub gain: Option<f64>,
}

/// Versions that were promoted since `since_ms`, by the devices' clocks: those that hold, by what they have
/// gained, and those that were rolled back.
#[must_use]
pub fn changes(fleet: &Fleet, since_ms: u64) -> (Vec<Change<'_>>, Vec<Change<'_>>) {
    let versions = fleet.iter().flat_map(|(id, device)| {
        let versions = device.state().map(|state| state.versions.as_slice()).unwrap_or_default();
        versions.iter().map(move |version| Change { id, version, gain: gain_of(version) })
    });
    let recent = versions.filter(|change| change.version.published_ms >= since_ms);
    let (lost, mut better): (Vec<_>, Vec<_>) = recent.partition(|c| c.version.rolled_back);
    better.sort_by(|a, b| {
        let known = |change: &Change<'_>| change.gain.unwrap_or(f64::NEG_INFINITY);
        known(b).total_cmp(&known(a))
    });
    (better, lost)
}
