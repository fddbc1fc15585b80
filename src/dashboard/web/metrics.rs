//! `/metrics`: the fleet in numbers for Prometheus, in the text format of `OpenMetrics` 1.0 or in the one before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;

use super::Shared;
use crate::dashboard::fleet::summary::{Summary, gain};
use crate::dashboard::fleet::{Device, DeviceId, Fleet, Status, alarms};
use crate::dashboard::hub::{Line, now_ms};

/// `OpenMetrics`, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The text format of before, for everybody else.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves them.
pub async fn show(State(hub): Shared, headers: HeaderMap) -> impl IntoResponse {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_open = accepted.into_iter().any(|value| value.contains("application/openmetrics-text"));
    let mut text = Text { text: String::new(), is_open };
    let now_ms = now_ms();
    {
        let fleet = hub.fleet();
        text.fleet(&Summary::of(&fleet, now_ms));
        if hub.settings.page.device_metrics {
            text.devices(&fleet, now_ms);
        }
    }
    text.own(hub.line() == Line::Up, hub.dropped());
    ([(header::CONTENT_TYPE, if is_open { OPEN_METRICS } else { PLAIN })], text.end())
}

/// Metrics as they are written.
struct Text {
    text: String,
    /// Whether it is `OpenMetrics`.
    is_open: bool,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        // In the older format a family has the name of its samples.
        let family = if self.is_open { "" } else { suffix };
        let _ = writeln!(self.text, "# HELP latrod_{name}{family} {help}");
        let _ = writeln!(self.text, "# TYPE latrod_{name}{family} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.text, "latrod_{name}{suffix}{labels} {value}");
        }
    }

    /// The fleet in sums.
    fn fleet(&mut self, summary: &Summary) {
        let status = Status::ALL.map(|status| {
            let count = summary.status.get(&status).copied().unwrap_or_default();
            (labels(&[("status", status.name())]), count as f64)
        });
        self.family("devices", "gauge", "Devices by whether they are there.", &status);
        let counted = |name: &str, counts: &BTreeMap<String, usize>| -> Vec<_> {
            counts.iter().map(|(value, n)| (labels(&[(name, value)]), *n as f64)).collect()
        };
        let states = counted("state", &summary.states);
        self.family("device_states", "gauge", "Devices that are there, by what they do.", &states);
        let alarms = counted("alarm", &summary.alarms);
        self.family("device_alarms", "gauge", "Devices by what is wrong with them.", &alarms);
        let learning = one(summary.learning as f64);
        let help = "Devices that have trained within a week.";
        self.family("devices_learning", "gauge", help, &learning);
        let improved = one(summary.improved as f64);
        self.family("devices_improved", "gauge", "Devices with a promoted adapter.", &improved);
        if let Some(gain) = summary.median_gain {
            let help = "Median gain of active adapters over their parents, as a share of held-out questions.";
            self.family("median_gain_ratio", "gauge", help, &one(gain));
        }
    }

    /// Every device that is known; one that was retired is gone.
    fn devices<'a>(&mut self, fleet: &'a Fleet, now_ms: u64) {
        let named = |(id, device): (&DeviceId, &'a Device)| {
            (labels(&[("fleet", &id.fleet), ("device", &id.device)]), device)
        };
        let devices: Vec<(String, &Device)> = fleet.iter().map(named).collect();
        let of = |value: &dyn Fn(&Device) -> Option<f64>| -> Vec<(String, f64)> {
            let sample =
                |(labels, device): &(String, &Device)| Some((labels.clone(), value(device)?));
            devices.iter().filter_map(sample).collect()
        };
        let is = |holds: bool| Some(f64::from(u8::from(holds)));
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let online = of(&|device| is(device.status_at(now_ms) == Status::Online));
        self.family("device_online", "gauge", "Whether the device is there.", &online);
        let training = of(&|device| is(device.state()?.state == "training"));
        self.family("device_training", "gauge", "Whether the device trains.", &training);
        let heard = of(&|device| Some(seconds(device.arrived_ms())));
        let help = "When the device was last heard of, in unix time.";
        self.family("device_heard_timestamp_seconds", "gauge", help, &heard);
        let trained = of(&|device| device.state()?.last_trained_ms.map(seconds));
        let help = "When the device last trained, in unix time by its own clock.";
        self.family("device_trained_timestamp_seconds", "gauge", help, &trained);
        let alarms = of(&|device| Some(alarms::of(device, now_ms).len() as f64));
        self.family("device_active_alarms", "gauge", "What is wrong with the device.", &alarms);
        let gains = of(&gain);
        let help = "Gain of the active adapter over its parent, as a share of held-out questions.";
        self.family("device_gain_ratio", "gauge", help, &gains);
        let steps = of(&|device| device.state().map(|state| state.step as f64));
        self.family("device_step", "gauge", "The step of the run in progress.", &steps);
        for (name, metric, help) in [
            ("reward", "device_reward", "Mean reward of the last step's rationales."),
            ("right_share", "device_right_ratio", "Right answers among the last step's."),
        ] {
            let last = of(&|device| device.progress()?.numbers.get(name).copied());
            self.family(metric, "gauge", help, &last);
        }
    }

    /// The dashboard itself.
    fn own(&mut self, is_up: bool, dropped: u64) {
        let up = one(f64::from(u8::from(is_up)));
        self.family("broker_up", "gauge", "Whether messages come in.", &up);
        let help = "Records that were dropped because the history was too slow.";
        self.family("history_dropped_records", "counter", help, &one(dropped as f64));
    }

    fn end(self) -> String {
        self.text + if self.is_open { "# EOF\n" } else { "" }
    }
}

fn one(value: f64) -> [(String, f64); 1] {
    [(String::new(), value)]
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let each: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", each.join(","))
}

/// A label's value (`OpenMetrics`, "Escaping").
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(summary: &Summary, is_open: bool) -> String {
        let mut text = Text { text: String::new(), is_open };
        text.fleet(summary);
        text.own(true, 3);
        text.end()
    }

    #[test]
    fn the_text_is_what_open_metrics_wants() {
        let mut summary = Summary { devices: 1, learning: 1, ..Summary::default() };
        summary.states.insert("a\"b\\c\nd".to_owned(), 2);
        let text = written(&summary, true);
        assert!(text.contains("latrod_device_states{state=\"a\\\"b\\\\c\\nd\"} 2\n"), "{text}");
        assert!(text.contains("# TYPE latrod_history_dropped_records counter\n"), "{text}");
        assert!(text.contains("latrod_history_dropped_records_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("median"));
    }

    #[test]
    fn whoever_does_not_ask_for_it_gets_the_older_text() {
        let text = written(&Summary::default(), false);
        assert!(text.contains("# TYPE latrod_history_dropped_records_total counter\n"), "{text}");
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn the_board_for_grafana_asks_for_nothing_that_is_not_there() {
        let board = include_str!("../../../configs/grafana.json");
        let _: serde_json::Value = serde_json::from_str(board).expect("JSON");
        let known = include_str!("metrics.rs");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut asked = 0;
        for (at, _) in board.match_indices("latrod_") {
            let name: String = board[at..].chars().take_while(|c| word(*c)).collect();
            let name = name.trim_start_matches("latrod_").trim_end_matches("_total");
            assert!(known.contains(&format!("\"{name}\"")), "{name}");
            asked += 1;
        }
        assert!(asked > 8, "only {asked} metrics are asked for");
    }
}
