//! `/metrics`: the fleet in numbers for Prometheus, in the text format of `OpenMetrics` 1.0.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Shared;
use crate::dashboard::fleet::Status;
use crate::dashboard::fleet::summary::Summary;
use crate::dashboard::hub::{Line, now_ms};

/// Serves them.
pub async fn show(State(hub): Shared) -> impl IntoResponse {
    let summary = Summary::of(&hub.fleet(), now_ms());
    let text = text(&summary, hub.line() == Line::Up, hub.dropped());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text)
}

/// The text of a summary.
fn text(summary: &Summary, is_up: bool, dropped: u64) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        let _ = writeln!(text, "# TYPE latrod_{name} {kind}\n# HELP latrod_{name} {help}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in samples {
            let _ = writeln!(text, "latrod_{name}{suffix}{labels} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    let labeled = |name: &str, value: &str, count: usize| {
        (format!("{{{name}=\"{}\"}}", escaped(value)), count as f64)
    };
    let status = Status::ALL.map(|status| {
        labeled("status", status.name(), summary.status.get(&status).copied().unwrap_or_default())
    });
    family("devices", "gauge", "Devices by whether they are there.", &status);
    let states: Vec<_> = summary.states.iter().map(|(s, n)| labeled("state", s, *n)).collect();
    family("device_states", "gauge", "Devices that are there, by what they do.", &states);
    let alarms: Vec<_> = summary.alarms.iter().map(|(a, n)| labeled("alarm", a, *n)).collect();
    family("device_alarms", "gauge", "Devices by what is wrong with them.", &alarms);
    let learning = one(summary.learning as f64);
    family("devices_learning", "gauge", "Devices that have trained within a week.", &learning);
    let improved = one(summary.improved as f64);
    family("devices_improved", "gauge", "Devices with a promoted adapter.", &improved);
    if let Some(gain) = summary.median_gain {
        let help =
            "Median gain of active adapters over their parents, as a share of held-out questions.";
        family("median_gain_ratio", "gauge", help, &one(gain));
    }
    family("broker_up", "gauge", "Whether messages come in.", &one(f64::from(u8::from(is_up))));
    let help = "Records that were dropped because the history was too slow.";
    family("history_dropped_records", "counter", help, &one(dropped as f64));
    text + "# EOF\n"
}

/// A label's value (`OpenMetrics`, "Escaping").
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_open_metrics_wants() {
        let mut summary = Summary { devices: 1, learning: 1, ..Summary::default() };
        summary.states.insert("a\"b\\c\nd".to_owned(), 2);
        let text = text(&summary, true, 3);
        assert!(text.contains("latrod_device_states{state=\"a\\\"b\\\\c\\nd\"} 2\n"), "{text}");
        assert!(text.contains("# TYPE latrod_history_dropped_records counter\n"), "{text}");
        assert!(text.contains("latrod_history_dropped_records_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("median"));
    }
}
