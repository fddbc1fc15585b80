//! The scheduler against a simulated driver that does as it is told.

use proptest::prelude::*;

use super::*;

const UNLOAD: Duration = Duration::from_secs(600);

fn busy() -> Condition {
    Condition::Busy { reason: "cpu: 43 % by others".into(), idle_in_s: None }
}

/// A driver that carries out every action at once.
struct Simulation {
    scheduler: Scheduler,
    now: Duration,
    ready: bool,
    stopping: bool,
    paused: bool,
    fault: bool,
    condition: Condition,
    work: Work,
    worker: WorkerState,
}

impl Simulation {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(UNLOAD),
            now: Duration::ZERO,
            ready: true,
            stopping: false,
            paused: false,
            fault: false,
            condition: Condition::Idle,
            work: Work::Job(Job::Train),
            worker: WorkerState::Absent,
        }
    }

    fn decide(&mut self) -> Decision {
        let inputs = Inputs {
            ready: self.ready,
            stopping: self.stopping,
            paused: self.paused.then_some("paused by an operator"),
            fault: self.fault.then_some("the model is missing"),
            condition: &self.condition,
            work: &self.work,
            worker: self.worker,
        };
        self.scheduler.observe(self.now, &inputs)
    }

    /// Observes after `seconds` more and does as told.
    fn after(&mut self, seconds: u64) -> Decision {
        self.now += Duration::from_secs(seconds);
        let decision = self.decide();
        if let Some(action) = decision.action {
            self.worker = carried_out(action, self.worker);
            match action {
                Action::BeginCycle => self.work = Work::Job(Job::Train),
                Action::Judge => self.work = Work::None("no new tasks".into()),
                _ => {}
            }
        }
        decision
    }

    /// Observes until there is nothing more to do.
    fn settle(&mut self) -> Decision {
        for _ in 0..10 {
            let decision = self.after(0);
            if decision.action.is_none() {
                return decision;
            }
        }
        panic!("the scheduler never stops acting");
    }
}

fn carried_out(action: Action, worker: WorkerState) -> WorkerState {
    use WorkerState::{Absent, Frozen, Running};
    match (action, worker) {
        (Action::StartWorker, Absent) => Running(None),
        (Action::Give(job), Running(None)) => Running(Some(job)),
        (Action::Freeze, Running(job)) => Frozen(job),
        (Action::Thaw, Frozen(job)) => Running(job),
        (Action::EndWorker, Running(_) | Frozen(_)) => Absent,
        (Action::BeginCycle | Action::Judge, any) => any,
        (action, worker) => panic!("{action:?} makes no sense to a worker that is {worker:?}"),
    }
}

#[test]
fn an_idle_device_trains_and_a_busy_one_yields_at_once() {
    let mut s = Simulation::new();
    assert_eq!(s.settle().state, State::Training);
    assert_eq!(s.worker, WorkerState::Running(Some(Job::Train)));

    s.condition = busy();
    let decision = s.after(1);

    assert_eq!((decision.state, decision.action), (State::Yielding, Some(Action::Freeze)));
    s.condition = Condition::Idle;
    assert_eq!(s.after(1).action, Some(Action::Thaw));
    assert_eq!(s.settle().state, State::Training);
}

#[test]
fn a_decision_says_what_is_new_and_since_when_it_holds() {
    let mut s = Simulation::new();
    s.condition = busy();
    let at = |s: &Simulation| s.scheduler.held(s.now).as_secs();

    assert_eq!((s.after(5).news, at(&s)), (News::State, 0));
    assert_eq!((s.after(3).news, at(&s)), (News::None, 3));
    s.condition = Condition::Busy { reason: "users: 1 logged in".into(), idle_in_s: None };
    assert_eq!((s.after(3).news, at(&s)), (News::Reason, 6));
    assert_eq!(s.scheduler.reason(), "users: 1 logged in");
}

#[test]
fn a_long_pause_frees_the_memory() {
    let mut s = Simulation::new();
    s.settle();
    s.paused = true;
    assert_eq!(s.after(1).action, Some(Action::Freeze));

    assert_eq!(s.after(UNLOAD.as_secs() - 1).action, None);
    let decision = s.after(1);

    assert_eq!((decision.state, decision.action), (State::Paused, Some(Action::EndWorker)));
}

#[test]
fn missing_memory_and_faults_end_the_worker_instead_of_freezing_it() {
    for fault in [false, true] {
        let mut s = Simulation::new();
        s.settle();
        s.fault = fault;
        s.condition = Condition::LowResources { reason: "memory: 90 MiB free".into() };

        assert_eq!(s.after(1).action, Some(Action::EndWorker));

        let expected = if fault { State::Degraded } else { State::WaitingForIdle };
        assert_eq!(s.settle().state, expected);
    }
}

#[test]
fn a_worker_without_work_is_ended_after_a_while() {
    let mut s = Simulation::new();
    s.settle();
    s.worker = WorkerState::Running(None);
    s.work = Work::None("no new tasks".into());

    assert_eq!(s.after(1).action, None);
    assert_eq!(s.after(UNLOAD.as_secs()).action, Some(Action::EndWorker));
}

