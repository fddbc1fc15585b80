//! The JSON Schema of every message, made from the wire types and committed in `docs/schema/`.
//!
//! Exists in tests alone, so that the program has nothing of it. After a change of the contract,
//! `LATROD_WRITE_SCHEMAS=1 cargo test --lib contract::schema` writes the files anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::envelope::{Envelope, PAYLOAD_TYPE};
use super::event::tests::examples;
use super::topics::MAX_COMMAND_ID_BYTES;
use super::wire::{
    Ack, AckState, Action, Birth, Command, EventMessage, EventMessageSchema, Head,
    MAX_ARGUMENT_BYTES, Message, Presence, RawCommand, State, Status, StepProgress, VERSION,
};

/// A message of a device whose body has the schema of `T`.
fn message<T: JsonSchema>(title: &str) -> Value {
    let mut schema = schema_for!(Message<T>).to_value();
    schema["title"] = title.into();
    schema["properties"]["v"]["const"] = VERSION.into();
    schema
}

/// The command in an envelope's payload. Which arguments it needs follows from its name.
fn command() -> Value {
    let mut schema = schema_for!(RawCommand).to_value();
    schema["title"] = "command".into();
    let fields = &mut schema["properties"];
    fields["v"]["const"] = VERSION.into();
    fields["id"]["pattern"] = format!("^[0-9A-Za-z_-]{{1,{MAX_COMMAND_ID_BYTES}}}$").into();
    fields["command"]["enum"] = json!(Action::NAMES);
    let arguments = ["version", "key", "value"];
    for argument in arguments {
        fields[argument]["type"] = "string".into();
        fields[argument]["maxLength"] = MAX_ARGUMENT_BYTES.into();
    }
    let needs = |name: &str| match name {
        "promote" => &arguments[..1],
        "set" => &arguments[1..],
        _ => &[],
    };
    let rule = |name: &&str| {
        let needs = needs(name);
        let others = arguments.iter().filter(|argument| !needs.contains(argument));
        let others: serde_json::Map<_, _> =
            others.map(|&argument| (argument.to_owned(), false.into())).collect();
        json!({
            "if": {"properties": {"command": {"const": name}}},
            "then": {"required": needs, "properties": others},
        })
    };
    schema["allOf"] = Action::NAMES.iter().map(rule).collect();
    schema
}

fn envelope() -> Value {
    let mut schema = schema_for!(Envelope).to_value();
    schema["title"] = "envelope".into();
    schema["properties"]["payloadType"]["const"] = PAYLOAD_TYPE.into();
    schema["properties"]["signatures"]["maxItems"] = 1.into();
    schema
}

/// All schemas, by the names of their files.
fn schemas() -> BTreeMap<&'static str, Value> {
    [
        ("status", message::<Status>("status")),
        ("birth", message::<Birth>("birth")),
        ("state", message::<State>("state")),
        ("progress", message::<StepProgress>("progress")),
        ("event", message::<EventMessageSchema>("event")),
        ("ack", message::<Ack>("ack")),
        ("envelope", envelope()),
        ("command", command()),
    ]
    .into()
}

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    folder.join(format!("{name}.schema.json"))
}

/// What is wrong with a value by the schema of that name.
fn violations(name: &str, value: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(&schemas()[name]).expect("a schema");
    validator.iter_errors(value).map(|error| error.to_string()).collect()
}

fn assert_valid(name: &str, value: &impl serde::Serialize) {
    let value = serde_json::to_value(value).unwrap();
    assert_eq!(violations(name, &value), [""; 0], "{name}: {value}");
}

fn with_head<T>(body: T) -> Message<T> {
    let head = Head { v: VERSION, id: "5e-7".to_owned(), connection: 3, seq: 7, time_ms: 1 };
    Message { head, body }
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (name, schema) in schemas() {
        jsonschema::meta::validate(&schema).expect("a sound schema");
        let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("LATROD_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(file(name).parent().unwrap()).unwrap();
            std::fs::write(file(name), expected).unwrap();
            continue;
        }
        let found = std::fs::read_to_string(file(name)).unwrap_or_default();
        assert!(
            found == expected,
            "{} is out of date: LATROD_WRITE_SCHEMAS=1 cargo test --lib contract::schema",
            file(name).display()
        );
    }
    let files = std::fs::read_dir(file("").parent().unwrap()).unwrap();
    assert_eq!(files.count(), schemas().len(), "docs/schema has files that are no schema of ours");
}

#[test]
fn every_message_fits_its_schema() {
    let boot_id = "00ff00ff00ff00ff".to_owned();
    for status in [Presence::Online, Presence::Offline] {
        let reason = "connected".to_owned();
        assert_valid("status", &with_head(Status { status, boot_id: boot_id.clone(), reason }));
    }
    assert_valid("birth", &with_head(Birth::default()));
    let model = Some(super::wire::ModelInfo::default());
    assert_valid("birth", &with_head(Birth { boot_id, model, ..Birth::default() }));
    assert_valid("state", &with_head(State::default()));
    let adapter = Some(super::wire::AdapterInfo::default());
    assert_valid("state", &with_head(State { adapter, ..State::default() }));
    assert_valid(
        "progress",
        &with_head(StepProgress::new(1, 2, [("kl", f64::NAN), ("loss", 0.5)])),
    );
    for event in examples() {
        assert_valid("event", &with_head(EventMessage::from(&event)));
    }
    for state in AckState::ALL {
        let ack = |reason| Ack { command: "c1".to_owned(), state, reason };
        assert_valid("ack", &with_head(ack(None)));
        assert_valid("ack", &with_head(ack(Some("why".to_owned()))));
    }
}

#[test]
fn every_command_fits_its_schema() {
    let text = |text: &str| text.to_owned();
    for name in Action::NAMES {
        let (version, key, value) = match name {
            "promote" => (Some(text("00000003-0a1b2c3d")), None, None),
            "set" => (None, Some(text("learn.steps")), Some(text(""))),
            _ => (None, None, None),
        };
        let action = super::wire::action(name, version, key, value).unwrap();
        let (fleet, device, id) = (text("f"), text("d"), text("c-1_A"));
        let payload = Command { fleet, device, id, action, issued: 10, expires: 20 }.to_json();
        assert_valid("command", &serde_json::from_slice::<Value>(&payload).unwrap());
        assert_valid("envelope", &Envelope::unsigned(&payload));
    }
}

/// What the parser refuses, the schema refuses as well.
#[test]
fn commands_that_are_refused_do_not_fit_the_schema() {
    let good = json!({"v": 2, "fleet": "f", "device": "d", "id": "c1", "command": "pause",
        "issued": 10, "expires": 20});
    assert_valid("command", &good);
    let changes = [
        ("v", json!(1)),
        ("id", json!("a/b")),
        ("id", json!("")),
        ("command", json!("evaluate")),
        ("command", json!("promote")),
        ("command", json!("set")),
        ("version", json!("3")),
        ("value", json!("x")),
        ("issued", json!(-1)),
        ("expires", json!("20")),
        ("later", json!(1)),
        ("fleet", Value::Null),
    ];
    for (field, value) in changes {
        let mut changed = good.clone();
        changed[field] = value;
        assert!(!violations("command", &changed).is_empty(), "{changed}");
        assert!(Command::parse(changed.to_string().as_bytes()).is_err(), "{changed}");
    }
}
