//! What a dashboard makes of a made-up device is what is true of it, whatever happens to the connection.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::device::{Manner, Process, Trust};
use super::random::Random;
use crate::contract::envelope::Envelope;
use crate::contract::keys::OperatorKeys;
use crate::contract::topics::{CommandTopic, Kind, Topics};
use crate::contract::wire::{Ack, AckState, Action, Birth, Command, EventMessage, Message};
use crate::contract::wire::{State, Status as WireStatus, StepProgress};
use crate::dashboard::fleet::{Arrival, Device, DeviceId, Fleet, Status, alarms};

const NOW: u64 = 1_800_000_000_000;

/// A device, its broker and a dashboard.
struct Bench {
    process: Process,
    fleet: Fleet,
    trust: Trust,
    now_ms: u64,
    up: bool,
    will: Vec<u8>,
    /// Tokens that the broker has yet to acknowledge.
    tokens: Vec<u64>,
    connections: Vec<u64>,
    /// What was said under each id.
    said: BTreeMap<String, Vec<u8>>,
    events: BTreeSet<String>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let topics = Topics::new("f", "d").unwrap();
        let manner = Manner { speed: 1.0, state_every_ms: 60_000, past_ticks: 500 };
        let key = SigningKey::from_bytes(&[7; 32]);
        Self {
            process: Process::new(topics, &Random::of(seed, 1), 0, manner, NOW),
            fleet: Fleet::default(),
            trust: Trust { keys: OperatorKeys::from(vec![key.verifying_key()]), unsigned: false },
            now_ms: NOW,
            up: false,
            will: Vec::new(),
            tokens: Vec::new(),
            connections: Vec::new(),
            said: BTreeMap::new(),
            events: BTreeSet::new(),
        }
    }

    fn connect(&mut self) {
        self.tokens.clear();
        self.will = self.process.post_mut().connect(self.now_ms);
        self.process.post_mut().came_up();
        self.connections.push(self.process.post().connection());
        self.up = true;
        self.pump();
    }

    /// The connection breaks; the broker says so at once or too late.
    fn lose(&mut self, late: bool) {
        if !std::mem::take(&mut self.up) {
            return;
        }
        let (topic, will) = (self.process.topics().of(&Kind::Status), self.will.clone());
        if late {
            self.connect();
        }
        self.deliver(&topic, &will);
        if late {
            assert_eq!(self.device().status_at(self.now_ms), Status::Online);
        } else {
            assert_eq!(self.device().status_at(self.now_ms), Status::Lost);
        }
    }

    fn pump(&mut self) {
        self.process.advance(self.now_ms);
        while self.up
            && let Some(parcel) = self.process.next(self.now_ms, true)
        {
            let topic = self.process.topics().of(&parcel.kind);
            self.read(&parcel.kind, &parcel.payload);
            self.tokens.extend(parcel.token);
            self.deliver(&topic, &parcel.payload);
        }
    }

    /// Every message is one of the contract's, and an id belongs to one message.
    fn read(&mut self, kind: &Kind, payload: &[u8]) {
        let head = match kind {
            Kind::Status => Message::<WireStatus>::parse(payload).unwrap().head,
            Kind::Birth => Message::<Birth>::parse(payload).unwrap().head,
            Kind::State => Message::<State>::parse(payload).unwrap().head,
            Kind::Progress => Message::<StepProgress>::parse(payload).unwrap().head,
            Kind::Event => Message::<EventMessage>::parse(payload).unwrap().head,
            Kind::Ack(_) => Message::<Ack>::parse(payload).unwrap().head,
            Kind::Command(_) => panic!("a device gives no commands"),
        };
        if *kind == Kind::Event {
            self.events.insert(head.id.clone());
        }
        let known = self.said.insert(head.id, payload.to_vec());
        assert!(known.is_none_or(|known| known == payload));
    }

    fn deliver(&mut self, topic: &str, payload: &[u8]) {
        let arrival = Arrival { topic, payload, retained: false, at_ms: self.now_ms };
        self.fleet.hear(arrival).unwrap();
    }

    fn command(&mut self, id: &str, action: Action, signed: bool) {
        let issued = self.now_ms / 1000;
        let name = action.name().to_owned();
        let (fleet, device) = ("f".to_owned(), "d".to_owned());
        let expires = issued + 600;
        let command = Command { fleet, device, id: id.to_owned(), action, issued, expires };
        let envelope = match signed {
            true => Envelope::signed(&SigningKey::from_bytes(&[7; 32]), &command.to_json()),
            false => Envelope::unsigned(&command.to_json()),
        };
        let topic = Kind::Command(CommandTopic { action: name, id: id.to_owned() });
        let topic = self.process.topics().of(&topic);
        self.process.hear(&self.trust, &topic, &envelope.to_json(), self.now_ms);
        self.pump();
    }

    fn device(&self) -> &Device {
        self.fleet.get(&DeviceId::parse("f/d").unwrap()).unwrap()
    }

    /// What the dashboard knows is what is true.
    fn agree(&self) {
        let device = self.device();
        assert_eq!(device.status_at(self.now_ms), Status::Online);
        assert_eq!(device.birth().unwrap().boot_id, self.process.post().boot_id());
        let (told, mut truth) = (device.state().unwrap(), self.process.state());
        // What waits changes with what is sent.
        truth.counts.insert("outbox".to_owned(), told.counts["outbox"]);
        assert_eq!(*told, truth);
        assert_eq!(device.unreadable.count(self.now_ms), 0);
        let own = truth.alarms.len();
        let seen: Vec<_> = alarms::of(device, self.now_ms);
        assert_eq!(seen.len(), own, "{seen:?}");
        for ack in self.process.commands() {
            let order = device.orders.get(&ack.command).unwrap();
            assert_eq!(order.said.map(|(state, _)| state), Some(ack.state));
        }
    }
}

