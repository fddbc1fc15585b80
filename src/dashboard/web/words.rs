//! Numbers, times and states as people read them.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::contract::event::Severity;
use crate::dashboard::fleet::Status;

/// A whole number with thousands separated.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with as many places as say something.
pub fn number(x: f64) -> String {
    match x.abs() {
        a if a >= 1e9 || !x.is_finite() => format!("{x:.1e}"),
        a if a >= 1000.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        0.0 => "0".to_owned(),
        a if a < 0.001 => format!("{x:.1e}"),
        _ => format!("{x:.3}"),
    }
}

/// A gain of accuracy, in points.
pub fn points(share: f64) -> String {
    format!("{:+.1} points", 100.0 * share)
}

/// A duration.
pub fn duration(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} days", s / 86_400),
    }
}

/// A duration in its largest unit, in the same words as `live.js`.
fn roughly(s: u64) -> String {
    if (3600..172_800).contains(&s) { format!("{} h", s / 3600) } else { duration(s) }
}

/// A time in milliseconds since 1970: how long ago, with the time itself for machines; the browser goes on
/// counting. A device's clock may be in the future, or no time at all.
pub fn ago(at_ms: u64, now_ms: u64) -> Markup {
    let words = match now_ms.checked_sub(at_ms) {
        Some(ms) => format!("{} ago", roughly(ms / 1000)),
        None => format!("in {}", roughly((at_ms - now_ms) / 1000)),
    };
    html! {
        @match iso(at_ms) {
            Some(iso) => { time datetime=(iso) data-ago { (words) } }
            None => { span { "at an unknown time" } }
        }
    }
}

/// A time in milliseconds since 1970, as ISO 8601; nothing if no calendar has it.
pub fn iso(at_ms: u64) -> Option<String> {
    let time = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The shape that goes with whether a device is there, so that color is not needed.
pub const fn mark(status: Status) -> &'static str {
    match status {
        Status::Online => "●",
        Status::Silent => "◌",
        Status::Lost => "✕",
        Status::Stopped => "■",
    }
}

/// The number of a name, if it is a share, as of right answers.
pub fn share(numbers: &std::collections::BTreeMap<String, f64>, name: &str) -> Option<f64> {
    numbers.get(name).copied().filter(|share| (-1.0..=1.0).contains(share))
}

/// The shape of a severity.
pub const fn severity_mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "·",
        Severity::Warning => "▲",
        Severity::Error => "✕",
    }
}

/// One thing or several.
pub fn many(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// One device or several.
pub fn devices(n: usize) -> String {
    many(n, "device")
}

/// A signal's name and unit, from the name that has the unit at its end.
pub fn signal(name: &str) -> (String, &'static str) {
    let units = [("_percent", "%"), ("_mib", "MiB"), ("_celsius", "°C"), ("_s", "s")];
    let found = units.iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, *unit)));
    let (name, unit) = found.unwrap_or((name, ""));
    (plain(name), unit)
}

/// A name with underscores, in words.
pub fn plain(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(
            ["0", "12", "999", "1,000", "1,234,567"],
            [0, 12, 999, 1000, 1_234_567].map(count)
        );
        let written = [0.0, -0.25, 12.34, 1234.5, 0.00012, -2.5].map(number);
        assert_eq!(written, ["0", "-0.250", "12.3", "1234", "1.2e-4", "-2.500"]);
        assert_eq!([devices(1), devices(1200)], ["1 device", "1,200 devices"]);
        assert_eq!(signal("free_disk_mib"), ("free disk".to_owned(), "MiB"));
        assert_eq!([points(0.041), points(-0.1)], ["+4.1 points", "-10.0 points"]);
        let lasted = [59, 60, 3599, 3600, 90_000, 172_800].map(duration);
        assert_eq!(lasted, ["59 s", "1 min", "59 min", "1 h 0 min", "25 h 0 min", "2 days"]);
    }

    #[test]
    fn times_of_wrong_clocks_are_times_or_none() {
        assert_eq!(iso(1_800_000_000_123).as_deref(), Some("2027-01-15T08:00:00Z"));
        assert_eq!(iso(u64::MAX), None);
        assert!(ago(5_000, 1_000).into_string().contains("in 4 s"));
        assert!(ago(u64::MAX, 0).into_string().contains("at an unknown time"));
    }
}
