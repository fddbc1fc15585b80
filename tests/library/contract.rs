//! `docs/mqtt.md`, `docs/schema/` and `docs/asyncapi.json` against the program: every example is read
//! and written again, fits its schema, and every topic and message is described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use latrod::contract::envelope::{Envelope, PAYLOAD_TYPE, pae};
use latrod::contract::keys::{OperatorKeys, fingerprint};
use latrod::contract::topics::{CommandTopic, Kind, MAX_COMMAND_ID_BYTES, MAX_NAME_BYTES, Topics};
use latrod::contract::wire::{
    Ack, AckState, Action, Birth, Command, EventMessage, MAX_AHEAD_S, MAX_ARGUMENT_BYTES,
    MAX_COMMAND_BYTES, MAX_LIFE_S, MAX_PAYLOAD_BYTES, Message, State, Status, StepProgress,
    VERSION,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const MESSAGES: [&str; 7] = ["status", "birth", "state", "progress", "event", "ack", "command"];

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(docs(file)).unwrap()
}

fn read_json(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

/// Blocks of one language, each with the first word in backquotes of the heading above it.
fn blocks(language: &str) -> Vec<(String, String)> {
    let (text, fence) = (read("mqtt.md"), format!("```{language}"));
    let (mut found, mut heading, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in text.lines() {
        match &mut block {
            Some(text) if line == "```" => {
                found.push((heading.clone(), std::mem::take(text)));
                block = None;
            }
            Some(text) => *text += &format!("{line}\n"),
            None if line == fence => block = Some(String::new()),
            None if line.starts_with('#') => {
                heading = line.split('`').nth(1).unwrap_or(line).to_owned();
            }
            None => {}
        }
    }
    found
}

fn again<T: Serialize + DeserializeOwned>(block: &str) -> Value {
    serde_json::to_value(Message::<T>::parse(block.as_bytes()).unwrap()).unwrap()
}

#[test]
fn every_example_is_read_and_written_again() {
    let mut seen = BTreeSet::new();
    for (heading, block) in blocks("json") {
        let value: Value = serde_json::from_str(&block).unwrap();
        let written = match heading.as_str() {
            "status" => again::<Status>(&block),
            "birth" => again::<Birth>(&block),
            "state" => again::<State>(&block),
            "progress" => again::<StepProgress>(&block),
            "event" => again::<EventMessage>(&block),
            "ack" => again::<Ack>(&block),
            "command" => {
                let command = Command::parse(block.as_bytes()).unwrap();
                serde_json::from_slice(&command.to_json()).unwrap()
            }
            "envelope" => {
                let envelope = Envelope::parse(block.as_bytes()).unwrap();
                serde_json::from_slice(&envelope.to_json()).unwrap()
            }
            other => panic!("an example under {other:?}"),
        };
        assert_eq!(written, value, "{heading}");
        let schema = read_json(&format!("schema/{heading}.schema.json"));
        let errors: Vec<String> = jsonschema::draft202012::new(&schema)
            .unwrap()
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(errors, [""; 0], "{heading}: {block}");
        seen.insert(heading);
    }
    let expected = MESSAGES.into_iter().chain(["envelope"]).map(str::to_owned);
    assert_eq!(seen, expected.collect());
}

/// The worked example: test 1 of RFC 8032, signed by another program.
#[test]
fn the_worked_example_is_right_byte_by_byte() {
    let text = blocks("text");
    let [(_, keys), (_, signed)] = text.as_slice() else { panic!("{text:?}") };
    let signed = signed.trim_end();
    let keys: BTreeMap<&str, &str> = keys
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(k, v)| (k, v.trim()))
        .collect();
    let hex = |text: &str| -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    };
    let key = SigningKey::from_bytes(&hex(keys["seed"]).try_into().unwrap());
    assert_eq!(key.verifying_key().to_bytes().to_vec(), hex(keys["public"]));
    assert_eq!(fingerprint(&key.verifying_key()), keys["keyid"]);

    let (_, block) = blocks("json").into_iter().find(|(h, _)| h == "envelope").unwrap();
    let envelope = Envelope::parse(block.as_bytes()).unwrap();
    let payload = envelope.open(&OperatorKeys::from(vec![key.verifying_key()]), false).unwrap();
    assert_eq!(pae(PAYLOAD_TYPE, &payload), signed.as_bytes());
    assert_eq!((signed.len(), payload.len(), PAYLOAD_TYPE.len()), (200, 150, 35));
    // Ed25519 has one signature for each key and message.
    assert_eq!(Envelope::signed(&key, &payload), envelope);
    let command = Command::parse(&payload).unwrap();
    assert_eq!(command.action, Action::Promote { version: "00000003-0a1b2c3d".to_owned() });
    assert_eq!(command.to_json(), payload);
}

