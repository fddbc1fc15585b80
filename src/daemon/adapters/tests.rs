//! What follows from changes and checks of the active adapter, from values alone.

use super::*;
use crate::promotion::gate::{Answered, Pair};

const OLD: &str = "00000001-0a1b2c3d";
const NEW: &str = "00000002-4e5f6071";

fn active(version: Option<&str>) -> Adapters {
    let active = ActiveAdapter {
        version: version.map(str::to_owned),
        newest: 40,
        checks: 2,
        awaiting: None,
    };
    Adapters { active, fresh_held_out: 60, ..Adapters::default() }
}

fn record() -> CheckRecord {
    CheckRecord { version: NEW.into(), parent: Some(OLD.into()), newest: 70, rolling_back: false }
}

/// Sixty questions; the share that each side answers right.
fn paired(before: usize, after: usize) -> Paired {
    let answered = |correct| Answered {
        correct,
        log_p_answer: if correct { -0.1 } else { -4.0 },
        answer_tokens: 1,
    };
    let pair = |n| Pair { baseline: answered(n < before), candidate: answered(n < after) };
    Paired { questions: (0..60).map(pair).collect(), ..Paired::default() }
}

fn commits(effects: &[Effect]) -> Vec<&Commit> {
    let mut commits = Vec::new();
    for effect in effects {
        if let Effect::Commit(commit) = effect {
            commits.push(commit.as_ref());
        }
    }
    commits
}

#[test]
fn a_switch_is_kept_with_its_hook_and_its_event_and_none_is_no_news() {
    let adapters = active(Some(OLD));
    let (old, new) = (Some(OLD.to_owned()), Some(NEW.to_owned()));
    assert_eq!(adapters.switched(old.clone(), old.clone(), "nothing"), []);

    let forward = adapters.switched(old.clone(), new.clone(), "chosen");

    let switch = Switch { kind: HookKind::Promoted, version: new.clone(), previous: old.clone() };
    let kept = ActiveAdapter { version: new.clone(), newest: 40, ..ActiveAdapter::default() };
    let commit = commits(&forward)[0];
    assert_eq!((commit.active.as_ref(), commit.hook.as_ref()), (Some(&kept), Some(&Some(switch))));
    assert!(matches!(commit.event, Some(Event::Switched { .. })));
    assert_eq!(forward.last(), Some(&AdapterEffect::Changed.into()));
    for (from, to) in [(new.clone(), old), (new, None)] {
        let back = adapters.switched(from, to, "damaged");
        let switch = commits(&back)[0].hook.clone().flatten();
        assert_eq!(switch.map(|switch| switch.kind), Some(HookKind::RolledBack));
    }
}

#[test]
fn an_adapter_that_is_as_good_as_before_stays_and_the_command_is_answered() {
    let operator = OperatorState { check: Some("c".into()), ..OperatorState::default() };
    let settings = GateSettings::default();

    let effects = active(Some(NEW)).judge_check(
        &record(),
        Some(NEW),
        Ok(paired(30, 30)),
        &settings,
        &operator,
    );

    let commit = commits(&effects)[0];
    let kept = ActiveAdapter { version: Some(NEW.into()), newest: 70, checks: 3, awaiting: None };
    assert_eq!(commit.active, Some(kept));
    assert!(matches!(&commit.commands[..], [CommandStep::Ended(id, _)] if id == "c"));
    assert!(matches!(commit.event, Some(Event::Checked { keep: true, .. })));
    assert_eq!(effects[1..], [AdapterEffect::EndCheck.into()]);
}

#[test]
fn a_worse_adapter_is_marked_before_anything_is_told_and_then_rolled_back() {
    let (settings, operator) = (GateSettings::default(), OperatorState::default());

    let effects = active(Some(NEW)).judge_check(
        &record(),
        Some(NEW),
        Ok(paired(50, 5)),
        &settings,
        &operator,
    );

    assert_eq!(effects[0], AdapterEffect::MarkRollingBack.into());
    assert!(matches!(commits(&effects)[0].event, Some(Event::Checked { keep: false, .. })));
    assert!(matches!(&effects[2], Effect::Adapter(AdapterEffect::RollBack { version, .. })
        if version == NEW));
    assert_eq!(effects[3], AdapterEffect::EndCheck.into());
}

#[test]
fn a_check_of_another_version_or_without_a_result_ends() {
    let (settings, operator) = (GateSettings::default(), OperatorState::default());
    let end = [Effect::from(AdapterEffect::EndCheck)];
    let judge = |active_now, paired| {
        active(Some(NEW)).judge_check(&record(), active_now, paired, &settings, &operator)
    };

    assert_eq!(judge(Some(OLD), Ok(paired(50, 5))), end);
    assert_eq!(judge(None, Ok(paired(50, 5))), end);
    assert_eq!(judge(Some(NEW), Err("cut off".into())), end);
}

#[test]
fn there_is_something_to_check_once_tasks_have_come() {
    assert!(active(None).can_check().unwrap_err().contains("no adapter"));
    assert!(active(Some(NEW)).can_check().is_ok());
    let none = Adapters { fresh_held_out: 0, ..active(Some(NEW)) };
    assert!(none.can_check().unwrap_err().contains("no held-out tasks"));
}

#[test]
fn the_end_of_the_hook_is_told_and_then_forgotten() {
    let mut adapters = active(Some(NEW));
    let switch = Switch { kind: HookKind::Promoted, version: Some(NEW.into()), previous: None };
    adapters.hook.set(Some(switch.clone()));
    adapters.hook.start();
    let outcome =
        HookOutcome { result: HookResult::Failed(3), seconds: 0.5, output: "no".to_owned() };

    let effects = adapters.hook_ended(Some(&outcome));

    assert!(matches!(effects[0], Effect::Tell(Event::HookFailed { .. })));
    assert_eq!(commits(&effects)[0].hook, Some(None));
    assert_eq!(adapters.hook, HookState::Due(switch.clone()), "until that is written");
    adapters.hook.start();
    adapters.hook.set(Some(Switch { version: None, ..switch }));
    assert_eq!(adapters.hook_ended(None), [], "something else is due");
}
