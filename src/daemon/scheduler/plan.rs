//! What there is to do, from what is known of tasks, cycles and adapters. Pure.

use super::{Job, Work};
use crate::config::CycleSettings;
use crate::daemon::cycle::Stage;

/// What is known of tasks, cycles and adapters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The stage of the cycle in progress.
    pub stage: Option<Stage>,
    /// Tasks to learn from.
    pub train: usize,
    /// Tasks that are held out.
    pub held_out: usize,
    /// Tasks to learn from that the last cycle did not have.
    pub new_tasks: usize,
    /// When the last cycle ended, in unix seconds.
    pub last_ended: Option<i64>,
    /// Cycles that have failed since the last one that was judged.
    pub failures: u32,
    /// An operator wants a cycle now.
    pub train_now: bool,
    /// Held-out tasks that came after the active adapter was promoted and were not yet used to check
    /// it; none without an active adapter.
    pub fresh_held_out: Option<usize>,
    /// An operator wants the active adapter checked now.
    pub check: bool,
}

/// What to do next, at unix time `now`.
#[must_use]
pub fn plan(settings: &CycleSettings, known: &Known, now: i64) -> Work {
    if let Some(fresh) = known.fresh_held_out
        && (is_enough(fresh, settings.check_after_held_out) || (known.check && fresh > 0))
    {
        return Work::Job(Job::Check);
    }
    match known.stage {
        Some(Stage::Training) => Work::Job(Job::Train),
        Some(Stage::Evaluating) => Work::Job(Job::Evaluate),
        Some(Stage::Judging) => Work::Judge,
        None => begin(settings, known, now),
    }
}

/// Whether there are `enough`, which is never the case if that is 0.
const fn is_enough(have: usize, enough: usize) -> bool {
    enough > 0 && have >= enough
}

/// Whether a cycle can begin.
fn begin(settings: &CycleSettings, known: &Known, now: i64) -> Work {
    let too_few = |what: &str, have: usize, need: u64| {
        Work::None(format!("{have} of the {need} {what} that a cycle needs"))
    };
    if known.train == 0 {
        return too_few("tasks to learn from", 0, settings.min_new_tasks);
    }
    if known.held_out < settings.min_held_out {
        return too_few("held-out tasks", known.held_out, settings.min_held_out as u64);
    }
    if known.train_now {
        return Work::Begin;
    }
    let since_last = known.last_ended.map(|ended| now.saturating_sub(ended));
    if known.failures > 0 {
        let wait = retry_wait(settings.retry_after_s, known.failures);
        if let Some(rest) = since_last.and_then(|since| rest_of(wait, since)) {
            return Work::None(format!("the last cycle failed; the next try is in {rest} s"));
        }
        return Work::Begin;
    }
    let repeat = settings.repeat_after_s;
    let is_due = repeat > 0 && since_last.is_some_and(|since| rest_of(repeat, since).is_none());
    if is_due || known.new_tasks as u64 >= settings.min_new_tasks {
        return Work::Begin;
    }
    too_few("new tasks", known.new_tasks, settings.min_new_tasks)
}

/// Seconds to wait after `failures` failures in a row, at least 1: twice as long after each, up to a
/// day.
fn retry_wait(first: u64, failures: u32) -> u64 {
    const DAY_S: u64 = 86_400;
    first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(DAY_S)
}

/// What is left of `wait` seconds after `since`. Nothing if `since` is negative: the clock was set
/// back, and nobody should wait for years until it comes round.
fn rest_of(wait: u64, since: i64) -> Option<u64> {
    wait.checked_sub(u64::try_from(since).ok()?).filter(|rest| *rest > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CycleSettings {
        CycleSettings {
            min_new_tasks: 50,
            min_held_out: 30,
            retry_after_s: 900,
            repeat_after_s: 86_400,
            check_after_held_out: 40,
            ..CycleSettings::default()
        }
    }

    fn known() -> Known {
        Known { train: 100, held_out: 35, new_tasks: 50, ..Known::default() }
    }

    #[test]
    fn a_cycle_begins_with_enough_new_tasks_and_goes_on_to_its_end() {
        let stages = [
            (None, Work::Begin),
            (Some(Stage::Training), Work::Job(Job::Train)),
            (Some(Stage::Evaluating), Work::Job(Job::Evaluate)),
            (Some(Stage::Judging), Work::Judge),
        ];
        for (stage, work) in stages {
            assert_eq!(plan(&settings(), &Known { stage, ..known() }, 0), work);
        }
    }

    #[test]
    fn without_enough_tasks_it_says_what_is_missing() {
        let cases = [
            (Known { train: 0, new_tasks: 0, ..known() }, "0 of the 50 tasks to learn from"),
            (Known { held_out: 29, ..known() }, "29 of the 30 held-out tasks"),
            (Known { new_tasks: 7, last_ended: Some(0), ..known() }, "7 of the 50 new tasks"),
        ];
        for (known, expected) in cases {
            match plan(&settings(), &known, 10) {
                Work::None(why) => assert!(why.contains(expected), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn old_tasks_are_tried_again_after_a_day_or_on_command() {
        let known = Known { new_tasks: 0, last_ended: Some(1_000_000), ..known() };
        let at = |now| plan(&settings(), &known, now);

        assert!(matches!(at(1_000_000 + 86_399), Work::None(_)));
        assert_eq!(at(1_000_000 + 86_400), Work::Begin);
        assert_eq!(at(5), Work::Begin, "the clock was set back");
        let asked = Known { train_now: true, ..known.clone() };
        assert_eq!(plan(&settings(), &asked, 1_000_001), Work::Begin);
    }

    #[test]
    fn a_failed_cycle_is_tried_again_later_and_later() {
        let after = |failures, seconds| {
            let known = Known { failures, last_ended: Some(0), ..known() };
            plan(&settings(), &known, seconds)
        };

        assert!(matches!(after(1, 899), Work::None(_)));
        assert_eq!(after(1, 900), Work::Begin);
        assert!(matches!(after(3, 3599), Work::None(_)));
        assert_eq!(after(3, 3600), Work::Begin);
        assert_eq!(after(u32::MAX, 86_400), Work::Begin);
    }

    #[test]
    fn fresh_tasks_check_the_active_adapter_before_anything_else() {
        let with = |fresh, check| Known {
            stage: Some(Stage::Training),
            fresh_held_out: fresh,
            check,
            ..known()
        };
        let check = Work::Job(Job::Check);

        assert_eq!(plan(&settings(), &with(Some(40), false), 0), check);
        assert_eq!(plan(&settings(), &with(Some(39), false), 0), Work::Job(Job::Train));
        assert_eq!(plan(&settings(), &with(Some(1), true), 0), check);
        assert_eq!(plan(&settings(), &with(Some(0), true), 0), Work::Job(Job::Train));
        assert_eq!(plan(&settings(), &with(None, true), 0), Work::Job(Job::Train));
        let off = CycleSettings { check_after_held_out: 0, ..settings() };
        assert_eq!(plan(&off, &with(Some(1000), false), 0), Work::Job(Job::Train));
    }
}