#[test]
fn limits_and_names_are_those_of_the_program() {
    let text = read("mqtt.md");
    let numbers = [
        format!("| a message of a device | {MAX_PAYLOAD_BYTES} bytes |"),
        format!("| a command with its envelope | {MAX_COMMAND_BYTES} bytes;"),
        format!("in a command | {MAX_ARGUMENT_BYTES} bytes, no control characters |"),
        format!("the id of a command | {MAX_NAME_BYTES} bytes |"),
        format!("at most {MAX_LIFE_S} (a week) apart"),
        format!("at most {MAX_AHEAD_S} s ahead of the device's clock"),
        format!("| `v` | integer | version of the contract: {VERSION}."),
        format!("has at most {MAX_COMMAND_BYTES} bytes, the right `payloadType`"),
    ];
    let actions = Action::NAMES.map(|name| format!("\n| `{name}` | "));
    let states = AckState::ALL.map(|state| format!("\n| `{state}` | "));
    for expected in numbers.iter().chain(&actions).chain(&states) {
        assert!(text.contains(expected), "docs/mqtt.md does not say {expected:?}");
    }
    assert_eq!(MAX_COMMAND_ID_BYTES, MAX_NAME_BYTES);
}

/// Each event of the schema has a row in the table, and each row an event.
#[test]
fn every_event_is_described() {
    let schema = read_json("schema/event.schema.json");
    let events = schema["oneOf"].as_array().unwrap().iter();
    let events: BTreeSet<&str> =
        events.map(|e| e["properties"]["event"]["const"].as_str().unwrap()).collect();
    let text = read("mqtt.md");
    let table = text.split_once("| `event` | severity | `detail` |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    assert_eq!(names.collect::<BTreeSet<_>>(), events);
    assert!(events.len() >= 28);
}

/// Where a `$ref` of the `AsyncAPI` document leads.
fn follow<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
    document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere"))
}

#[test]
fn the_asyncapi_document_has_every_topic_and_message() {
    let document = read_json("asyncapi.json");
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["info"]["version"], VERSION.to_string());
    let topics = Topics::new("FLEET", "DEVICE").unwrap();
    let id = "ID".to_owned();
    let kinds = [
        ("status", Kind::Status, 1, true),
        ("birth", Kind::Birth, 1, true),
        ("state", Kind::State, 1, true),
        ("progress", Kind::Progress, 0, false),
        ("event", Kind::Event, 1, false),
        ("ack", Kind::Ack(id.clone()), 1, false),
        ("command", Kind::Command(CommandTopic { action: "COMMAND".to_owned(), id }), 1, false),
    ];
    assert_eq!(kinds.each_ref().map(|kind| kind.0), MESSAGES);
    for part in ["channels", "operations"] {
        assert_eq!(document[part].as_object().unwrap().len(), MESSAGES.len());
    }
    let mut schemas = BTreeSet::new();
    for (name, kind, qos, retained) in kinds {
        let channel = &document["channels"][name];
        let mut address = channel["address"].as_str().unwrap().to_owned();
        for (parameter, reference) in channel["parameters"].as_object().unwrap() {
            follow(&document, reference);
            let placeholder = format!("{{{parameter}}}");
            assert!(address.contains(&placeholder), "{name} has no {parameter}");
            address = address.replace(&placeholder, &parameter.to_uppercase());
        }
        assert_eq!(address, topics.of(&kind));

        let message = follow(&document, &channel["messages"][name]);
        let operation = &document["operations"][name];
        assert_eq!(follow(&document, &operation["channel"]), channel);
        assert_eq!(follow(&document, &operation["messages"][0]), &channel["messages"][name]);
        let action = if name == "command" { "receive" } else { "send" };
        assert_eq!(operation["action"], action);
        let binding = &operation["bindings"]["mqtt"];
        assert_eq!(
            (&binding["qos"], &binding["retain"]),
            (&qos.into(), &retained.into()),
            "{name}"
        );
        for part in ["payload", "x-signed-payload"] {
            if let Some(file) = message[part]["$ref"].as_str() {
                assert_eq!(
                    read_json(file)["$schema"],
                    "https://json-schema.org/draft/2020-12/schema"
                );
                schemas.insert(Path::new(file).file_name().unwrap().to_owned());
            }
        }
    }
    let files = std::fs::read_dir(docs("schema")).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(schemas, files.collect());
    let commands = &document["components"]["parameters"]["command"]["enum"];
    assert_eq!(commands, &serde_json::json!(Action::NAMES));
}
