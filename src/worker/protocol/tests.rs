use proptest::prelude::*;

use super::*;
use crate::latro::metrics::healthy_step;
use crate::latro::sentinel::{Response, TripKind};

fn train() -> ToWorker {
    ToWorker::Train(Box::new(TrainJob {
        dir: "training/candidate".into(),
        tasks: "training/tasks.jsonl".into(),
        settings: TrainSettings { max_grad_norm: 0.0, seed: u64::MAX, ..TrainSettings::edge() },
        start: Some("adapters/current".into()),
        until_step: Some(20),
    }))
}

fn step(loss: f64) -> FromWorker {
    let mut metrics = healthy_step(7);
    metrics.loss = loss;
    FromWorker::Step(Box::new(metrics))
}

#[test]
fn messages_come_back_as_they_were() {
    let asked = [train(), ToWorker::Stop];
    let trip = Trip {
        step: 7,
        kind: TripKind::Kl,
        sentence: "the KL is 4".into(),
        response: Response::StepBack { learning_rate_factor: 0.5, beta_factor: 2.0 },
    };
    let told = [
        step(1.5),
        FromWorker::Sentinel { step: 0, trip },
        FromWorker::Beat { beats: u64::MAX },
        FromWorker::gave_up("no"),
        FromWorker::Stopped,
        FromWorker::Failed(Failure::new(FailureKind::ModelChanged, "it has changed")),
    ];

    for message in asked {
        let line = encode(&message).unwrap();
        assert_eq!(decode::<ToWorker>(&line).unwrap(), message);
    }
    for message in told {
        let line = encode(&message).unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(decode::<FromWorker>(&line).unwrap(), message);
    }
}

#[test]
fn a_diverged_step_can_be_told() {
    let line = encode(&step(f64::NAN)).unwrap();

    let FromWorker::Step(metrics) = decode(&line).unwrap() else { panic!("a step") };

    assert!(metrics.loss.is_nan());
}

#[test]
fn an_error_repeats_nothing_of_the_line() {
    for line in [
        r#"{"type":"canary"}"#,
        r#"{"type":"train","canary":1}"#,
        r#"{"type":"stop""#,
        "canary",
        r#"{"type":"setup","model":"m","threads":"canary"}"#,
    ] {
        let error = decode::<ToWorker>(line.as_bytes()).unwrap_err();

        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn a_sentence_is_cut_to_length_and_to_one_line() {
    let failure = Failure::new(FailureKind::Other, "a\n\u{1b}[2J".to_owned() + &"é".repeat(900));

    assert_eq!(failure.sentence.chars().count(), MAX_SENTENCE_CHARS);
    assert!(failure.sentence.starts_with("a  [2J") && failure.sentence.ends_with('…'));
}

#[test]
fn an_endless_line_takes_no_memory() {
    let mut endless = io::BufReader::new(io::repeat(b'x'));
    let mut line = Vec::new();

    let error = read_line(&mut endless, &mut line).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(line.capacity() <= 2 * MAX_LINE_BYTES, "{}", line.capacity());
}

#[test]
fn lines_end_with_the_file() {
    let mut reader = io::Cursor::new("one\ntwo\nthr");
    let mut line = Vec::new();

    assert!(read_line(&mut reader, &mut line).unwrap());
    assert_eq!(line, b"one\n");
    assert!(read_line(&mut reader, &mut line).unwrap());
    assert!(read_line(&mut reader, &mut line).is_err(), "half a line is not a message");
    assert!(!read_line(&mut reader, &mut line).unwrap());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<ToWorker>(&bytes);
        let _ = decode::<FromWorker>(&bytes);
    }
}
