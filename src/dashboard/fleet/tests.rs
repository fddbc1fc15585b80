use proptest::prelude::*;
use proptest::sample::SizeRange;
use serde_json::{Value, json};

use super::orders::Order;
use super::presence::SILENT_AFTER_MS;
use super::query::PAGE;
use super::summary::{Summary, changes};
use super::*;
use crate::contract::event::Severity;
use crate::contract::wire::AckState;

const T: u64 = 1_800_000_000_000;

/// A message of device `f/d`: topic and payload.
type Sent = (String, Vec<u8>);

fn message(topic: &str, boot: &str, connection: u64, seq: u64, body: Value) -> Sent {
    let mut whole = json!({
        "v": 2, "id": format!("{boot}-{seq}"), "connection": connection, "seq": seq, "time_ms": T,
    });
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    (format!("latro/v2/f/d/{topic}"), serde_json::to_vec(&whole).unwrap())
}

fn online(boot: &str, connection: u64, seq: u64) -> Sent {
    let body = json!({"status": "online", "boot_id": boot, "reason": "connected"});
    message("status", boot, connection, seq, body)
}

fn stopped(boot: &str, connection: u64, seq: u64) -> Sent {
    let body = json!({"status": "offline", "boot_id": boot, "reason": "stopped"});
    message("status", boot, connection, seq, body)
}

fn will(boot: &str, connection: u64) -> Sent {
    let body = json!({"status": "offline", "boot_id": boot, "reason": "connection lost",
                      "id": format!("{boot}-will-{connection}")});
    message("status", boot, connection, 0, body)
}

fn state(boot: &str, connection: u64, seq: u64, body: Value) -> Sent {
    message("state", boot, connection, seq, body)
}

fn hear(fleet: &mut Fleet, (topic, payload): &Sent, retained: bool, at_ms: u64) -> Option<Heard> {
    let arrival = Arrival { topic, payload, retained, at_ms };
    fleet.hear(arrival).ok().map(|(_, heard)| heard)
}

fn id() -> DeviceId {
    DeviceId::parse("f/d").unwrap()
}

fn device(fleet: &Fleet) -> &Device {
    fleet.get(&id()).unwrap()
}

/// What is wrong with the device; its clock stands still in these tests, which is not meant.
fn alarm_names(fleet: &Fleet, now_ms: u64) -> Vec<String> {
    let names = alarms::of(device(fleet), now_ms).into_iter().map(|alarm| alarm.name);
    names.filter(|name| name != "clock_skew").collect()
}

#[test]
fn a_device_is_online_silent_lost_or_stopped() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &online("a", 10, 1), false, T);
    assert_eq!(device(&fleet).status_at(T), Status::Online);
    assert_eq!(device(&fleet).status_at(T + SILENT_AFTER_MS + 1), Status::Silent);

    hear(&mut fleet, &state("a", 10, 2, json!({})), false, T + SILENT_AFTER_MS);
    assert_eq!(device(&fleet).status_at(T + SILENT_AFTER_MS + 1), Status::Online);

    hear(&mut fleet, &will("a", 10), false, T);
    assert_eq!(device(&fleet).status_at(T), Status::Lost);
    assert_eq!(alarm_names(&fleet, T), ["connection_lost"]);

    hear(&mut fleet, &online("b", 11, 1), false, T);
    assert_eq!(device(&fleet).status_at(T), Status::Online);
    hear(&mut fleet, &stopped("b", 11, 7), false, T);
    assert_eq!(device(&fleet).status_at(T), Status::Stopped);
    assert_eq!(alarm_names(&fleet, T), [""; 0]);
}

#[test]
fn a_late_will_does_not_end_a_newer_connection() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &online("a", 10, 1), false, T);
    hear(&mut fleet, &online("a", 11, 5), false, T + 1);
    for retained in [false, true] {
        hear(&mut fleet, &will("a", 10), retained, T + 2);
        assert_eq!(device(&fleet).status_at(T + 3), Status::Online);
    }
    // The status itself was lost on the way, but the device speaks on a newer connection.
    hear(&mut fleet, &will("a", 11), false, T + 4);
    hear(&mut fleet, &state("a", 12, 9, json!({})), false, T + 5);
    assert_eq!(device(&fleet).status_at(T + 6), Status::Online);
}

