//! What a device tells Home Assistant of itself: MQTT discovery, one message for the whole device
//! (<https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>).
//!
//! Its entities read the device's own `status` and `state`; nothing else is published for them.

use serde_json::{Value, json};

use crate::contract::topics::{Kind, Topics};
use crate::contract::wire::Birth;

/// Longest state of an entity that Home Assistant takes, in characters.
const MAX_STATE: usize = 255;

/// A device's discovery message.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// Where it is published, retained.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Where Home Assistant says that it has started; `prefix` is that of discovery.
#[must_use]
pub fn birth_topic(prefix: &str) -> String {
    format!("{prefix}/status")
}

/// Whether a message is Home Assistant's own, and says that it is there.
#[must_use]
pub fn is_birth(prefix: &str, topic: &str, payload: &[u8]) -> bool {
    topic == birth_topic(prefix) && payload == b"online"
}

impl Discovery {
    /// That of the device of `topics`, below `prefix`.
    #[must_use]
    pub fn new(prefix: &str, topics: &Topics, birth: &Birth) -> Self {
        let id = id(topics);
        let device = json!({
            "identifiers": [&id],
            "name": topics.device(),
            "manufacturer": "latrod",
            "model": birth.device.hardware,
            "sw_version": birth.version,
        });
        let whole = json!({
            "device": device,
            "origin": {"name": "latrod", "sw_version": birth.version},
            "components": components(&id),
            "state_topic": topics.of(&Kind::State),
            "availability_topic": topics.of(&Kind::Status),
            "availability_template": "{{ value_json.status }}",
            "payload_available": "online",
            "payload_not_available": "offline",
            "qos": 1,
        });
        let topic = format!("{prefix}/device/{id}/config");
        Self { topic, payload: whole.to_string().into_bytes() }
    }
}

/// The device's name in Home Assistant, which takes letters, digits, - and _ only.
fn id(topics: &Topics) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("latrod_{}_{}", topics.fleet(), topics.device()).chars().map(plain).collect()
}

/// A sensor: its key, its name, how its value follows from `state`, and what else Home Assistant is told.
type Sensor = (&'static str, &'static str, String, Value);

fn sensors() -> [Sensor; 6] {
    let trained = "{{ (value_json.last_trained_ms / 1000) \
                   | timestamp_custom('%Y-%m-%dT%H:%M:%SZ', false) \
                   if value_json.last_trained_ms else none }}";
    let run = "{{ (100 * value_json.step / value_json.steps) | round if value_json.steps else 0 }}";
    let adapter = "{{ value_json.adapter.version if value_json.adapter else 'base model' }}";
    let reason = format!("{{{{ value_json.reason[:{MAX_STATE}] }}}}");
    let icon = |name: &str| json!({ "icon": name });
    [
        ("state", "State", "{{ value_json.state }}".into(), icon("mdi:school")),
        ("reason", "Reason", reason, icon("mdi:help-circle")),
        ("run", "Run", run.into(), json!({"unit_of_measurement": "%"})),
        ("adapter", "Adapter", adapter.into(), icon("mdi:certificate")),
        (
            "tasks",
            "Tasks",
            "{{ value_json.counts.train_tasks }}".into(),
            json!({"state_class": "measurement"}),
        ),
        ("trained", "Last trained", trained.into(), json!({"device_class": "timestamp"})),
    ]
}