#[test]
fn a_cycle_goes_from_tasks_to_judgement() {
    let mut s = Simulation::new();
    s.work = Work::Begin;
    assert_eq!(s.after(1).action, Some(Action::BeginCycle));
    assert_eq!(s.settle().state, State::Training);

    s.worker = WorkerState::Running(None);
    s.work = Work::Job(Job::Evaluate);
    assert_eq!(s.settle().state, State::Evaluating);

    s.worker = WorkerState::Running(None);
    s.work = Work::Judge;
    assert_eq!(s.after(1).state, State::Promoting);
    assert_eq!(s.settle().state, State::WaitingForTasks);
}

fn conditions() -> impl Strategy<Value = Condition> {
    let reason = || String::from("because");
    prop_oneof![
        4 => Just(Condition::Idle),
        2 => Just(Condition::Busy { reason: reason(), idle_in_s: None }),
        1 => Just(Condition::Hot { reason: reason() }),
        1 => Just(Condition::NoPower { reason: reason() }),
        1 => Just(Condition::Closed { reason: reason(), opens_in_s: Some(60) }),
        1 => Just(Condition::LowResources { reason: reason() }),
    ]
}

fn works() -> impl Strategy<Value = Work> {
    prop_oneof![
        1 => Just(Work::None("nothing new".into())),
        1 => Just(Work::Begin),
        4 => Just(Work::Job(Job::Train)),
        2 => Just(Work::Job(Job::Evaluate)),
        1 => Just(Work::Job(Job::Check)),
        1 => Just(Work::Judge),
    ]
}

/// A change of the world, from outside.
#[derive(Debug, Clone)]
enum Change {
    Condition(Condition),
    Work(Work),
    Paused(bool),
    Fault(bool),
    Died,
    JobDone,
    Wait(u64),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => conditions().prop_map(Change::Condition),
        2 => works().prop_map(Change::Work),
        1 => any::<bool>().prop_map(Change::Paused),
        1 => any::<bool>().prop_map(Change::Fault),
        1 => Just(Change::Died),
        1 => Just(Change::JobDone),
        3 => (0..2 * UNLOAD.as_secs()).prop_map(Change::Wait),
    ]
}

proptest! {
    /// Whatever happens: one observation after the device is needed nothing runs, actions always fit
    /// the worker (`carried_out` panics otherwise), the state says why, and time adds up.
    #[test]
    fn nothing_runs_when_it_must_not(story in proptest::collection::vec(changes(), 1..60)) {
        let mut s = Simulation::new();
        for change in story {
            match change {
                Change::Condition(c) => s.condition = c,
                Change::Work(w) => s.work = w,
                Change::Paused(p) => s.paused = p,
                Change::Fault(f) => s.fault = f,
                Change::Died => s.worker = WorkerState::Absent,
                Change::JobDone => if let WorkerState::Running(_) = s.worker {
                    s.worker = WorkerState::Running(None);
                },
                Change::Wait(seconds) => s.now += Duration::from_secs(seconds),
            }
            let decision = s.after(0);
            let held = s.paused || s.fault || s.condition != Condition::Idle;
            if held {
                prop_assert!(!matches!(s.worker, WorkerState::Running(_)), "{decision:?}");
            }
            // The reference: the first reason that applies names the state.
            let expected = match () {
                () if s.paused => Some(State::Paused),
                () if s.fault => Some(State::Degraded),
                () if matches!(s.condition, Condition::Hot { .. }) => Some(State::CoolingDown),
                () => None,
            };
            if let Some(expected) = expected {
                prop_assert_eq!(decision.state, expected);
            }
            prop_assert_eq!(s.scheduler.spent().iter().sum::<Duration>(), s.now);
        }
        // With the device ours and a job to do, the worker does it.
        (s.paused, s.fault, s.condition) = (false, false, Condition::Idle);
        s.work = Work::Job(Job::Evaluate);
        s.settle();
        prop_assert_eq!(s.worker, WorkerState::Running(Some(Job::Evaluate)));
    }

    /// A frozen worker is ended after the time set, however often it is looked at in between.
    #[test]
    fn a_frozen_worker_never_stays_for_ever(looks in 1..50_u64) {
        let mut s = Simulation::new();
        s.settle();
        s.condition = busy();
        s.after(0);
        for _ in 0..looks {
            s.after((UNLOAD.as_secs() / looks) + 1);
        }
        prop_assert_eq!(s.worker, WorkerState::Absent);
        prop_assert_eq!(s.settle().state, State::WaitingForIdle);
    }

    #[test]
    fn stopping_wins_and_ends_the_worker(condition in conditions(), work in works(), paused: bool) {
        let mut s = Simulation::new();
        s.settle();
        (s.condition, s.work, s.paused, s.stopping) = (condition, work, paused, true);

        prop_assert_eq!(s.after(1).state, State::Stopping);
        prop_assert_eq!(s.worker, WorkerState::Absent);
        prop_assert_eq!(s.settle().action, None);
    }
}