#[test]
fn alarms_are_those_of_the_newest_state() {
    let alarm = json!({"alarms": [{"alarm": "low_disk", "severity": "error", "sentence": "s", "for_s": 60}]});
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 1, 1, alarm.clone()), false, T);
    let found = alarms::of(device(&fleet), T);
    assert_eq!((found[0].name.as_str(), found[0].since_ms), ("low_disk", T - 60_000));
    assert_eq!(alarms::worst(device(&fleet), T), Some(Severity::Error));

    hear(&mut fleet, &state("a", 1, 3, json!({"alarms": []})), false, T);
    assert_eq!(alarm_names(&fleet, T), [""; 0]);
    // What is older comes again, as brokers do.
    hear(&mut fleet, &state("a", 1, 2, alarm), false, T);
    assert_eq!(alarm_names(&fleet, T), [""; 0]);
}

#[test]
fn an_alarm_that_was_seen_is_quiet_until_it_comes_anew() {
    let alarm = |for_s: u64| json!({"alarms": [{"alarm": "low_disk", "severity": "error", "sentence": "s", "for_s": for_s}]});
    let mut fleet = Fleet::default();
    // Before the device was heard of, as after a start of the dashboard.
    fleet.acknowledge(&id(), "low_disk", Seen { who: "anna".to_owned(), at_ms: T + 10_000 });
    hear(&mut fleet, &state("a", 1, 1, alarm(0)), false, T);
    hear(&mut fleet, &state("a", 1, 2, alarm(60)), false, T + 60_000);
    assert_eq!(alarms::worst(device(&fleet), T + 60_000), None);
    assert_eq!(alarms::of(device(&fleet), T + 60_000)[0].seen_by.as_deref(), Some("anna"));
    assert_eq!(Summary::of(&fleet, T + 60_000).alarmed, 0);

    hear(&mut fleet, &state("a", 1, 3, json!({})), false, T + 70_000);
    hear(&mut fleet, &state("a", 1, 4, alarm(1)), false, T + 80_000);
    assert_eq!(alarms::worst(device(&fleet), T + 80_000), Some(Severity::Error));
}

#[test]
fn a_seen_alarm_stays_seen_while_it_lasts() {
    let alarm = |for_s: u64| json!({"alarms": [{"alarm": "low_disk", "severity": "error", "sentence": "s", "for_s": for_s}]});
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 1, 1, alarm(0)), false, T);
    hear(&mut fleet, &("latro/v2/f/d/state".to_owned(), b"garbage".to_vec()), false, T);
    hear(
        &mut fleet,
        &state("a", 1, 2, json!({"time_ms": T - 900_000, "alarms": alarm(0)["alarms"]})),
        false,
        T,
    );
    let names: Vec<String> =
        alarms::of(device(&fleet), T).into_iter().map(|alarm| alarm.name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        fleet.acknowledge(&id(), &name, Seen { who: "anna".to_owned(), at_ms: T + 1 });
    }
    // The same comes again and again, the broker starts anew and sends what it had kept.
    hear(
        &mut fleet,
        &state("a", 1, 3, json!({"time_ms": T - 900_000, "alarms": alarm(60)["alarms"]})),
        false,
        T + 50_000,
    );
    hear(&mut fleet, &("latro/v2/f/d/state".to_owned(), b"garbage".to_vec()), false, T + 50_000);
    hear(&mut fleet, &state("a", 1, 4, json!({"alarms": alarm(3)["alarms"]})), true, T + 60_000);
    let new: Vec<_> = alarms::of(device(&fleet), T + 60_000)
        .into_iter()
        .filter(|alarm| alarm.seen_by.is_none())
        .collect();
    assert_eq!(new, []);
    // The same of a device that is away.
    hear(&mut fleet, &will("a", 1), false, T + 70_000);
    fleet.acknowledge(&id(), "connection_lost", Seen { who: "anna".to_owned(), at_ms: T + 70_001 });
    hear(&mut fleet, &will("a", 1), true, T + 90_000);
    assert_eq!(
        alarms::of(device(&fleet), T + 90_000)
            .iter()
            .filter(|alarm| alarm.seen_by.is_none())
            .count(),
        0
    );
    // A dashboard that starts later hears of the alarm from what the broker has kept.
    let mut later = Fleet::default();
    later.acknowledge(&id(), "low_disk", Seen { who: "anna".to_owned(), at_ms: T + 1 });
    hear(&mut later, &state("a", 1, 4, alarm(60)), true, T + 9_000_000);
    assert_eq!(
        alarms::of(device(&later), T + 9_000_000)
            .iter()
            .filter(|a| a.name == "low_disk" && a.seen_by.is_some())
            .count(),
        1
    );
}

