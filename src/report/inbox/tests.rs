use ed25519_dalek::SigningKey;

use super::*;
use crate::contract::sign::sign;
use crate::contract::topics::Topics;
use crate::contract::wire::Message;
use crate::report::outbox::{self, Limits};

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1000;

type Change = fn(&mut Command);

struct Device {
    db: Connection,
    outbox: Outbox,
    inbox: Inbox,
}

impl Device {
    fn new() -> Self {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(outbox::SCHEMA).unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let limits = Limits { messages: 100_000, bytes: 1 << 30 };
        let outbox = Outbox::new(Topics::new("f", "d").unwrap(), limits);
        let keys = OperatorKeys::from(vec![operator().verifying_key()]);
        Self { db, outbox, inbox: Inbox::new(keys, false) }
    }

    fn receive_at(&self, command: &Command, now_ms: u64) -> Receipt {
        let payload = command.to_json();
        self.inbox.receive(&self.db, &self.outbox, &command.id, &payload, now_ms).unwrap()
    }

    fn receive(&self, command: &Command) -> Receipt {
        self.receive_at(command, NOW_MS)
    }

    /// The acknowledgements in the outbox, which is emptied.
    fn acks(&self) -> Vec<(String, AckState)> {
        let waiting = outbox::peek(&self.db, 0, 10_000).unwrap();
        outbox::delete(&self.db, waiting.iter().map(|w| w.seq)).unwrap();
        let read = |w: &outbox::Waiting| {
            let ack: Message<Ack> = serde_json::from_slice(&w.payload).unwrap();
            assert_eq!(w.topic, format!("latro/v1/f/d/ack/{}", ack.body.command));
            (ack.body.command, ack.body.state)
        };
        waiting.iter().map(read).collect()
    }
}

fn operator() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn unsigned(id: &str) -> Command {
    Command {
        id: id.to_owned(),
        action: Action::Pause,
        issued: NOW_S - 10,
        expires: NOW_S + 100,
        signature: None,
    }
}

fn signed(id: &str, change: impl FnOnce(&mut Command)) -> Command {
    let mut command = unsigned(id);
    change(&mut command);
    sign(&operator(), "f", "d", &mut command);
    command
}

fn ack(id: &str, state: AckState) -> (String, AckState) {
    (id.to_owned(), state)
}

#[test]
fn a_command_goes_through_its_life_with_an_ack_for_each_step() {
    let device = Device::new();
    let command = signed("c1", |_| {});

    let Receipt::New(accepted) = device.receive(&command) else { panic!("not accepted") };
    assert_eq!(accepted.action, Action::Pause);
    start(&device.db, &device.outbox, NOW_MS, "c1").unwrap();
    finish(&device.db, &device.outbox, NOW_MS, "c1", Outcome::Done(None)).unwrap();

    let states = [AckState::Received, AckState::Running, AckState::Done];
    assert_eq!(device.acks(), states.map(|s| ack("c1", s)));
}

#[test]
fn an_id_acts_once_and_its_last_ack_is_repeated() {
    let device = Device::new();
    let command = signed("c1", |_| {});
    assert!(matches!(device.receive(&command), Receipt::New(_)));
    finish(&device.db, &device.outbox, NOW_MS, "c1", Outcome::Done(None)).unwrap();
    device.acks();

    let other_content = signed("c1", |c| c.action = Action::Rollback);
    let repeated = Receipt::Repeated { state: AckState::Done };
    assert_eq!(device.receive(&command), repeated);
    assert_eq!(device.receive(&other_content), repeated);
    assert_eq!(device.receive_at(&command, 1000), repeated);

    assert_eq!(device.acks(), [ack("c1", AckState::Done)]);
}

