use ed25519_dalek::SigningKey;

use super::*;
use crate::contract::topics::Topics;
use crate::contract::wire::{Message, VERSION};
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

    fn receive_envelope(&self, topic: &str, envelope: &[u8], now_ms: u64) -> Receipt {
        let (action, id) = topic.split_once('/').unwrap();
        let topic = CommandTopic { action: action.to_owned(), id: id.to_owned() };
        self.inbox.receive(&self.db, &self.outbox, &topic, envelope, now_ms).unwrap()
    }

    fn receive_at(&self, command: &Command, now_ms: u64) -> Receipt {
        let envelope = signed(command);
        self.receive_envelope(&topic(command), &envelope.to_json(), now_ms)
    }

    fn receive(&self, command: &Command) -> Receipt {
        self.receive_at(command, NOW_MS)
    }

    /// Why an envelope on a topic was turned away.
    fn turned_away(&self, topic: &str, envelope: &Envelope) -> String {
        match self.receive_envelope(topic, &envelope.to_json(), NOW_MS) {
            Receipt::TurnedAway { reason } => reason.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn unfinished(&self) -> Vec<Accepted> {
        unfinished(&self.db, &self.outbox, NOW_MS).unwrap()
    }

    /// The acknowledgements in the outbox, which is emptied.
    fn acks(&self) -> Vec<(String, AckState)> {
        let waiting = outbox::peek(&self.db, 0, 10_000).unwrap();
        outbox::delete(&self.db, waiting.iter().map(|w| w.seq)).unwrap();
        let read = |w: &outbox::Waiting| {
            let ack: Message<Ack> = serde_json::from_slice(&w.payload).unwrap();
            assert_eq!(w.topic, format!("latro/v2/f/d/ack/{}", ack.body.command));
            (ack.body.command, ack.body.state)
        };
        waiting.iter().map(read).collect()
    }
}

fn operator() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn command(id: &str) -> Command {
    Command {
        fleet: "f".to_owned(),
        device: "d".to_owned(),
        id: id.to_owned(),
        action: Action::Pause,
        issued: NOW_S - 10,
        expires: NOW_S + 100,
    }
}

fn changed(id: &str, change: impl FnOnce(&mut Command)) -> Command {
    let mut command = command(id);
    change(&mut command);
    command
}

fn signed(command: &Command) -> Envelope {
    Envelope::signed(&operator(), &command.to_json())
}

fn unsigned(command: &Command) -> Envelope {
    Envelope::unsigned(&command.to_json())
}

fn topic(command: &Command) -> String {
    format!("{}/{}", command.action.name(), command.id)
}

fn ack(id: &str, state: AckState) -> (String, AckState) {
    (id.to_owned(), state)
}

#[test]
fn a_command_goes_through_its_life_with_an_ack_for_each_step() {
    let device = Device::new();
    let command = command("c1");

    let Receipt::New(accepted) = device.receive(&command) else { panic!("not accepted") };
    assert_eq!(accepted.action, Action::Pause);
    start(&device.db, &device.outbox, NOW_MS, "c1").unwrap();
    finish(&device.db, &device.outbox, NOW_MS, "c1", CommandOutcome::Done(None)).unwrap();

    let states = [AckState::Received, AckState::Running, AckState::Done];
    assert_eq!(device.acks(), states.map(|s| ack("c1", s)));
}

#[test]
fn an_id_acts_once_and_its_last_ack_is_repeated() {
    let device = Device::new();
    let command = command("c1");
    assert!(matches!(device.receive(&command), Receipt::New(_)));
    finish(&device.db, &device.outbox, NOW_MS, "c1", CommandOutcome::Done(None)).unwrap();
    device.acks();

    let other_content = changed("c1", |c| c.action = Action::Rollback);
    let repeated = Receipt::Repeated { state: AckState::Done };
    assert_eq!(device.receive(&command), repeated);
    assert_eq!(device.receive(&other_content), repeated);
    assert_eq!(device.receive_at(&command, 1000), repeated);

    assert_eq!(device.acks(), [ack("c1", AckState::Done)]);
}

#[test]
fn unproven_envelopes_leave_no_trace() {
    let device = Device::new();
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let for_another = changed("c3", |c| c.device = "e".to_owned());
    let of_another_fleet = changed("c4", |c| c.fleet = "g".to_owned());
    let good = signed(&command("c5"));
    let not_a_command = Envelope::signed(&operator(), b"{");
    let old = Envelope::signed(&operator(), br#"{"v":1}"#);
    let cases = [
        ("pause/c1", unsigned(&command("c1")), "it is not signed"),
        ("pause/c2", Envelope::signed(&stranger, &command("c2").to_json()), "not by an operator"),
        ("pause/c3", signed(&for_another), "it is for another device"),
        ("pause/c4", signed(&of_another_fleet), "it is for another device"),
        ("pause/c6", good.clone(), "its id is not the one in its topic"),
        ("promote/c5", good.clone(), "it was signed as pause, its topic says another type"),
        ("pause/c7", not_a_command, "it is not JSON"),
        ("pause/c8", old, "a field is missing"),
    ];
    for (topic, envelope, expected) in cases {
        let why = device.turned_away(topic, &envelope);
        assert!(why.contains(expected), "{topic}: {why}");
    }
    let garbage = device.receive_envelope("pause/c9", b"{", NOW_MS);
    assert!(matches!(garbage, Receipt::TurnedAway { .. }));

    assert_eq!(device.acks(), []);
    let rows: i64 = device.db.query_row("SELECT count(*) FROM command", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 0);
    // Its id was not used up by those who sent it elsewhere.
    assert!(matches!(device.receive(&command("c5")), Receipt::New(_)));
}

#[test]
fn without_keys_only_an_explicit_permission_lets_commands_in() {
    let mut device = Device::new();
    device.inbox = Inbox::new(OperatorKeys::default(), false);
    let no_key = "this device knows no operator key";
    assert_eq!(device.turned_away("pause/c1", &unsigned(&command("c1"))), no_key);
    assert_eq!(device.turned_away("pause/c1", &signed(&command("c1"))), no_key);
    device.inbox = Inbox::new(OperatorKeys::default(), true);
    let envelope = unsigned(&command("c1")).to_json();
    assert!(matches!(device.receive_envelope("pause/c1", &envelope, NOW_MS), Receipt::New(_)));
}

#[test]
fn a_permission_for_unsigned_commands_is_none_for_forged_ones() {
    let mut device = Device::new();
    device.inbox.allow_unsigned = true;
    let mut forged = signed(&command("c1"));
    forged.signatures = signed(&command("c2")).signatures;
    assert_eq!(
        device.turned_away("pause/c1", &forged),
        "its signature does not fit its payload and its key"
    );
}

/// What another program signs need not be written as ours is.
#[test]
fn the_bytes_count_not_their_form() {
    let device = Device::new();
    let payload = format!(
        "{{\n  \"command\": \"p\\u0061use\", \"v\": {VERSION}, \"id\": \"c1\",\n  \"device\": \"d\",\
         \"fleet\": \"f\", \"issued\": {}, \"expires\": {}\n}}\n",
        NOW_S - 1,
        NOW_S + 1
    );
    let envelope = Envelope::signed(&operator(), payload.as_bytes()).to_json();
    let receipt = device.receive_envelope("pause/c1", &envelope, NOW_MS);
    let Receipt::New(accepted) = receipt else { panic!("{receipt:?}") };
    assert_eq!((accepted.action, accepted.expires), (Action::Pause, NOW_S + 1));
    assert_eq!(device.unfinished().len(), 1);
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
        let command = changed(&format!("c{n}"), change);
        let Receipt::Declined { state, .. } = device.receive(&command) else {
            panic!("case {n} was not declined")
        };
        assert_eq!(state, expected, "case {n}");
        assert_eq!(device.receive(&command), Receipt::Repeated { state }, "case {n}");
    }
    assert_eq!(device.unfinished(), []);
}

#[test]
fn a_device_that_does_not_know_the_time_judges_nothing() {
    let device = Device::new();
    let command = command("c1");
    assert_eq!(device.receive_at(&command, 1000), Receipt::ClockNotSet);
    assert_eq!(device.acks(), []);
    assert!(matches!(device.receive(&command), Receipt::New(_)));
}

#[test]
fn unfinished_commands_are_found_after_a_restart() {
    let device = Device::new();
    for id in ["c1", "c2", "c3"] {
        device.receive(&command(id));
    }
    start(&device.db, &device.outbox, NOW_MS, "c2").unwrap();
    let failed = CommandOutcome::Failed(Sentence::new("no"));
    finish(&device.db, &device.outbox, NOW_MS, "c1", failed).unwrap();

    let found = device.unfinished();

    let ids: Vec<_> = found.iter().map(|a| (a.id.as_str(), a.state)).collect();
    assert_eq!(ids, [("c2", AckState::Running), ("c3", AckState::Received)]);
}

#[test]
fn a_command_of_an_earlier_version_is_refused_after_an_update() {
    let device = Device::new();
    device.receive(&command("c1"));
    device.acks();
    let old = br#"{"v":1,"id":"c1","command":"pause","issued":1,"expires":2}"#;
    device.db.execute("UPDATE command SET command = ?1", [&old[..]]).unwrap();

    assert_eq!(device.unfinished(), []);
    assert_eq!(device.acks(), [ack("c1", AckState::Refused)]);
    let (state, reason) = look_up(&device.db, "c1").unwrap().unwrap();
    assert_eq!(state, AckState::Refused);
    let reason = reason.unwrap();
    assert!(reason.starts_with("it was given under another version"), "{reason}");
    assert_eq!(device.unfinished(), []);
}

#[test]
fn what_has_ended_stays_ended() {
    let device = Device::new();
    device.receive(&command("c1"));
    let done = || finish(&device.db, &device.outbox, NOW_MS, "c1", CommandOutcome::Done(None));
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
    let topic = CommandTopic { action: "pause".to_owned(), id: "c1".to_owned() };
    let envelope = signed(&command("c1")).to_json();

    let result = device.inbox.receive(&device.db, &device.outbox, &topic, &envelope, NOW_MS);

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
    assert!(matches!(device.receive(&command("c1")), Receipt::TurnedAway { .. }));
    fill(NOW_S - KEEP_S - 1);
    assert!(matches!(device.receive(&command("c1")), Receipt::New(_)));
}