#[test]
fn made_up_acknowledgements_are_bounded() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &online("a", 1, 1), false, T);
    let order = Order {
        id: "ours".to_owned(),
        what: "pause".to_owned(),
        who: "anna".to_owned(),
        given_ms: T,
        expires_ms: T + 60_000,
        said: None,
        reason: String::new(),
        sent: true,
        unsent: None,
    };
    fleet.get_mut(&id()).unwrap().orders.give(order);
    for n in 0..100 {
        let ack = json!({"command": format!("c{n}"), "state": "done", "reason": "x".repeat(5000)});
        hear(&mut fleet, &message("ack/x", "e", 1, n, ack), false, T);
    }
    let long = json!({"command": "y".repeat(5000), "state": "done"});
    assert!(hear(&mut fleet, &message("ack/x", "e", 1, 101, long), false, T).is_none());
    let orders = &device(&fleet).orders;
    assert!(orders.get("ours").is_some(), "what an operator gave stays");
    assert!(orders.iter().count() <= 40);
    assert!(orders.iter().all(|order| order.reason.len() <= 400));
}

#[test]
fn a_copied_identity_is_noticed_when_both_keep_connecting() {
    let mut fleet = Fleet::default();
    for (n, boot) in ["a", "b", "a"].into_iter().enumerate() {
        assert_eq!(alarm_names(&fleet_or_new(&mut fleet), T), [""; 0]);
        hear(&mut fleet, &online(boot, 10 + n as u64, 1), false, T + n as u64);
    }
    assert_eq!(alarm_names(&fleet, T + 5), ["name_used_twice"]);
    assert_eq!(alarm_names(&fleet, T + 7_200_000), ["silent"], "it is over after an hour");
}

/// The fleet with its device, also before the first message.
fn fleet_or_new(fleet: &mut Fleet) -> Fleet {
    let mut copy = Fleet { devices: fleet.devices.clone(), ..Fleet::default() };
    copy.devices.entry(id()).or_insert_with(|| Device::new(T));
    copy
}

#[test]
fn a_copied_identity_is_noticed_when_both_stay_connected() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 10, 1, json!({"state": "training"})), false, T);
    hear(&mut fleet, &state("b", 11, 1, json!({"state": "paused"})), false, T + 1);
    // What the first process has sent may still be under way.
    hear(&mut fleet, &state("a", 10, 2, json!({})), false, T + 30_000);
    assert_eq!(alarm_names(&fleet, T + 30_000), [""; 0]);
    hear(&mut fleet, &state("b", 11, 2, json!({"state": "paused"})), false, T + 60_000);
    hear(&mut fleet, &state("a", 10, 3, json!({})), false, T + 90_000);
    assert_eq!(alarm_names(&fleet, T + 90_000), ["name_used_twice"]);
    assert_eq!(device(&fleet).state().unwrap().state, "paused", "the later connection speaks");
}

#[test]
fn restarts_and_late_messages_are_no_copies() {
    let mut fleet = Fleet::default();
    for n in 0..20_u64 {
        let boot = format!("boot{n}");
        hear(&mut fleet, &online(&boot, 100 + n, 1), false, T + n * 120_000);
        hear(&mut fleet, &will(&boot, 100 + n), false, T + n * 120_000 + 90_000);
        hear(&mut fleet, &will("boot0", 100), true, T + n * 120_000 + 95_000);
    }
    assert_eq!(alarm_names(&fleet, T + 2_400_000), ["connection_lost"]);
}

#[test]
fn a_device_that_begins_again_below_takes_over() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 9_000_000_000, 50, json!({"state": "training"})), false, T);
    hear(&mut fleet, &will("a", 9_000_000_000), false, T + 1);
    hear(&mut fleet, &online("b", 1_800_000_000, 1), false, T + 60_000);
    assert_eq!(device(&fleet).status_at(T + 60_000), Status::Lost, "it may be a late message");

    hear(&mut fleet, &state("b", 1_800_000_000, 2, json!({"state": "paused"})), false, T + 240_000);

    assert_eq!(device(&fleet).state().unwrap().state, "paused");
    assert_eq!(device(&fleet).status_at(T + 240_000), Status::Online);
    assert_eq!(alarm_names(&fleet, T + 240_000), [""; 0]);
}