/// The entities by their keys.
fn components(id: &str) -> Value {
    let mut all = serde_json::Map::new();
    for (key, name, template, more) in sensors() {
        let mut entity = json!({
            "platform": "sensor",
            "name": name,
            "unique_id": format!("{id}_{key}"),
            "value_template": template,
        });
        if let (Some(entity), Value::Object(more)) = (entity.as_object_mut(), more) {
            entity.extend(more);
        }
        all.insert(key.to_owned(), entity);
    }
    let problem =
        "{{ 'ON' if value_json.alarms | rejectattr('severity', 'eq', 'info') | list else 'OFF' }}";
    all.insert(
        "problem".to_owned(),
        json!({
            "platform": "binary_sensor",
            "name": "Problem",
            "unique_id": format!("{id}_problem"),
            "device_class": "problem",
            "value_template": problem,
        }),
    );
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, Value as Rendered, context};

    use super::*;
    use crate::contract::event::Severity;
    use crate::contract::wire::{AdapterInfo, Alarm, State};

    /// A message as a template sees it.
    fn json_of(json: &Value) -> Rendered {
        match json {
            Value::Null => Rendered::from(()),
            Value::Bool(is) => Rendered::from(*is),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Rendered::from(whole),
                None => Rendered::from(number.as_f64()),
            },
            Value::String(text) => Rendered::from(text.as_str()),
            Value::Array(items) => items.iter().map(json_of).collect::<Vec<_>>().into(),
            Value::Object(fields) => {
                Rendered::from_pairs(fields.iter().map(|(name, v)| (name.clone(), json_of(v))))
            }
        }
    }

    /// What Home Assistant would show for each entity, by its name.
    fn shown(state: &State) -> Vec<(String, String)> {
        let topics = Topics::new("press.hall", "jetson-3").unwrap();
        let birth = Birth { version: "0.1.0".to_owned(), ..Birth::default() };
        let discovery = Discovery::new("homeassistant", &topics, &birth);
        assert_eq!(discovery.topic, "homeassistant/device/latrod_press_hall_jetson-3/config");
        let whole: Value = serde_json::from_slice(&discovery.payload).unwrap();
        assert_eq!(whole["state_topic"], "latro/v2/press.hall/jetson-3/state");
        assert_eq!(whole["availability_topic"], "latro/v2/press.hall/jetson-3/status");
        let state = serde_json::to_value(state).unwrap();
        let mut jinja = Environment::new();
        // Home Assistant's own; the format is the one that it is asked for.
        jinja.add_filter("timestamp_custom", |seconds: f64, format: String, local: bool| {
            assert_eq!((format.as_str(), local), ("%Y-%m-%dT%H:%M:%SZ", false));
            jiff::Timestamp::from_second(seconds as i64).unwrap().to_string()
        });
        let entities = whole["components"].as_object().unwrap().iter();
        let value = |entity: &Value| {
            let template = entity["value_template"].as_str().unwrap();
            jinja.render_str(template, context! { value_json => json_of(&state) }).unwrap()
        };
        entities.map(|(_, e)| (e["name"].as_str().unwrap().to_owned(), value(e))).collect()
    }

    #[test]
    fn every_entity_has_a_value_from_the_first_state_on() {
        let mut state = State { state: "waiting_for_tasks".into(), ..State::default() };
        state.counts.insert("train_tasks".into(), 0);
        let shown = shown(&state);
        let of = |name: &str| shown.iter().find(|(n, _)| n == name).unwrap().1.as_str();

        assert_eq!(of("State"), "waiting_for_tasks");
        assert_eq!((of("Run"), of("Adapter"), of("Tasks")), ("0", "base model", "0"));
        assert_eq!((of("Last trained"), of("Problem")), ("None", "OFF"));
    }

    #[test]
    fn entities_follow_the_state() {
        let alarm =
            |severity| Alarm { alarm: "a".into(), severity, sentence: "s".into(), for_s: 1 };
        let mut state = State {
            state: "training".into(),
            reason: "x".repeat(1000),
            step: 5,
            steps: 20,
            adapter: Some(AdapterInfo { version: "00000001-0a".into(), sha256: String::new() }),
            last_trained_ms: Some(1_800_000_000_000),
            alarms: vec![alarm(Severity::Info)],
            ..State::default()
        };
        let first = shown(&state);
        let of = |shown: &[(String, String)], name: &str| {
            shown.iter().find(|(n, _)| n == name).unwrap().1.clone()
        };
        assert_eq!(of(&first, "Run"), "25.0");
        assert_eq!(of(&first, "Adapter"), "00000001-0a");
        assert_eq!(of(&first, "Reason").len(), MAX_STATE);
        assert_eq!(of(&first, "Last trained"), "2027-01-15T08:00:00Z");
        assert_eq!(of(&first, "Problem"), "OFF", "it waits for somebody, but nothing is wrong");

        state.alarms.push(alarm(Severity::Error));
        assert_eq!(of(&shown(&state), "Problem"), "ON");
    }

    #[test]
    fn home_assistant_says_when_it_has_started() {
        let is = |topic, payload| is_birth("homeassistant", topic, payload);
        assert!(is("homeassistant/status", b"online"));
        assert!(!is("homeassistant/status", b"offline") && !is("other/status", b"online"));
    }
}
