//! Which devices a page shows, and in which order.

use std::cmp::Ordering;

use super::alarms;
use super::summary::gain;
use super::{Device, DeviceId, Fleet, Status};
use crate::contract::event::Severity;
use crate::settings::choices;

/// Devices on a page.
pub const PAGE: usize = 100;

choices! {
    /// What a list of devices is sorted by.
    pub enum Sort {
        /// Fleet and name.
        Name = "name",
        /// Whether it is there.
        Status = "status",
        /// What it does.
        State = "state",
        /// How far its run is.
        Step = "step",
        /// What its active adapter has gained.
        Gain = "gain",
        /// When it last trained.
        Trained = "trained",
        /// How bad what is wrong with it is.
        Alarms = "alarms",
    }
}

/// What devices must be like. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of its name, fleet, host, hardware, a tag or the reason of its state, in any case.
    pub text: String,
    /// Whether it is there.
    pub status: Option<Status>,
    /// What it does, by the scheduler's name.
    pub state: String,
    /// A tag, as `name=value`.
    pub tag: String,
    /// The version of its active adapter; `base` for the untouched model.
    pub adapter: String,
    /// An alarm's name, or `any` for those that nobody has seen.
    pub alarm: String,
}

impl Filter {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a device is like that.
    #[must_use]
    pub fn takes(&self, id: &DeviceId, device: &Device, now_ms: u64) -> bool {
        self.status.is_none_or(|status| device.status_at(now_ms) == status)
            && self.takes_state(device)
            && self.takes_tag(device)
            && self.takes_alarm(device, now_ms)
            && (self.text.is_empty() || has_text(id, device, &self.text.to_lowercase()))
    }

    fn takes_state(&self, device: &Device) -> bool {
        let state = device.state();
        let adapter = state.and_then(|state| state.adapter.as_ref());
        let fits_adapter = match (self.adapter.as_str(), adapter) {
            ("", _) => true,
            ("base", adapter) => adapter.is_none() && state.is_some(),
            (wanted, adapter) => adapter.is_some_and(|adapter| adapter.version == wanted),
        };
        fits_adapter
            && (self.state.is_empty() || state.is_some_and(|state| state.state == self.state))
    }

    fn takes_tag(&self, device: &Device) -> bool {
        let Some((name, value)) = self.tag.split_once('=') else {
            return self.tag.is_empty()
                || device.birth().is_some_and(|birth| birth.tags.contains_key(&self.tag));
        };
        device.birth().is_some_and(|birth| birth.tags.get(name).is_some_and(|v| v == value))
    }

    fn takes_alarm(&self, device: &Device, now_ms: u64) -> bool {
        if self.alarm.is_empty() {
            return true;
        }
        let alarms = alarms::of(device, now_ms);
        let is_new =
            |alarm: &alarms::Alarm| alarm.seen_by.is_none() && alarm.severity >= Severity::Warning;
        alarms.iter().any(|alarm| match self.alarm.as_str() {
            "any" => is_new(alarm),
            name => alarm.name == name,
        })
    }
}

fn has_text(id: &DeviceId, device: &Device, text: &str) -> bool {
    let holds = |whole: &str| whole.to_lowercase().contains(text);
    let in_birth = || {
        device.birth().is_some_and(|birth| {
            holds(&birth.device.host)
                || holds(&birth.device.hardware)
                || birth.tags.iter().any(|(name, value)| holds(&format!("{name}={value}")))
        })
    };
    holds(&id.to_string()) || in_birth() || device.state().is_some_and(|state| holds(&state.reason))
}

/// A page of a list of devices.
#[derive(Debug)]
pub struct Page<'f> {
    /// The devices on it.
    pub devices: Vec<(&'f DeviceId, &'f Device)>,
    /// How many there are on all pages.
    pub total: usize,
    /// Its number, from 1; the last one if a later one was asked for.
    pub number: usize,
    /// How many pages there are, at least 1.
    pub pages: usize,
}

impl Fleet {
    /// The devices that `filter` takes, by name.
    pub fn select<'f>(
        &'f self,
        filter: &'f Filter,
        now_ms: u64,
    ) -> impl Iterator<Item = (&'f DeviceId, &'f Device)> {
        self.iter().filter(move |(id, device)| filter.takes(id, device, now_ms))
    }

    /// A page of the devices that `filter` takes. Devices that `sort` does not tell apart are in the order
    /// of their names, whatever the direction.
    #[must_use]
    pub fn page(
        &self,
        filter: &Filter,
        sort: Sort,
        descending: bool,
        number: usize,
        now_ms: u64,
    ) -> Page<'_> {
        let taken = self.iter().filter(|(id, device)| filter.takes(id, device, now_ms));
        let mut keyed: Vec<_> =
            taken.map(|(id, device)| (key(sort, device, now_ms), id, device)).collect();
        if sort != Sort::Name {
            keyed.sort_by(|(a, ..), (b, ..)| {
                let order = a.compare(b);
                if descending { order.reverse() } else { order }
            });
        } else if descending {
            keyed.reverse();
        }
        let (total, pages) = (keyed.len(), keyed.len().div_ceil(PAGE).max(1));
        let number = number.clamp(1, pages);
        let shown = keyed.into_iter().skip((number - 1) * PAGE).take(PAGE);
        Page { devices: shown.map(|(_, id, device)| (id, device)).collect(), total, number, pages }
    }
}

enum Key<'d> {
    Number(f64),
    Text(&'d str),
}

impl Key<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

/// What devices are sorted by; what is not known comes first.
fn key(sort: Sort, device: &Device, now_ms: u64) -> Key<'_> {
    let state = device.state();
    match sort {
        Sort::Name => Key::Number(0.0),
        Sort::Status => Key::Number(f64::from(device.status_at(now_ms) as u8)),
        Sort::State => Key::Text(state.map_or("", |state| &state.state)),
        Sort::Step => {
            let share = |state: &crate::contract::wire::State| {
                if state.steps == 0 { -1.0 } else { state.step as f64 / state.steps as f64 }
            };
            Key::Number(state.map_or(-1.0, share))
        }
        Sort::Gain => Key::Number(gain(device).unwrap_or(f64::NEG_INFINITY)),
        Sort::Trained => {
            let trained = state.and_then(|state| state.last_trained_ms);
            Key::Number(trained.map_or(-1.0, |ms| ms as f64))
        }
        Sort::Alarms => {
            Key::Number(alarms::worst(device, now_ms).map_or(-1.0, |worst| f64::from(worst as u8)))
        }
    }
}