#[test]
fn a_wrong_clock_is_an_alarm_and_changes_nothing_else() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 1, 1, json!({"time_ms": T - 86_400_000})), false, T);
    assert_eq!(device(&fleet).status_at(T), Status::Online);
    let found = alarms::of(device(&fleet), T);
    assert_eq!(
        (found[0].name.as_str(), found[0].sentence.as_str()),
        ("clock_skew", "its clock is 24 h behind")
    );
    // What the broker had kept is old, which says nothing of the clock.
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", 1, 1, json!({"time_ms": T - 86_400_000})), true, T);
    assert_eq!(device(&fleet).skew_ms(), None);
}

#[test]
fn an_event_counts_once() {
    let event = message(
        "event",
        "e",
        1,
        4,
        json!({
        "event": "promoted", "severity": "info", "sentence": "s", "detail": {}}),
    );
    let mut fleet = Fleet::default();
    assert!(hear(&mut fleet, &event, false, T).unwrap().happening.is_some());
    assert!(hear(&mut fleet, &event, false, T).unwrap().happening.is_none());
    assert_eq!(device(&fleet).events().count(), 1);
}

#[test]
fn time_is_spent_as_the_device_said_before() {
    let blocked = json!({"state": "waiting_for_idle", "blockers": [
        {"blocker": "cpu_load_percent", "value": 80.0, "limit": 20.0, "sentence": "busy", "for_s": 3}]});
    let mut fleet = Fleet::default();
    let first = hear(&mut fleet, &state("a", 1, 1, blocked), false, T).unwrap();
    assert_eq!(first.spent, None);
    let next = hear(&mut fleet, &state("a", 1, 2, json!({"state": "training"})), false, T + 60_000);
    let spent = next.unwrap().spent.unwrap();
    assert_eq!(
        (&*spent.state, &*spent.reason, spent.ms),
        ("waiting_for_idle", "cpu_load_percent", 60_000)
    );
    let late = hear(&mut fleet, &state("a", 1, 3, json!({})), false, T + 1_060_000);
    let spent = late.unwrap().spent.unwrap();
    assert_eq!((&*spent.state, spent.ms), ("away", 1_000_000));
}

#[test]
fn acknowledgements_never_go_back() {
    let mut fleet = Fleet::default();
    hear(&mut fleet, &online("a", 1, 1), false, T);
    fleet.get_mut(&id()).unwrap().orders.give(Order {
        id: "c1".to_owned(),
        what: "pause".to_owned(),
        who: "anna".to_owned(),
        given_ms: T,
        expires_ms: T + 60_000,
        said: None,
        reason: String::new(),
        sent: true,
        unsent: None,
    });
    let order = |fleet: &Fleet, now| device(fleet).orders.get("c1").unwrap().progress(now);
    assert_eq!((order(&fleet, T), order(&fleet, T + 60_001)), ("sent", "no answer"));
    let ack = |state: AckState| {
        let (_, payload) =
            message("ack/c1", "e", 1, 9, json!({"command": "c1", "state": state.name()}));
        ("latro/v2/f/d/ack/c1".to_owned(), payload)
    };
    for (said, shown) in [
        ("running", "running"),
        ("received", "running"),
        ("done", "done"),
        ("running", "done"),
        ("failed", "done"),
    ] {
        let state = AckState::ALL.into_iter().find(|state| state.name() == said).unwrap();
        hear(&mut fleet, &ack(state), false, T);
        assert_eq!(order(&fleet, T + 60_001), shown, "after {said}");
    }
    // Commands that others gave are listed as well.
    let (_, payload) = message("ack/x", "e", 1, 10, json!({"command": "x", "state": "done"}));
    hear(&mut fleet, &("latro/v2/f/d/ack/x".to_owned(), payload), false, T);
    assert_eq!(device(&fleet).orders.iter().count(), 2);
}

