use proptest::prelude::*;

use super::*;
use crate::contract::event::{Ending, Sentence};

fn with(fields: &str) -> String {
    format!(r#"{{"v":2,"fleet":"f","device":"d","id":"c1","issued":10,"expires":20,{fields}}}"#)
}

fn refused(payload: &str) -> String {
    Command::parse(payload.as_bytes()).unwrap_err()
}

#[test]
fn commands_are_read() {
    let read = |fields: &str| Command::parse(with(fields).as_bytes()).unwrap().action;
    assert_eq!(read(r#""command":"pause""#), Action::Pause);
    assert_eq!(
        read(r#""command":"promote","version":"00000003-0a1b2c3d""#),
        Action::Promote { version: "00000003-0a1b2c3d".to_owned() }
    );
    assert_eq!(
        read(r#""command":"set","key":"steps","value":"""#),
        Action::Set { key: "steps".to_owned(), value: String::new() }
    );
}

#[test]
fn whatever_does_not_fit_is_refused_without_repeating_it() {
    let canary = "SECRET";
    let payloads = [
        String::new(),
        canary.to_owned(),
        with(r#""command":"SECRET""#),
        with(r#""command":"pause","SECRET":1"#),
        with(r#""command":"pause","id":"SECRET""#),
        with(r#""command":"pause","version":"SECRET""#),
        with(r#""command":"promote""#),
        with(r#""command":"promote","version":"""#),
        with(r#""command":"promote","version":"SECRET\n""#),
        with(r#""command":"set","key":"SECRET""#),
        with(r#""command":"pause""#).replace("\"v\":2", "\"v\":1"),
        with(r#""command":"pause","signature":"SECRET""#),
        with(r#""command":"pause""#).replace(r#""device":"d","#, ""),
        with(r#""command":"pause""#).replace("c1", "a/SECRET"),
        with(r#""command":"pause""#).replace("10", "-10"),
        with(r#""command":"pause""#).replace("10", "\"SECRET\""),
        with(&format!(r#""command":"set","key":"k","value":"{}""#, "x".repeat(257))),
    ];
    for payload in payloads {
        let reason = refused(&payload);
        assert!(!reason.contains(canary) && reason.len() < 300, "{reason}");
    }
}

#[test]
fn a_message_is_one_flat_object() {
    let head = Head { v: VERSION, id: "5e-7".to_owned(), connection: 3, seq: 7, time_ms: 1 };
    let event = Event::WorkerDied { ending: Ending::Signal(9) };

    let text = serde_json::to_string(&Message { head, body: EventMessage::from(&event) });

    let expected = r#"{"v":2,"id":"5e-7","connection":3,"seq":7,"time_ms":1,"event":"worker_died","severity":"warning","sentence":"the worker ended by itself: signal 9","detail":{"signal":9}}"#;
    assert_eq!(text.unwrap(), expected);
}

#[test]
fn receivers_ignore_fields_of_later_versions() {
    let text = r#"{"v":2,"id":"5e-7","connection":3,"seq":7,"time_ms":1,"status":"online",
        "boot_id":"b","reason":"connected","later":[1]}"#;

    let message: Message<Status> = Message::parse(text.as_bytes()).unwrap();

    assert_eq!(message.body.status, Presence::Online);
    assert_eq!(message.head.connection, 3);
}

#[test]
fn other_versions_are_refused_by_a_sentence() {
    let old =
        br#"{"v":1,"id":"5e-7","session":3,"seq":7,"time_ms":1,"command":"c","state":"done"}"#;
    assert_eq!(
        Message::<Ack>::parse(old).unwrap_err(),
        "it speaks version 1 of the contract, this latrod speaks version 2"
    );
    let command = with(r#""command":"pause""#).replace("\"v\":2", "\"v\":3");
    assert_eq!(
        refused(&command),
        "it speaks version 3 of the contract, this latrod speaks version 2"
    );
}

#[test]
fn progress_leaves_out_what_is_not_finite() {
    let progress = StepProgress::new(1, 2, [("kl", f64::NAN), ("loss", 0.5)]);
    assert_eq!(
        serde_json::to_string(&progress).unwrap(),
        r#"{"step":1,"steps":2,"numbers":{"loss":0.5}}"#
    );
}

#[test]
fn an_event_says_nothing_but_its_sentence_and_fields() {
    let event = Event::Degraded { reason: Sentence::new("the disk is full") };
    let message = EventMessage::from(&event);
    assert_eq!(message.sentence, "degraded: the disk is full");
    assert_eq!(message.detail["reason"], "the disk is full");
}

fn any_action() -> impl Strategy<Value = Action> {
    let word = "[ -~]{1,40}";
    prop_oneof![
        Just(Action::Pause),
        Just(Action::TrainNow),
        Just(Action::RestoreTasks),
        Just(Action::Check),
        word.prop_map(|version| Action::Promote { version }),
        (word, "[ -~]{0,40}").prop_map(|(key, value)| Action::Set { key, value }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(action in any_action(), issued: u64, expires: u64) {
        let (fleet, device, id) = ("f".to_owned(), "d".to_owned(), "a-1".to_owned());
        let command = Command { fleet, device, id, action, issued, expires };
        prop_assert_eq!(Command::parse(&command.to_json()), Ok(command));
    }

    #[test]
    fn reading_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&payload);
    }
}
