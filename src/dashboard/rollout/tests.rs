use proptest::prelude::*;

use super::*;

fn plan(percent: &[u32]) -> Plan {
    Plan {
        command: "pause".to_owned(),
        version: None,
        key: None,
        value: None,
        percent: percent.to_vec(),
        pause_ms: 60_000,
        max_failed_percent: 10,
    }
}

fn devices(n: usize) -> Vec<DeviceId> {
    (0..n).map(|i| DeviceId { fleet: "f".to_owned(), device: format!("d{i:03}") }).collect()
}

/// Gives the command to the devices that a turn names; how many.
fn turn(rollout: &mut Rollout, now_ms: u64, outcome: impl Fn(&str) -> Outcome) -> usize {
    let next = rollout.turn(now_ms, |device, _| outcome(device));
    for device in &next {
        rollout.gave(device, "id");
    }
    next.len()
}

#[test]
fn stages_follow_one_another_when_all_have_answered_and_the_pause_is_over() {
    let mut rollout = Rollout::new(plan(&[5, 25, 100]), "anna", &devices(40), 1);
    assert_eq!(turn(&mut rollout, 1, |_| Outcome::Waiting), 2);
    assert_eq!(turn(&mut rollout, 100_000, |_| Outcome::Waiting), 0, "they have not answered");
    assert_eq!(turn(&mut rollout, 50_000, |_| Outcome::Done), 0, "the pause is not over");
    assert_eq!(turn(&mut rollout, 60_001, |_| Outcome::Done), 8);
    assert_eq!(turn(&mut rollout, 120_001, |_| Outcome::Done), 30);
    assert_eq!(rollout.progress, Progress::Running);
    assert_eq!(turn(&mut rollout, 120_002, |_| Outcome::Done), 0);
    assert_eq!((&rollout.progress, rollout.tally), (&Progress::Done, (40, 0, 0)));
}

#[test]
fn it_stops_where_too_many_fail_or_get_worse() {
    for bad in [Outcome::Failed, Outcome::Worse] {
        let mut rollout = Rollout::new(plan(&[25, 50, 100]), "anna", &devices(40), 1);
        turn(&mut rollout, 1, |_| Outcome::Waiting);
        let one = |device: &str| if device == "f/d003" { bad } else { Outcome::Done };
        assert_eq!(turn(&mut rollout, 100_000, one), 10, "one of ten is within the limit");
        let two = |device: &str| if device < "f/d003" { bad } else { Outcome::Waiting };
        assert_eq!(turn(&mut rollout, 200_000, two), 0);
        assert!(matches!(rollout.progress, Progress::Stopped(_)), "{:?}", rollout.progress);
        assert_eq!(turn(&mut rollout, 900_000, |_| Outcome::Done), 0, "it stays stopped");
    }
}

#[test]
fn stages_are_percentages_that_grow_to_100() {
    assert_eq!(Plan::stages(" 5, 25 %,100"), Ok(vec![5, 25, 100]));
    for wrong in ["", "5", "0, 100", "50, 25, 100", "5, 5, 100", "5, 101", "a", "-5, 100"] {
        assert!(Plan::stages(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    /// Every device is commanded once at most, in order, and all are if none fails.
    #[test]
    fn each_device_is_commanded_once(
        n in 1_usize..60,
        cuts in prop::collection::btree_set(1_u32..100, 0..5),
        times in prop::collection::vec(0_u64..200_000, 1..60),
    ) {
        let percent: Vec<u32> = cuts.into_iter().chain([100]).collect();
        let stages = percent.len();
        let mut rollout = Rollout::new(plan(&percent), "anna", &devices(n), 1);
        let (mut now, mut seen) = (0, Vec::new());
        for time in times.into_iter().chain(std::iter::repeat_n(60_000, 8)) {
            now += time;
            for device in rollout.turn(now, |_, _| Outcome::Done) {
                rollout.gave(&device, "id");
                seen.push(device);
            }
        }
        let all: Vec<String> = devices(n).iter().map(ToString::to_string).collect();
        prop_assert_eq!(seen, all);
        prop_assert_eq!(&rollout.progress, &Progress::Done);
        prop_assert!(rollout.stage <= stages);
        let text = serde_json::to_string(&rollout).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
    }
}