#[derive(Debug, Clone)]
enum Turn {
    Wait(u64),
    Lose { late: bool },
    PowerCut,
    Acknowledge(usize),
    Command(Action, bool),
    Repeat,
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let action = prop_oneof![
        Just(Action::Pause),
        Just(Action::Resume),
        Just(Action::TrainNow),
        Just(Action::Rollback),
        Just(Action::Check),
    ];
    prop_oneof![
        5 => (0..100_000_u64).prop_map(Turn::Wait),
        2 => any::<bool>().prop_map(|late| Turn::Lose { late }),
        1 => Just(Turn::PowerCut),
        4 => (0..40_usize).prop_map(Turn::Acknowledge),
        2 => (action, any::<bool>()).prop_map(|(action, signed)| Turn::Command(action, signed)),
        1 => Just(Turn::Repeat),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_dashboard_knows_the_truth(
        seed: u64, turns in proptest::collection::vec(any_turn(), 1..60),
    ) {
        let mut bench = Bench::new(seed);
        bench.connect();
        let mut newest = None;
        for (number, turn) in turns.into_iter().enumerate() {
            match turn {
                Turn::Wait(ms) => bench.now_ms += ms,
                Turn::Lose { late } => bench.lose(late),
                Turn::PowerCut => {
                    bench.lose(false);
                    bench.process.restart(bench.now_ms);
                }
                Turn::Acknowledge(count) => {
                    let count = count.min(bench.tokens.len());
                    for token in bench.tokens.drain(..count).collect::<Vec<_>>() {
                        bench.process.post_mut().acknowledged(token);
                    }
                }
                Turn::Command(action, signed) => {
                    let id = format!("c{number}");
                    if bench.up {
                        bench.command(&id, action.clone(), signed);
                        newest = Some((id, action)).filter(|_| signed);
                    }
                }
                Turn::Repeat => {
                    if let Some((id, action)) = newest.clone().filter(|_| bench.up) {
                        let before = bench.process.state();
                        bench.command(&id, action, true);
                        let after = bench.process.state();
                        prop_assert_eq!(before.versions, after.versions);
                        prop_assert_eq!(before.blockers, after.blockers);
                    }
                }
            }
            bench.pump();
            if !bench.up && number % 3 == 0 {
                bench.connect();
            }
        }
        bench.up = false;
        bench.now_ms += 1;
        bench.connect();
        bench.agree();
        prop_assert!(bench.connections.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn a_device_that_stops_says_so_last() {
    let mut bench = Bench::new(1);
    bench.connect();

    bench.process.stop(bench.now_ms);
    bench.pump();

    assert!(bench.process.post().is_empty());
    assert_eq!(bench.device().status_at(bench.now_ms), Status::Stopped);
    assert_eq!(bench.device().state().unwrap().state, "stopping");
    assert!(bench.events.len() >= 2, "it has started and stopped");
}

#[test]
fn commands_that_do_not_fit_are_refused() {
    let mut bench = Bench::new(2);
    bench.connect();

    bench.command("u", Action::Pause, false);
    bench.command("s", Action::Pause, true);
    bench.command("s", Action::Pause, true);

    let said = |id: &str| bench.device().orders.get(id).unwrap().said.unwrap().0;
    assert_eq!(said("u"), AckState::Refused);
    assert_eq!(said("s"), AckState::Done);
    assert_eq!(bench.process.commands().count(), 1, "a forgery uses up no id");
    assert_eq!(bench.process.state().state, "starting");
    assert_eq!(bench.process.state().dropped["commands"], 1);
}
