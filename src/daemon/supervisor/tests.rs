//! What the supervisor makes of a worker that exists on paper only.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

/// What a test says of its process.
#[derive(Debug, Default)]
struct Facts {
    killed: Cell<bool>,
    frozen: Cell<bool>,
    stalled: Cell<bool>,
}

#[derive(Debug)]
struct Paper(Rc<Facts>);

impl Process for Paper {
    fn kill(&mut self) {
        self.0.killed.set(true);
    }

    fn is_frozen(&self) -> bool {
        self.0.frozen.get()
    }

    fn is_stalled(&self) -> bool {
        self.0.stalled.get()
    }

    fn pid(&self) -> Option<u32> {
        Some(7)
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A supervisor whose worker does `job`.
fn busy(job: Job) -> (Supervisor<Paper>, Rc<Facts>) {
    let mut supervisor = Supervisor::default();
    let facts = Rc::default();
    supervisor.started(Paper(Rc::clone(&facts)), None);
    supervisor.loaded();
    supervisor.given(job);
    (supervisor, facts)
}

fn failure(kind: FailureKind) -> FromWorker {
    FromWorker::Failed(Failure::new(kind, "why"))
}

#[test]
fn a_worker_loads_waits_and_works() {
    let mut supervisor = Supervisor::default();
    assert_eq!(supervisor.state(), WorkerState::Absent);
    let facts: Rc<Facts> = Rc::default();
    supervisor.started(Paper(Rc::clone(&facts)), None);
    supervisor.given(Job::Train);
    assert_eq!((supervisor.job(), supervisor.is_running()), (None, true), "it has no model yet");

    supervisor.loaded();
    assert_eq!((supervisor.is_ready(), supervisor.is_running()), (true, false));
    supervisor.given(Job::Train);
    assert_eq!(supervisor.state(), WorkerState::Running(Some(Job::Train)));
    facts.frozen.set(true);
    assert_eq!(supervisor.state(), WorkerState::Frozen(Some(Job::Train)));
    assert!(!supervisor.is_running());
}

#[test]
fn what_a_worker_has_done_moves_the_cycle_or_the_check_on() {
    let mend = Effect::Mend(FaultKind::Worker);
    let (mut training, _) = busy(Job::Train);
    let trained = training.heard(FromWorker::Trained { steps: 9 }, 9);
    assert_eq!(trained, [mend.clone(), CycleEffect::Trained.into()]);
    assert!(training.is_ready());

    for (job, expected) in [
        (Job::Evaluate, CycleEffect::Compared.into()),
        (Job::Check, AdapterEffect::JudgeCheck.into()),
    ] {
        let (mut comparing, _) = busy(job);
        let compared = comparing.heard(FromWorker::Compared { path: "x".into() }, 9);
        assert_eq!(compared, [mend.clone(), expected]);
    }
}

#[test]
fn what_a_killed_worker_had_finished_still_counts_and_only_once() {
    let (mut supervisor, _) = busy(Job::Check);
    supervisor.kill(s(1));
    let compared = || FromWorker::Compared { path: "x".into() };

    let first = supervisor.heard(compared(), 9);

    assert_eq!(first[1..], [AdapterEffect::JudgeCheck.into()]);
    assert_eq!(supervisor.heard(compared(), 9).len(), 1, "of no job");
    assert_eq!(supervisor.state(), WorkerState::Ending);
}

#[test]
fn a_failure_means_what_has_to_change() {
    let sentence = || "why".to_owned();
    let raise = |kind| vec![Effect::KillWorker, Effect::Raise(kind, sentence())];
    let give_up = |effect| vec![Effect::from(AdapterEffect::Repair), effect];
    let fail: Effect = CycleEffect::Fail(sentence()).into();
    let cases = [
        (Job::Train, FailureKind::DiskFull, raise(FaultKind::Disk)),
        (Job::Train, FailureKind::Memory, raise(FaultKind::Worker)),
        (Job::Train, FailureKind::ModelChanged, vec![Effect::KillWorker]),
        (Job::Train, FailureKind::OtherRun, vec![CycleEffect::Drop(sentence()).into()]),
        (Job::Train, FailureKind::Settings, give_up(fail.clone())),
        (Job::Evaluate, FailureKind::Damaged, give_up(fail)),
        (Job::Check, FailureKind::Tasks, give_up(AdapterEffect::ForgetCheck(sentence()).into())),
        (Job::Train, FailureKind::Other, vec![]),
    ];
    for (job, kind, expected) in cases {
        let (mut supervisor, _) = busy(job);
        assert_eq!(supervisor.heard(failure(kind), 9), expected, "{job:?} {kind:?}");
    }
    let mut loading = Supervisor::default();
    loading.started(Paper(Rc::default()), None);
    assert_eq!(loading.heard(failure(FailureKind::Settings), 9), raise(FaultKind::Settings));
}

#[test]
fn workers_that_die_are_replaced_later_and_later_and_then_their_job_is_given_up() {
    let mut supervisor = Supervisor::default();
    let mut effects = Vec::new();
    for _ in 0..MAX_CRASHES {
        supervisor.started(Paper(Rc::default()), None);
        supervisor.loaded();
        supervisor.given(Job::Train);
        let mut ended = supervisor.ended(&End::Killed(9));
        assert!(matches!(ended.remove(0), Effect::Tell(Event::WorkerDied { .. })));
        effects.push(ended.pop());
    }

    assert_eq!(effects[0], None, "the first is replaced at once");
    for effect in &effects[1..4] {
        assert!(matches!(effect, Some(Effect::Raise(FaultKind::Worker, _))), "{effect:?}");
    }
    assert!(matches!(effects[4], Some(Effect::Cycle(CycleEffect::Fail(_)))), "{effects:?}");
}

#[test]
fn a_worker_that_was_killed_on_purpose_is_not_missed() {
    let (mut supervisor, facts) = busy(Job::Train);
    supervisor.kill(s(10));
    supervisor.kill(s(35));
    assert!(facts.killed.get());
    assert_eq!((supervisor.state(), supervisor.job()), (WorkerState::Ending, Some(Job::Train)));
    assert!(supervisor.is_sound(s(39)) && !supervisor.is_sound(s(40)), "it cannot be killed");

    assert_eq!(supervisor.ended(&End::Killed(9)), []);

    assert_eq!(supervisor.state(), WorkerState::Absent);
}

#[test]
fn a_worker_that_stalls_is_killed_unless_it_is_frozen() {
    let (mut supervisor, facts) = busy(Job::Train);
    assert_eq!(supervisor.watch(s(1), 60), []);
    facts.stalled.set(true);
    facts.frozen.set(true);
    assert_eq!(supervisor.watch(s(1), 60), []);
    facts.frozen.set(false);
    assert!(!supervisor.is_sound(s(1)));

    let effects = supervisor.watch(s(1), 60);

    assert_eq!(effects, [Effect::Tell(Event::WorkerStalled { after_s: 60 })]);
    assert!(facts.killed.get());
    assert_eq!(supervisor.watch(s(2), 60), [], "it is ending");
}
