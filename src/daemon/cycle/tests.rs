//! What follows from a cycle's comparison, from values alone.

use super::*;
use crate::promotion::gate::{Answered, Pair};

const OLD: &str = "00000001-0a1b2c3d";
const NEW: &str = "00000002-4e5f6071";
const NOW: i64 = 1_780_000_000;

fn basis() -> Basis {
    Basis { base_sha256: "b".into(), start: Some(OLD.into()) }
}

fn record(state: CycleState) -> Record {
    Record { number: 3, state, train: 100, held_out: 60, newest: 160, began: NOW - 900 }
}

fn judging() -> Record {
    record(CycleState::Judging { basis: basis(), baseline: Baseline(Some(OLD.into())) })
}

fn cycles() -> Cycles {
    let last =
        LastCycle { number: 2, newest: 90, failures: 1, attempts: 4, ..LastCycle::default() };
    Cycles { last, ..Cycles::default() }
}

/// Sixty questions; how many each side answers right.
fn paired(before: usize, after: usize) -> Paired {
    let answered = |correct| Answered {
        correct,
        log_p_answer: if correct { -0.1 } else { -4.0 },
        answer_tokens: 1,
    };
    let pair = |n| Pair { baseline: answered(n < before), candidate: answered(n < after) };
    Paired { questions: (0..60).map(pair).collect(), ..Paired::default() }
}

fn settings() -> GateSettings {
    GateSettings { max_kl_nats_per_token: 0.0, ..GateSettings::default() }
}

fn judge(record: &Record, active: Option<&str>, paired: Result<Paired, String>) -> Vec<Effect> {
    cycles().judge(record, active, paired, &settings(), NOW)
}

fn published(rolled_back: bool) -> Published {
    Published { version: NEW.into(), sha256: "4e5f6071".into(), rolled_back, decision: None }
}

/// What follows once the candidate is published, where the adapter before it was checked twice.
fn publish(rolled_back: bool, approval: Approval) -> Vec<Effect> {
    let active = ActiveAdapter { version: Some(OLD.into()), newest: 40, checks: 2, awaiting: None };
    cycles().published(&judging(), &published(rolled_back), approval, &active, NOW)
}

/// The commit that comes first, and the effects behind it.
#[track_caller]
fn committed(effects: &[Effect]) -> (&Commit, &[Effect]) {
    match effects {
        [Effect::Commit(commit), rest @ ..] => (commit, rest),
        _ => panic!("nothing is committed first: {effects:?}"),
    }
}

#[test]
fn a_better_candidate_is_published_and_that_is_noted_before_it_is_promoted() {
    let effects = judge(&judging(), Some(OLD), Ok(paired(5, 55)));

    let [Effect::Cycle(CycleEffect::Publish(decision))] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(decision.attempt, 5, "four others were rejected before");
    let next = publish(false, Approval::Automatic);
    let version = NEW.to_owned();
    assert_eq!(
        next,
        [CycleEffect::Published(version.clone()).into(), CycleEffect::Promote(version).into()]
    );
}

#[test]
fn a_promotion_is_one_transaction_and_the_folder_goes_after_it() {
    let state = CycleState::Promoting {
        basis: basis(),
        baseline: Baseline(Some(OLD.into())),
        version: NEW.into(),
    };
    let record = record(state);
    let again = judge(&record, Some(OLD), Err("never read".into()));
    assert_eq!(again, [CycleEffect::Promote(NEW.into()).into()], "after a kill in between");

    let effects = cycles().promoted(&record, &published(false), NOW);

    let (commit, rest) = committed(&effects);
    let last = commit.last_cycle.as_ref().unwrap();
    assert_eq!((last.number, last.newest, last.failures, last.attempts), (3, 160, 0, 0));
    let active =
        ActiveAdapter { version: Some(NEW.into()), newest: 160, ..ActiveAdapter::default() };
    assert_eq!(commit.active, Some(active));
    let switch = commit.hook.clone().flatten().unwrap();
    assert_eq!((switch.kind, switch.previous.as_deref()), (HookKind::Promoted, Some(OLD)));
    assert!(matches!(&commit.event, Some(Event::Promoted { version, .. }) if version == NEW));
    let expected: [Effect; 3] =
        [CycleEffect::End.into(), AdapterEffect::Retain.into(), AdapterEffect::Changed.into()];
    assert_eq!(rest, expected);
}

#[test]
fn what_was_rolled_back_is_not_promoted_again() {
    for approval in [Approval::Automatic, Approval::Operator] {
        let effects = publish(true, approval);
        assert!(matches!(&effects[..], [Effect::Cycle(CycleEffect::Fail(_))]), "{effects:?}");
    }
}

