use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::contract::wire::Action;

const NOW: u64 = 1_800_000_000_000;
/// A tick of a life that is lived at the usual speed, in milliseconds.
const TICK_MS: u64 = 5000;

fn life(seed: u64, past_ticks: u64) -> Life {
    Life::new(Random::of(seed, 1), 1.0, ("0a".to_owned(), 4000), past_ticks, NOW)
}

/// What must hold at any time.
fn check(life: &Life) {
    let state = life.state();
    assert!(state.step <= state.steps, "{state:?}");
    assert_eq!(state.state == "training", life.phase() == Phase::Training);
    if let Some(adapter) = &state.adapter {
        let active: Vec<_> =
            state.versions.iter().filter(|version| version.version == adapter.version).collect();
        assert_eq!(active.len(), 1, "{state:?}");
        assert_eq!(active[0].sha256, adapter.sha256);
        assert!(!active[0].rolled_back, "{state:?}");
    }
    assert!(state.versions.is_sorted_by_key(|version| version.version.clone()));
    if state.state == "training" {
        assert_eq!(state.blockers, [], "{state:?}");
        assert!(state.steps > 0 && state.alarms.iter().all(|alarm| alarm.alarm != "disk"));
    }
    let named = |name: &str| state.blockers.iter().any(|blocker| blocker.blocker == name);
    assert!(!matches!(state.state.as_str(), "paused") || named("paused"));
    assert!(!matches!(state.state.as_str(), "yielding") || named("cpu_load_percent"));
    assert!(!matches!(state.state.as_str(), "cooling_down") || named("temperature_celsius"));
    assert_eq!(state.state == "waiting_for_tasks", named("tasks"));
    let alarms: BTreeSet<_> = state.alarms.iter().map(|alarm| &alarm.alarm).collect();
    assert_eq!(alarms.len(), state.alarms.len());
    assert_eq!(state.counts["set_aside_tasks"] > 0, named_alarm(&state, "tasks_set_aside"));
    assert!(state.counts["new_tasks"] <= state.counts["train_tasks"]);
    let ended = state.last_cycle.map_or(0, |cycle| cycle.number);
    assert!(ended == life.cycles || ended + 1 == life.cycles);
    assert!(state.signals.values().all(|signal| signal.is_finite()));
}

fn named_alarm(state: &crate::contract::wire::State, name: &str) -> bool {
    state.alarms.iter().any(|alarm| alarm.alarm == name)
}

#[derive(Debug, Clone)]
enum Turn {
    Wait(u64),
    Obey(Action, u64),
    Restart,
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let set = prop_oneof![Just("3"), Just(""), Just("0"), Just("x")].prop_map(|value: &str| {
        Action::Set { key: "learn.steps".to_owned(), value: value.to_owned() }
    });
    let version = prop_oneof![Just("newest"), Just("oldest"), Just("none")];
    let version = version.prop_map(|version: &str| Action::Promote { version: version.to_owned() });
    let action = prop_oneof![
        Just(Action::Pause),
        Just(Action::Resume),
        Just(Action::Resume),
        Just(Action::TrainNow),
        Just(Action::Check),
        Just(Action::Rollback),
        Just(Action::RestoreTasks),
        set,
        version,
    ];
    prop_oneof![
        4 => (0..1000 * TICK_MS).prop_map(Turn::Wait),
        1 => Just(Turn::Wait(u64::MAX / 2)),
        4 => (action, 1..100_000_u64).prop_map(|(action, life_s)| Turn::Obey(action, life_s)),
        1 => Just(Turn::Restart),
    ]
}