#[test]
fn what_cannot_be_read_is_counted_with_its_device() {
    let mut fleet = Fleet::default();
    let bad = |topic: &str, payload: &[u8]| (topic.to_owned(), payload.to_vec());
    assert!(hear(&mut fleet, &bad("latro/v2/f/d/state", b"{"), false, T).is_none());
    assert!(fleet.is_empty(), "nobody is there yet who could have sent it");
    hear(&mut fleet, &online("a", 1, 1), false, T);
    let huge = vec![b' '; MAX_PAYLOAD_BYTES + 1];
    for payload in [&b"{"[..], b"[]", br#"{"v":3}"#, &huge] {
        assert!(hear(&mut fleet, &bad("latro/v2/f/d/state", payload), false, T).is_none());
    }
    assert_eq!(device(&fleet).unreadable.count(T), 4);
    assert_eq!(alarm_names(&fleet, T), ["unreadable_messages"]);
    // A cleared message, a command, another contract: none is a device's word.
    for (topic, payload) in
        [("latro/v2/f/d/state", &b""[..]), ("latro/v2/f/d/cmd/pause/1", b"{}"), ("x", b"{}")]
    {
        assert!(hear(&mut fleet, &bad(topic, payload), false, T).is_none());
    }
    assert_eq!(device(&fleet).unreadable.count(T), 4);
}

#[test]
fn a_hostile_device_costs_no_more_than_another() {
    let many: serde_json::Map<String, Value> =
        (0..2000).map(|n| (format!("{n}{}", "x".repeat(30)), json!(1.0))).collect();
    let long = "y".repeat(10_000);
    let alarm = json!({"alarm": long, "severity": "info", "sentence": long, "for_s": u64::MAX});
    let body =
        json!({"state": long, "signals": many, "alarms": vec![alarm; 2], "counts": {"a": 1}});
    let mut fleet = Fleet::default();
    hear(&mut fleet, &state("a", u64::MAX, u64::MAX, body), false, T).unwrap();
    let kept = serde_json::to_vec(device(&fleet).state().unwrap()).unwrap();
    assert!(kept.len() < 8000, "{} bytes", kept.len());
    assert_eq!(alarms::of(device(&fleet), T)[0].since_ms, 0);
}

/// A fleet of `n` devices that are all a little different.
fn various(n: usize) -> Fleet {
    let mut fleet = Fleet::default();
    for i in 0..n {
        let version = json!({"version": format!("v{i}"), "sha256": "", "parent": null, "published_ms": T,
            "rolled_back": i % 5 == 0, "numbers": {"accuracy_before": 0.5, "accuracy_after": 0.5 + i as f64 / 1000.0}});
        let body = json!({"state": if i % 2 == 0 { "training" } else { "paused" }, "step": i, "steps": 1000,
            "adapter": {"version": format!("v{i}"), "sha256": ""}, "versions": [version], "last_trained_ms": T});
        let (_, payload) = state("a", 1, 1, body);
        let topic = format!("latro/v2/press/d{i:03}/state");
        hear(&mut fleet, &(topic, payload), false, T);
        let (_, payload) =
            message("birth", "a", 1, 2, json!({"boot_id": "a", "tags": {"ring": i % 3 + 1}}));
        let text = String::from_utf8(payload).unwrap();
        let text = text
            .replace("\"ring\":1", "\"ring\":\"r1\"")
            .replace("\"ring\":2", "\"ring\":\"r2\"")
            .replace("\"ring\":3", "\"ring\":\"r3\"");
        hear(&mut fleet, &(format!("latro/v2/press/d{i:03}/birth"), text.into_bytes()), false, T);
    }
    fleet
}

#[test]
fn lists_are_filtered_sorted_and_cut_into_pages() {
    let fleet = various(250);
    let names =
        |page: &Page<'_>| page.devices.iter().map(|(id, _)| id.device.clone()).collect::<Vec<_>>();
    let all = fleet.page(&Filter::default(), Sort::Name, false, 3, T);
    assert_eq!((all.total, all.pages, all.devices.len()), (250, 3, 50));
    assert_eq!(names(&fleet.page(&Filter::default(), Sort::Name, false, 99, T)), names(&all));

    let training =
        Filter { state: "training".to_owned(), tag: "ring=r1".to_owned(), ..Filter::default() };
    let page = fleet.page(&training, Sort::Gain, true, 1, T);
    assert_eq!(page.total, (0..250).filter(|i| i % 6 == 0).count());
    assert_eq!(names(&page)[..2], ["d246", "d240"]);

    let text = Filter { text: "RING=R2".to_owned(), ..Filter::default() };
    assert_eq!(fleet.select(&text, T).count(), (0..250).filter(|i| i % 3 == 1).count());
    let one = Filter { adapter: "v7".to_owned(), ..Filter::default() };
    assert_eq!(names(&fleet.page(&one, Sort::Name, false, 1, T)), ["d007"]);
    let none = Filter { alarm: "any".to_owned(), ..Filter::default() };
    assert_eq!(fleet.page(&none, Sort::Name, false, 1, T).total, 0);
    let later = T + SILENT_AFTER_MS + 1;
    let silent =
        Filter { status: Some(Status::Silent), alarm: "silent".to_owned(), ..Filter::default() };
    assert_eq!(fleet.page(&silent, Sort::Alarms, true, 1, later).devices.len(), PAGE);
}

