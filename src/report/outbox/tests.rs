use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::contract::event::Sentence;
use crate::contract::wire::AckState;

fn ledger() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db
}

fn outbox(messages: u64) -> Outbox {
    Outbox::new(Topics::new("f", "d").unwrap(), Limits { messages, bytes: 1 << 20 })
}

fn event(n: usize) -> Event {
    Event::Degraded { reason: Sentence::new(n) }
}

fn ack(n: usize) -> Ack {
    Ack { command: format!("c{n}"), state: AckState::Done, reason: None }
}

fn ids(db: &Connection) -> Vec<String> {
    let parse = |w: Waiting| serde_json::from_slice::<Head>(&w.payload).unwrap().id;
    peek(db, 0, 1000).unwrap().into_iter().map(parse).collect()
}

#[test]
fn messages_wait_in_order_until_they_are_deleted() {
    let db = ledger();
    let outbox = outbox(10);
    for n in 0..4 {
        outbox.event(&db, 1, &event(n)).unwrap();
    }

    let waiting = peek(&db, 0, 10).unwrap();
    let before = ids(&db);
    delete(&db, [waiting[0].seq, waiting[2].seq, 999]).unwrap();

    assert_eq!(ids(&db), [before[1].clone(), before[3].clone()]);
    assert_eq!(peek(&db, waiting[1].seq, 10).unwrap(), [waiting[3].clone()]);
    assert_eq!(counts(&db).unwrap().messages, 2);
    assert_eq!(
        counts(&db).unwrap().bytes as usize,
        waiting[1].payload.len() + waiting[3].payload.len()
    );
}

#[test]
fn a_message_lives_and_dies_with_the_callers_transaction() {
    let mut db = ledger();
    let outbox = outbox(10);
    let transaction = db.transaction().unwrap();
    outbox.event(&transaction, 1, &event(0)).unwrap();
    transaction.rollback().unwrap();
    assert_eq!(counts(&db).unwrap(), Counts::default());

    let transaction = db.transaction().unwrap();
    outbox.event(&transaction, 1, &event(1)).unwrap();
    transaction.commit().unwrap();
    assert_eq!(counts(&db).unwrap().messages, 1);
}

#[test]
fn the_limit_in_bytes_holds_too() {
    let db = ledger();
    let topics = Topics::new("f", "d").unwrap();
    let outbox = Outbox::new(topics, Limits { messages: 1000, bytes: 2000 });
    for n in 0..50 {
        outbox.event(&db, 1, &event(n)).unwrap();
        assert!(counts(&db).unwrap().bytes <= 2000);
    }
    let Counts { messages, dropped, .. } = counts(&db).unwrap();
    assert!(messages > 5 && messages + dropped == 50, "{messages} {dropped}");
}

#[test]
fn connection_numbers_grow_with_and_without_a_ledger() {
    let db = ledger();
    let mut first = outbox(1);
    assert_eq!(first.begin_connection(Some(&db), 0).unwrap(), 1);
    assert_eq!(first.begin_connection(None, 0).unwrap(), 2);
    assert_eq!(first.begin_connection(Some(&db), 1000).unwrap(), 1000);
    // The clock went back, and the process started anew.
    assert_eq!(outbox(1).begin_connection(Some(&db), 5).unwrap(), 1001);
    // The ledger was lost.
    assert_eq!(outbox(1).begin_connection(Some(&ledger()), 2000).unwrap(), 2000);
}

#[test]
fn ids_differ_between_ledgers() {
    let (one, other) = (ledger(), ledger());
    outbox(1).event(&one, 1, &event(0)).unwrap();
    outbox(1).event(&other, 1, &event(0)).unwrap();
    assert_ne!(ids(&one), ids(&other));
}

#[test]
fn opening_again_keeps_everything() {
    let db = ledger();
    outbox(5).event(&db, 1, &event(0)).unwrap();
    let before = ids(&db);
    db.execute_batch(SCHEMA).unwrap();
    assert_eq!(ids(&db), before);
}

proptest! {
    /// Against a model: a list from which the oldest event goes while there are too many.
    #[test]
    fn behaves_like_a_bounded_list(steps in proptest::collection::vec(0u8..10, 1..120)) {
        let db = ledger();
        let outbox = outbox(8);
        let mut model: VecDeque<(bool, i64)> = VecDeque::new();
        let (mut seq, mut dropped) = (0, 0);
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                0..=6 => {
                    let is_event = step <= 4;
                    if is_event {
                        outbox.event(&db, 1, &event(n)).unwrap();
                    } else {
                        outbox.ack(&db, 1, ack(n)).unwrap();
                    }
                    seq += 1;
                    model.push_back((is_event, seq));
                    while model.len() > 8 {
                        let Some(i) = model.iter().position(|m| m.0) else { break };
                        model.remove(i);
                        dropped += 1;
                    }
                }
                _ => {
                    let seqs: Vec<i64> = model.iter().step_by(2).map(|m| m.1).collect();
                    delete(&db, seqs.iter().copied()).unwrap();
                    model.retain(|m| !seqs.contains(&m.1));
                }
            }
            let waiting: Vec<i64> = peek(&db, 0, 100).unwrap().iter().map(|w| w.seq).collect();
            prop_assert_eq!(&waiting, &model.iter().map(|m| m.1).collect::<Vec<_>>());
            let Counts { messages, dropped: d, .. } = counts(&db).unwrap();
            prop_assert_eq!((messages as usize, d), (model.len(), dropped));
        }
    }
}
