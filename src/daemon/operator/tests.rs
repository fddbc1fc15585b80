//! Commands against values alone: what each changes, and when it ends.

use super::*;

fn command(id: &str, action: Action) -> Accepted {
    Accepted { id: id.into(), action, expires: 2_000_000_000, state: AckState::Received }
}

fn facts(active: Option<&str>) -> Facts<'_> {
    Facts { active, settings: &|_| Ok(()) }
}

/// The only commit among `effects`.
#[track_caller]
fn commit(effects: &[Effect]) -> Commit {
    let commits: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(commit) => Some(commit.as_ref().clone()),
            _ => None,
        })
        .collect();
    assert_eq!(commits.len(), 1, "{effects:?}");
    commits[0].clone()
}

/// Carries the change of a commit out.
fn apply(operator: &mut Operator, effects: &[Effect]) {
    if let Some(change) = commit(effects).operator {
        operator.set(operator.state().with(change));
    }
}

#[test]
fn a_pause_is_kept_together_with_its_end() {
    let mut operator = Operator::default();
    let effects = operator.command(&command("a", Action::Pause), &facts(None));

    let expected = Commit {
        operator: Some(OperatorChange::Paused(true)),
        commands: vec![CommandStep::Ended("a".into(), CommandOutcome::Done(None))],
        ..Commit::default()
    };
    assert_eq!(effects, [expected.into(), Effect::PublishState]);
    apply(&mut operator, &effects);
    assert!(operator.state().paused);
    let effects = operator.command(&command("b", Action::Resume), &facts(None));
    apply(&mut operator, &effects);
    assert!(!operator.state().paused);
}

#[test]
fn a_newer_command_takes_the_place_of_one_that_waits() {
    let mut operator = Operator::default();
    let effects = operator.command(&command("a", Action::TrainNow), &facts(None));
    apply(&mut operator, &effects);
    let effects = operator.command(&command("b", Action::TrainNow), &facts(None));

    let superseded = CommandStep::failed("a", "a newer command took its place");
    assert_eq!(commit(&effects).commands, [superseded, CommandStep::Started("b".into())]);
    assert_eq!(effects.last(), Some(&CommandEffect::AnswerTrainNow.into()));
    apply(&mut operator, &effects);
    let answered = operator.cycle_began(7);
    assert_eq!(commit(&answered).commands, [CommandStep::done("b", "cycle 7 has begun")]);
    apply(&mut operator, &answered);
    assert_eq!(operator.cycle_began(8), [], "nobody has asked for it");
}

#[test]
fn a_check_fails_where_there_is_nothing_to_check() {
    let mut operator = Operator::default();
    assert_eq!(operator.nothing_to_check("no adapter is active"), []);
    let effects = operator.command(&command("a", Action::Check), &facts(None));
    apply(&mut operator, &effects);

    let answered = operator.nothing_to_check("no adapter is active");

    assert_eq!(commit(&answered).commands, [CommandStep::failed("a", "no adapter is active")]);
    apply(&mut operator, &answered);
    assert_eq!(operator.state().check, None);
}

#[test]
fn a_rollback_names_its_version_once() {
    let mut operator = Operator::default();
    let refused = operator.command(&command("a", Action::Rollback), &facts(None));
    assert_eq!(commit(&refused).commands, [CommandStep::refused("a", "no adapter is active")]);
    assert_eq!(commit(&refused).operator, None);

    let effects = operator.command(&command("b", Action::Rollback), &facts(Some("2")));
    assert_eq!(effects.last(), Some(&CommandEffect::RollBack.into()));
    apply(&mut operator, &effects);
    assert_eq!(operator.state().roll_back, Some(("2".into(), "b".into())));

    let failed = operator.rolled_back(Err("the disk is full".into()));
    assert_eq!(commit(&failed).commands, [CommandStep::failed("b", "the disk is full")]);
    apply(&mut operator, &failed);
    assert_eq!(operator.rolled_back(Ok(())), [], "it was told once");
}

#[test]
fn a_setting_that_cannot_be_used_is_refused_and_an_empty_one_goes_back_to_the_file() {
    let mut operator = Operator::default();
    let set =
        |value: &str| command("a", Action::Set { key: "learn.steps".into(), value: value.into() });
    let unusable = |_: &BTreeMap<String, String>| Err("steps is not a number".to_owned());
    let refused = operator.command(&set("many"), &Facts { active: None, settings: &unusable });
    assert_eq!(commit(&refused).commands, [CommandStep::refused("a", "steps is not a number")]);
    assert_eq!(commit(&refused).operator, None);

    let effects = operator.command(&set("30"), &facts(None));
    assert_eq!(effects.last(), Some(&CommandEffect::ApplySettings.into()));
    apply(&mut operator, &effects);
    assert_eq!(operator.state().settings["learn.steps"], "30");
    let effects = operator.command(&set(""), &facts(None));
    apply(&mut operator, &effects);
    assert!(operator.state().settings.is_empty());
}

#[test]
fn what_was_left_unfinished_is_done_unless_it_waits_or_comes_too_late() {
    let mut operator = Operator::default();
    let state = OperatorState { train_now: Some("waits".into()), ..OperatorState::default() };
    operator.set(state);
    let with = |id: &str, state| Accepted { state, ..command(id, Action::TrainNow) };
    let (received, running) = (AckState::Received, AckState::Running);
    let (early, late) = (1_900_000_000, 2_000_000_000);

    assert_eq!(operator.leftover(&with("new", received), early), Leftover::Do);
    assert_eq!(operator.leftover(&with("new", received), late), Leftover::Expired);
    assert_eq!(operator.leftover(&with("new", received), 5), Leftover::Do, "the clock is not set");
    assert_eq!(operator.leftover(&with("other", running), late), Leftover::Do);
    assert_eq!(operator.leftover(&with("waits", running), late), Leftover::Waits);
}

#[test]
fn what_is_kept_is_recalled() {
    let kept = OperatorState {
        paused: true,
        check: Some("c".into()),
        settings: [("cycle.repeat_after_s".to_owned(), "1".to_owned())].into(),
        ..OperatorState::default()
    };

    let text = serde_json::to_string(&kept).unwrap();

    assert_eq!(serde_json::from_str::<OperatorState>(&text).unwrap(), kept);
}