/// `newest` and `oldest` stand for versions that are there.
fn with_version(action: Action, life: &Life) -> Action {
    let Action::Promote { version } = action else { return action };
    let versions = life.state().versions;
    let found = if version == "oldest" { versions.first() } else { versions.last() };
    let found = found.filter(|_| version != "none").map(|found| found.version.clone());
    Action::Promote { version: found.unwrap_or(version) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the clock does and operators want, a life stays consistent, and every command comes to an end
    /// once, or waits.
    #[test]
    fn a_life_is_consistent(seed: u64, turns in proptest::collection::vec(any_turn(), 1..40)) {
        let mut life = life(seed, 300);
        let (mut now_ms, mut ended) = (NOW, BTreeSet::new());
        for (number, turn) in turns.into_iter().enumerate() {
            match turn {
                Turn::Wait(ms) => now_ms = now_ms.saturating_add(ms),
                Turn::Obey(action, life_s) => {
                    let action = with_version(action, &life);
                    life.obey(&number.to_string(), &action, now_ms / 1000 + life_s);
                }
                Turn::Restart => {
                    check(&life);
                    // What was told and not taken is not part of this.
                    for told in life.advance(0) {
                        note(&told, &mut ended);
                    }
                    life.restart(now_ms);
                }
            }
            for told in life.advance(now_ms) {
                note(&told, &mut ended);
            }
            check(&life);
        }
    }
}

fn note(told: &Told, ended: &mut BTreeSet<String>) {
    match told {
        Told::Ack { id, state, .. } => {
            assert!(!ended.contains(id), "{told:?} after its end");
            if state.is_final() {
                ended.insert(id.clone());
            }
        }
        Told::Progress(progress) => assert!((1..=progress.steps).contains(&progress.step)),
        Told::Event(_) => {}
    }
}

#[test]
fn lives_see_everything_and_follow_from_their_seeds() {
    let (mut phases, mut events, mut results) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in 0..20 {
        let (mut life, mut twin) = (life(seed, 0), life(seed, 0));
        for tick in 1..4000 {
            let told = life.advance(NOW + tick * TICK_MS);
            assert_eq!(told, twin.advance(NOW + tick * TICK_MS));
            phases.insert(life.phase().name());
            let names = told.iter().filter_map(|told| match told {
                Told::Event(event) => Some(event.name()),
                _ => None,
            });
            events.extend(names);
            results.extend(life.state().last_cycle.map(|cycle| cycle.result));
        }
        assert_eq!(life.state(), twin.state());
    }
    let all = Phase::ALL.map(Phase::name);
    let unseen: Vec<_> = all.iter().filter(|name| !phases.contains(*name)).collect();
    assert_eq!(unseen, [&"paused", &"stopping"]);
    for name in
        ["started", "cycle_began", "promoted", "rejected", "tasks_taken", "low_disk", "recovered"]
    {
        assert!(events.contains(name), "{name}");
    }
    assert_eq!(results.into_iter().collect::<Vec<_>>(), ["failed", "promoted", "rejected"]);
}

#[test]
fn what_is_learned_shows_in_the_curves() {
    let mut random = Random::of(3, 3);
    let (mut first, mut last, mut kl) = (0.0, 0.0, 0.0);
    for _ in 0..100 {
        let mut lesson = lesson::Lesson::new(&mut random, 40);
        let steps: Vec<_> = (0..40).map(|_| lesson.next(&mut random).numbers).collect();
        first += steps[0]["reward"] / 100.0;
        last += steps[39]["reward"] / 100.0;
        kl += (steps[39]["kl"] - steps[0]["kl"]) / 100.0;
    }
    assert!(last > first + 0.2 && kl > 0.01, "{first} {last} {kl}");
}

#[test]
fn commands_come_to_their_ends() {
    let mut life = life(5, 0);
    life.advance(NOW + 10 * TICK_MS);
    let expires = NOW / 1000 + 3600;

    life.obey("a", &Action::Pause, expires);
    assert_eq!(life.phase(), Phase::Paused);
    life.obey("b", &Action::TrainNow, NOW / 1000 + 100);
    life.obey("c", &Action::Rollback, expires);
    let told = life.advance(NOW + 30 * TICK_MS);
    life.obey("d", &Action::Resume, expires);
    life.obey("e", &Action::TrainNow, expires);
    let later = life.advance(NOW + 2000 * TICK_MS);

    let ends = |told: &[Told]| -> Vec<(String, AckState)> {
        let acks = told.iter().filter_map(|told| match told {
            Told::Ack { id, state, .. } if state.is_final() => Some((id.clone(), *state)),
            _ => None,
        });
        acks.collect()
    };
    let end = |id: &str, state| (id.to_owned(), state);
    let expected =
        [end("a", AckState::Done), end("c", AckState::Refused), end("b", AckState::Expired)];
    assert_eq!(ends(&told), expected);
    assert_eq!(ends(&later), [end("d", AckState::Done), end("e", AckState::Done)]);
}