#[test]
fn where_an_operator_has_the_last_word_it_waits_and_the_active_adapter_stays() {
    let effects = publish(false, Approval::Operator);

    let (commit, rest) = committed(&effects);
    let last = commit.last_cycle.as_ref().unwrap();
    assert_eq!((last.number, last.result), (3, Some(CycleResult::AwaitingApproval)));
    assert_eq!(last.attempts, 5, "the next one must show more");
    let active = commit.active.as_ref().unwrap();
    let waits = Awaiting { version: NEW.into(), cycle: 3, newest: 160 };
    assert_eq!((active.version.as_deref(), active.awaiting.as_ref()), (Some(OLD), Some(&waits)));
    assert_eq!((active.newest, active.checks), (40, 2), "it was judged no further");
    assert_eq!(commit.hook, None, "nothing has changed for who serves it");
    assert!(matches!(&commit.event, Some(Event::AwaitsApproval { version, .. }) if version == NEW));
    let expected: [Effect; 3] =
        [CycleEffect::End.into(), AdapterEffect::Retain.into(), Effect::CountTasks];
    assert_eq!(rest, expected);
}

#[test]
fn an_approval_is_a_promotion_on_the_questions_that_it_has_answered() {
    let waits = Awaiting { version: NEW.into(), cycle: 2, newest: 160 };
    let effects = cycles().approved(&waits, &published(false), Some(OLD.into()));

    let (commit, rest) = committed(&effects);
    let last = commit.last_cycle.as_ref().unwrap();
    assert_eq!((last.result, last.attempts), (Some(CycleResult::Promoted), 0));
    assert!(last.outcome.starts_with("promoted as"), "{}", last.outcome);
    let active =
        ActiveAdapter { version: Some(NEW.into()), newest: 160, ..ActiveAdapter::default() };
    assert_eq!(commit.active, Some(active), "older questions are no news for a check");
    assert!(matches!(&commit.event, Some(Event::Promoted { version, .. }) if version == NEW));
    let expected: [Effect; 2] = [AdapterEffect::Retain.into(), AdapterEffect::Changed.into()];
    assert_eq!(rest, expected);

    // A later cycle that came to nothing stays the last one.
    let earlier = Awaiting { cycle: 1, ..waits };
    let effects = cycles().approved(&earlier, &published(false), Some(OLD.into()));
    assert_eq!(committed(&effects).0.last_cycle.as_ref().unwrap().result, None);
}

#[test]
fn the_first_candidate_after_a_switch_is_the_first_against_that_adapter() {
    let effects = cycles().switched();
    assert_eq!(committed(&effects).0.last_cycle.as_ref().unwrap().attempts, 0);
    assert_eq!(Cycles::default().switched(), []);
}

#[test]
fn a_rejection_counts_as_an_attempt_and_too_few_questions_do_not() {
    for (paired, attempts) in [(paired(30, 30), 5), (Paired::default(), 4)] {
        let effects = judge(&judging(), Some(OLD), Ok(paired));

        let (commit, rest) = committed(&effects);
        let last = commit.last_cycle.as_ref().unwrap();
        assert_eq!((last.number, last.failures, last.attempts), (3, 0, attempts));
        assert!(matches!(commit.event, Some(Event::Rejected { .. })));
        assert_eq!(rest, [CycleEffect::End.into(), Effect::CountTasks]);
    }
}

#[test]
fn a_comparison_with_another_baseline_or_without_a_result_is_repeated() {
    let again = [Effect::from(CycleEffect::CompareAgain)];

    assert_eq!(judge(&judging(), Some(NEW), Ok(paired(5, 55))), again);
    assert_eq!(judge(&judging(), None, Ok(paired(5, 55))), again);
    assert_eq!(judge(&judging(), Some(OLD), Err("cut off".into())), again);
}

#[test]
fn a_cycle_that_was_judged_before_a_kill_only_goes() {
    let record = Record { number: 2, ..judging() };
    let effects = judge(&record, Some(OLD), Ok(paired(5, 55)));
    assert_eq!(effects, [CycleEffect::End.into(), Effect::CountTasks]);
}

#[test]
fn a_failure_is_counted_and_told() {
    let effects = cycles().failed(&judging(), "the tasks are gone", NOW);

    let (commit, _) = committed(&effects);
    let last = commit.last_cycle.as_ref().unwrap();
    assert_eq!((last.failures, last.attempts), (2, 4));
    assert_eq!(last.outcome, "failed: the tasks are gone");
    assert!(matches!(commit.event, Some(Event::CycleFailed { number: 3, .. })));
}

#[test]
fn a_number_is_never_used_twice() {
    assert_eq!(cycles().next_number([]), 3);
    assert_eq!(cycles().next_number([1, 7, 2]), 8, "the ledger was lost, the versions were not");
}

#[test]
fn what_came_of_a_cycle_is_unknown_of_one_that_an_earlier_version_has_ended() {
    let earlier = r#"{"number": 3, "newest": 9, "ended": 5, "failures": 0, "attempts": 0,
        "outcome": "promoted as 00000001-0a1b2c3d"}"#;

    let last: LastCycle = serde_json::from_str(earlier).unwrap();

    assert_eq!((last.number, last.result), (3, None));
}
