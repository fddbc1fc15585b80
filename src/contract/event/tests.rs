use super::*;

/// One event of each kind.
pub(in crate::contract) fn examples() -> Vec<Event> {
    let (text, version) = (|| Sentence::new("why"), || "00000002-0a1b2c3d".to_owned());
    let (from, to, numbers) = (Some(version()), None, || vec![("gain", 0.125), ("kl", f64::NAN)]);
    vec![
        Event::Started { version: "1.2.3" },
        Event::Stopped { reason: text() },
        Event::CycleBegan { number: 1, train: 2, held_out: 3 },
        Event::CycleFailed { number: 1, reason: text() },
        Event::Checked { version: version(), keep: true, reason: text(), numbers: numbers() },
        Event::Switched { from, to, reason: text() },
        Event::Promoted {
            version: version(),
            sha256: "0a".to_owned(),
            parent: None,
            reason: text(),
            numbers: numbers(),
        },
        Event::Rejected { reason: text(), numbers: Vec::new() },
        Event::RolledBack { from: version(), to: Some(version()), reason: text() },
        Event::Sentinel { kind: "kl".to_owned(), step: 1, sentence: text() },
        Event::RunGaveUp { step: 1, sentence: text() },
        Event::TaskSetQuarantined { tasks: 1, sentence: text() },
        Event::TasksTaken { count: 1, rejected: 2 },
        Event::LinesQuarantined { lines: 1, files: 2 },
        Event::LowDisk { free_mib: 1, needed_mib: 2 },
        Event::DiskRecovered { free_mib: 1 },
        Event::ModelMissing { sentence: text() },
        Event::ModelChanged { expected_sha256: "0a".to_owned(), found_sha256: "0b".to_owned() },
        Event::ModelBack { sha256: "0a".to_owned() },
        Event::LedgerRebuilt { set_aside: "ledger.db.corrupt-1".to_owned(), tasks: 1 },
        Event::WorkerDied { ending: Ending::Signal(9) },
        Event::WorkerStalled { after_s: 1 },
        Event::ClockJumped { by_s: -1 },
        Event::HookDone { took_s: 0.5 },
        Event::HookFailed { sentence: text() },
        Event::Degraded { reason: text() },
        Event::Recovered { sentence: text() },
        Event::CommandRefused { reason: text() },
    ]
}

#[test]
fn fields_carry_the_numbers_of_a_decision() {
    let event = Event::Promoted {
        version: "00000002-0a1b2c3d".to_owned(),
        sha256: "0a1b".to_owned(),
        parent: None,
        reason: Sentence::new("12 more are right"),
        numbers: vec![("accuracy_gain", 0.125), ("kl", f64::NAN)],
    };

    let fields = event.fields();

    assert_eq!(event.name(), "promoted");
    let expected = [
        ("version", "00000002-0a1b2c3d".into()),
        ("sha256", "0a1b".into()),
        ("parent", Value::Null),
        ("reason", "12 more are right".into()),
        ("accuracy_gain", 0.125.into()),
        ("kl", Value::Null),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(fields.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(event.to_string(), "promoted adapter 00000002-0a1b2c3d: 12 more are right");
}

#[test]
fn every_event_has_its_name_and_its_fields_on_the_wire() {
    let mut names = std::collections::BTreeSet::new();
    for event in examples() {
        let wire = serde_json::to_value(&event).unwrap();
        assert_eq!(wire["event"], event.name());
        assert_eq!(wire["detail"], Value::Object(event.fields()));
        assert!(!event.fields().is_empty() && names.insert(event.name()), "{event:?}");
    }
    assert_eq!(names.len(), 28);
    let died = |ending| Value::Object(Event::WorkerDied { ending }.fields()).to_string();
    assert_eq!(died(Ending::Exit(70)), r#"{"exit_code":70}"#);
    assert_eq!(died(Ending::Signal(9)), r#"{"signal":9}"#);
}