#[test]
fn a_fleet_is_summed_up() {
    let fleet = various(10);
    let summary = Summary::of(&fleet, T);
    assert_eq!((summary.devices, summary.learning, summary.improved), (10, 10, 10));
    assert_eq!(summary.status[&Status::Online], 10);
    assert_eq!(summary.states["training"], 5);
    assert!((summary.median_gain.unwrap() - 0.005).abs() < 1e-9);
    assert_eq!(summary.tags.len(), 3);
    let (better, lost) = changes(&fleet, T - 1);
    assert_eq!((better.len(), lost.len()), (8, 2));
    assert_eq!(better[0].id.device, "d009");
    assert!(changes(&fleet, T + 1).0.is_empty());
}

#[test]
fn a_retired_device_is_gone_until_it_speaks_again() {
    let mut fleet = various(2);
    let gone = DeviceId::parse("press/d000").unwrap();
    fleet.retire(&gone);
    assert!(fleet.get(&gone).is_none());
    assert_eq!(fleet.len(), 1);
}

/// What a device has said in its life: connections with states, each ended by a will or in order.
fn life() -> impl Strategy<Value = Vec<Sent>> {
    let connection = (0..4_u64, any::<bool>(), any::<bool>());
    prop::collection::vec(connection, 1..6).prop_map(|connections| {
        let mut sent = Vec::new();
        for (n, (states, ends, in_order)) in connections.into_iter().enumerate() {
            let (boot, connection) = (format!("boot{n}"), 100 + n as u64);
            sent.push(online(&boot, connection, 1));
            for seq in 0..states {
                sent.push(state(&boot, connection, 2 + seq, json!({"step": n as u64 * 10 + seq})));
            }
            if ends {
                sent.push(if in_order {
                    stopped(&boot, connection, 9)
                } else {
                    will(&boot, connection)
                });
            }
        }
        sent
    })
}

/// What is seen of the device at last.
fn seen(fleet: &Fleet) -> (Status, Option<u64>) {
    let device = device(fleet);
    (device.status_at(T), device.state().map(|state| state.step))
}

proptest! {
    /// Messages in any order, some of them twice, leave the same device as those in order.
    #[test]
    fn order_and_repetition_do_not_matter(
        (sent, shuffled) in life().prop_flat_map(|sent| {
            let all: Vec<usize> = (0..sent.len()).chain(0..sent.len()).collect();
            (Just(sent), Just(all).prop_shuffle())
        }),
        retained in any::<bool>(),
    ) {
        let (mut straight, mut mixed) = (Fleet::default(), Fleet::default());
        for message in &sent {
            hear(&mut straight, message, retained, T);
        }
        for at in shuffled {
            hear(&mut mixed, &sent[at], retained, T);
        }
        prop_assert_eq!(seen(&straight), seen(&mixed));
        prop_assert_eq!(alarm_names(&mixed, T).contains(&"name_used_twice".to_owned()), false);
    }

    /// Whatever comes, nothing breaks, and lists can be made of it.
    #[test]
    fn any_bytes_can_be_heard(
        messages in prop::collection::vec(
            (prop::sample::select(vec!["status", "birth", "state", "progress", "event", "ack/x", "cmd/a/b"]),
             prop::collection::vec(any::<u8>(), SizeRange::from(0..60)), any::<bool>(), any::<u64>()), 0..30),
    ) {
        let mut fleet = Fleet::default();
        hear(&mut fleet, &online("a", 1, 1), false, T);
        for (kind, payload, retained, at) in messages {
            hear(&mut fleet, &(format!("latro/v2/f/d/{kind}"), payload), retained, at);
        }
        let _ = Summary::of(&fleet, 0);
        for sort in [Sort::Name, Sort::Gain, Sort::Alarms] {
            let _ = fleet.page(&Filter::default(), sort, true, 0, u64::MAX);
        }
    }
}
