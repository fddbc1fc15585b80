//! What is wrong with a device now: what it says itself, and what it cannot say.

use super::Device;
use super::presence::{SILENT_AFTER_MS, Status};
use crate::contract::event::Severity;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its name; at most one of a name is listed.
    pub name: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence about it.
    pub sentence: String,
    /// Since when, in milliseconds since 1970 by the dashboard's clock.
    pub since_ms: u64,
    /// Who has seen it since.
    pub seen_by: Option<String>,
}

/// All that is wrong with a device, the worst first, and last what somebody has seen. What it said itself stands until it says otherwise, also
/// while it is away.
#[must_use]
pub fn of(device: &Device, now_ms: u64) -> Vec<Alarm> {
    let mut alarms = seen_from_outside(device, now_ms);
    if let Some(state) = device.state() {
        alarms.extend(state.alarms.iter().map(|alarm| Alarm {
            name: alarm.alarm.clone(),
            severity: alarm.severity,
            sentence: alarm.sentence.clone(),
            since_ms: device.alarm_since_ms(&alarm.alarm).unwrap_or(now_ms),
            seen_by: None,
        }));
    }
    for alarm in &mut alarms {
        let seen = device.seen.get(&alarm.name).filter(|seen| seen.at_ms >= alarm.since_ms);
        alarm.seen_by = seen.map(|seen| seen.who.clone());
    }
    alarms.sort_by_key(|alarm| (alarm.seen_by.is_some(), std::cmp::Reverse(alarm.severity)));
    alarms
}

/// Who has seen an alarm, and when. It is quiet until it comes anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The user's name.
    pub who: String,
    /// When, in milliseconds since 1970 by the dashboard's clock.
    pub at_ms: u64,
}

/// The worst severity of what is wrong with a device and nobody has seen.
#[must_use]
pub fn worst(device: &Device, now_ms: u64) -> Option<Severity> {
    worst_of(&of(device, now_ms))
}

/// The worst severity in a list of [`of`] that nobody has seen.
#[must_use]
pub fn worst_of(alarms: &[Alarm]) -> Option<Severity> {
    alarms.first().filter(|alarm| alarm.seen_by.is_none()).map(|alarm| alarm.severity)
}

fn seen_from_outside(device: &Device, now_ms: u64) -> Vec<Alarm> {
    let mut found = Vec::new();
    let mut add = |name: &str, severity, since_ms, sentence: String| {
        found.push(Alarm { name: name.to_owned(), severity, sentence, since_ms, seen_by: None });
    };
    if let Some(at_ms) = device.doubled_since_ms(now_ms) {
        let sentence = "two devices use this name: give one of them another (a copied disk image?)";
        add("name_used_twice", Severity::Error, at_ms, sentence.to_owned());
    }
    match device.status_at(now_ms) {
        Status::Lost => {
            let sentence = "the connection broke and has not come back".to_owned();
            add("connection_lost", Severity::Warning, device.arrived_ms(), sentence);
        }
        Status::Silent => {
            let minutes = SILENT_AFTER_MS / 60_000;
            let sentence = format!("it has said nothing for more than {minutes} minutes");
            add("silent", Severity::Warning, device.arrived_ms(), sentence);
        }
        Status::Online | Status::Stopped => {}
    }
    if let (Some(since_ms), Some(skew_ms)) = (device.skewed_since_ms(), device.skew_ms()) {
        let side = if skew_ms > 0 { "ahead" } else { "behind" };
        let sentence = format!("its clock is {} {side}", rough(skew_ms.unsigned_abs() / 1000));
        add("clock_skew", Severity::Warning, since_ms, sentence);
    }
    if let Some(since_ms) = device.unreadable.since_ms(now_ms) {
        let sentence = format!(
            "messages under its name cannot be read ({} so far): another version of latrod, or \
             somebody else",
            device.unreadable.count(now_ms)
        );
        add("unreadable_messages", Severity::Warning, since_ms, sentence);
    }
    found
}

/// A duration in its largest unit.
fn rough(s: u64) -> String {
    match s {
        0..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / 86_400),
    }
}