#[test]
fn unproven_payloads_leave_no_trace() {
    let device = Device::new();
    let mut by_a_stranger = unsigned("c2");
    sign(&SigningKey::from_bytes(&[8; 32]), "f", "d", &mut by_a_stranger);
    let mut for_another = unsigned("c3");
    sign(&operator(), "f", "e", &mut for_another);
    for command in [unsigned("c1"), by_a_stranger, for_another] {
        assert!(matches!(device.receive(&command), Receipt::TurnedAway { .. }));
    }
    let garbage = device.inbox.receive(&device.db, &device.outbox, "c4", b"{", NOW_MS).unwrap();
    assert!(matches!(garbage, Receipt::TurnedAway { .. }));
    let payload = signed("c5", |_| {}).to_json();
    let moved = device.inbox.receive(&device.db, &device.outbox, "c6", &payload, NOW_MS).unwrap();
    assert!(matches!(moved, Receipt::TurnedAway { .. }));

    assert_eq!(device.acks(), []);
    let rows: i64 = device.db.query_row("SELECT count(*) FROM command", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn without_keys_only_an_explicit_permission_lets_commands_in() {
    let mut device = Device::new();
    device.inbox = Inbox::new(OperatorKeys::default(), false);
    assert!(matches!(device.receive(&unsigned("c1")), Receipt::TurnedAway { .. }));
    assert!(matches!(device.receive(&signed("c1", |_| {})), Receipt::TurnedAway { .. }));
    device.inbox = Inbox::new(OperatorKeys::default(), true);
    assert!(matches!(device.receive(&unsigned("c1")), Receipt::New(_)));
}

#[test]
fn a_permission_for_unsigned_commands_is_none_for_forged_ones() {
    let mut device = Device::new();
    device.inbox.allow_unsigned = true;
    let mut forged = unsigned("c1");
    sign(&SigningKey::from_bytes(&[8; 32]), "f", "d", &mut forged);
    assert!(matches!(device.receive(&forged), Receipt::TurnedAway { .. }));
}

#[test]
fn commands_out_of_their_time_are_declined_for_good() {
    let mut device = Device::new();
    device.inbox.refuse_issued_until(NOW_S - 3000);
    let cases: [(Change, AckState); 6] = [
        (|c| c.expires = NOW_S, AckState::Expired),
        (|c| c.expires = c.issued, AckState::Refused),
        (|c| c.expires = c.issued + MAX_LIFE_S + 1, AckState::Refused),
        (|c| c.expires = u64::MAX, AckState::Refused),
        (|c| (c.issued, c.expires) = (NOW_S + 301, NOW_S + 400), AckState::Refused),
        (|c| c.issued = NOW_S - 3000, AckState::Refused),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        let command = signed(&format!("c{n}"), change);
        let Receipt::Declined { state, .. } = device.receive(&command) else {
            panic!("case {n} was not declined")
        };
        assert_eq!(state, expected, "case {n}");
        assert_eq!(device.receive(&command), Receipt::Repeated { state }, "case {n}");
    }
    assert_eq!(unfinished(&device.db).unwrap(), []);
}

#[test]
fn a_device_that_does_not_know_the_time_judges_nothing() {
    let device = Device::new();
    let command = signed("c1", |_| {});
    assert_eq!(device.receive_at(&command, 1000), Receipt::ClockNotSet);
    assert_eq!(device.acks(), []);
    assert!(matches!(device.receive(&command), Receipt::New(_)));
}

#[test]
fn unfinished_commands_are_found_after_a_restart() {
    let device = Device::new();
    for id in ["c1", "c2", "c3"] {
        device.receive(&signed(id, |_| {}));
    }
    start(&device.db, &device.outbox, NOW_MS, "c2").unwrap();
    let failed = Outcome::Failed(Sentence::new("no"));
    finish(&device.db, &device.outbox, NOW_MS, "c1", failed).unwrap();

    let found = unfinished(&device.db).unwrap();

    let ids: Vec<_> = found.iter().map(|a| (a.id.as_str(), a.state)).collect();
    assert_eq!(ids, [("c2", AckState::Running), ("c3", AckState::Received)]);
}

#[test]
fn what_has_ended_stays_ended() {
    let device = Device::new();
    device.receive(&signed("c1", |_| {}));
    let done = || finish(&device.db, &device.outbox, NOW_MS, "c1", Outcome::Done(None));
    done().unwrap();
    done().unwrap();
    let late = start(&device.db, &device.outbox, NOW_MS, "c1");
    assert_eq!(late.unwrap_err().to_string(), "the command c1 is done, it cannot become running");
    let unknown = start(&device.db, &device.outbox, NOW_MS, "c9");
    assert!(matches!(unknown, Err(ReportError::Transition { .. })));
    assert_eq!(device.acks().len(), 2);
}

#[test]
fn a_command_is_written_down_with_its_ack_or_not_at_all() {
    let device = Device::new();
    device.db.execute_batch("DROP TABLE outbox").unwrap();
    let command = signed("c1", |_| {});
    let payload = command.to_json();

    let result = device.inbox.receive(&device.db, &device.outbox, "c1", &payload, NOW_MS);

    assert!(result.unwrap_err().is_ledger());
    assert_eq!(look_up(&device.db, "c1").unwrap(), None);
    assert!(device.db.is_autocommit());
}

#[test]
fn a_full_table_forgets_the_long_expired_or_refuses() {
    let device = Device::new();
    let fill = |expires: u64| {
        device.db.execute_batch("DELETE FROM command").unwrap();
        for n in 0..MAX_COMMANDS {
            let expires = i64::try_from(expires).unwrap();
            device
                .db
                .execute(
                    "INSERT INTO command (id, command, expires, state) VALUES (?1, '', ?2, 'done')"
                        .replace("''", "x''")
                        .as_str(),
                    params![format!("old{n}"), expires],
                )
                .unwrap();
        }
    };
    fill(NOW_S - KEEP_S);
    assert!(matches!(device.receive(&signed("c1", |_| {})), Receipt::TurnedAway { .. }));
    fill(NOW_S - KEEP_S - 1);
    assert!(matches!(device.receive(&signed("c1", |_| {})), Receipt::New(_)));
}
