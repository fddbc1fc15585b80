//! The one that acts: it looks at the device, asks the [`Scheduler`] what to do, and does it.
//!
//! ```text
//!   tick, worker, broker, signal, status request, hook ──► wait ──► handle ──► reconcile
//!                                                                               │
//!                 World (facts as they are) ──► Scheduler ──► Order ──► carried out
//! ```
//!
//! One task, one thread; it owns everything mutable. The worker's process does the computing, the
//! link's task talks to the broker; both are heard through bounded channels. Whatever fails becomes a
//! fault with a sentence, is told, and is looked at again until its cause is gone.

mod commands;
mod judging;
mod messages;
mod orders;
mod teller;
mod telling;
mod upkeep;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Zoned;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::contract::event::{Event, Sentence};
use crate::daemon::activity::{Activity, Condition, IdleJudge, Own, Reading};
use crate::daemon::clock::ClockWatch;
use crate::daemon::faults::Faults;
use crate::daemon::hook::HookOutcome;
use crate::daemon::memory::{HookDue, Judged, KnownModel, LastCycle, Wishes};
use crate::daemon::plan::{Known, plan};
use crate::daemon::scheduler::{Scheduler, State, Work, World};
use crate::daemon::socket::StatusSocket;
use crate::daemon::storage::Storage;
use crate::store::ledger::TaskCounts;
use crate::system::notify::ServiceManager;
use crate::worker::child::WorkerEvent;
use crate::worker::hash::Stamp;

use teller::Teller;
use worker::Trainer;

/// Between two looks while the worker computes: how soon the device's needs are seen.
const TICK_WORKING: Duration = Duration::from_millis(500);
/// Between two looks otherwise.
const TICK_RESTING: Duration = Duration::from_secs(2);
/// How long the end may take, once it was asked for.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Orders that may follow each other before the driver looks up again.
const MAX_ORDERS: usize = 8;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon works in the state folder.
    #[error(transparent)]
    Taken(crate::store::StoreError),
    /// The system did not let it.
    #[error("cannot {what}: {source}")]
    System { what: String, source: std::io::Error },
    /// Settings that only show themselves to be unusable when used.
    #[error("{0}")]
    Settings(String),
}

/// How the daemon is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The file that [`Config`] was read from, for reading it again.
    pub config_path: PathBuf,
    pub config: Config,
    /// Where `/proc`, `/sys` and `/run` lie.
    pub root: PathBuf,
}

/// Something that has happened.
enum Happening {
    Tick,
    Worker(WorkerEvent),
    Link(crate::report::mqtt::LinkEvent),
    Asked(tokio::net::UnixStream),
    Hook(Option<HookOutcome>),
    Stop,
    Reload,
}

/// The daemon.
pub struct Driver {
    start: Start,
    /// The file's settings with the operator's over them.
    config: Config,
    began: Instant,
    /// When the next look is due, on [`Self::now`]'s clock.
    next_tick: Duration,
    scheduler: Scheduler,
    state_since: Duration,
    reason: String,
    activity: Activity,
    judge: IdleJudge,
    reading: Reading,
    condition: Condition,
    clock: ClockWatch,
    faults: Faults,
    storage: Storage,
    more_waiting: bool,
    counts: TaskCounts,
    new_tasks: u64,
    fresh_held_out: u64,
    wishes: Wishes,
    last: LastCycle,
    judged: Judged,
    model: KnownModel,
    trainer: Trainer,
    teller: Teller,
    hook: Option<JoinHandle<HookOutcome>>,
    /// The model that could not be loaded, as it was then.
    broken_model: Option<Stamp>,
    hook_due: HookDue,
    /// What the hook that runs, or ran last, was told of.
    hook_run: HookDue,
    socket: Option<StatusSocket>,
    manager: ServiceManager,
    pinged: Duration,
    signals: Signals,
    stopping: Option<Duration>,
}

/// The signals that mean something.
struct Signals {
    terminate: UnixSignal,
    interrupt: UnixSignal,
    reload: UnixSignal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Driver {
    /// Gets ready. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]. A disk, model or broker that is missing is none: these are waited for.
    pub fn new(start: Start) -> Result<Self, StartError> {
        let config = start.config.clone();
        let system = |what: &str| {
            let what = what.to_owned();
            move |source| StartError::System { what, source }
        };
        let mut storage =
            Storage::new(config.state_dir.clone(), config.tasks.clone(), config.adapters.clone());
        match storage.lock() {
            Err(error) if error.is_busy() => return Err(StartError::Taken(error)),
            // Anything else is seen, told and looked at again in the loop.
            _ => {}
        }
        let activity =
            Activity::new(config.idle.clone(), start.root.clone(), config.state_dir.clone())
                .map_err(|e| StartError::Settings(e.to_string()))?;
        let socket = Self::bind(&config).map_err(system("listen for `latrod status`"))?;
        let unload_after = Duration::from_secs(config.compute.unload_after_s);
        let teller = Teller::new(&config).map_err(StartError::Settings)?;
        Ok(Self {
            began: Instant::now(),
            next_tick: Duration::ZERO,
            scheduler: Scheduler::new(unload_after),
            state_since: Duration::ZERO,
            reason: String::new(),
            activity,
            judge: IdleJudge::new(&config.idle),
            reading: Reading::default(),
            condition: Condition::Busy { reason: "just started".into(), idle_in_s: None },
            clock: ClockWatch::default(),
            faults: Faults::default(),
            storage,
            more_waiting: false,
            counts: TaskCounts::default(),
            new_tasks: 0,
            fresh_held_out: 0,
            wishes: Wishes::default(),
            last: LastCycle::default(),
            judged: Judged::default(),
            model: KnownModel::default(),
            trainer: Trainer::default(),
            teller,
            hook: None,
            broken_model: None,
            hook_due: HookDue::default(),
            hook_run: HookDue::default(),
            socket,
            manager: ServiceManager::from_environment(),
            pinged: Duration::ZERO,
            signals: Signals::listen().map_err(system("listen for signals"))?,
            stopping: None,
            config,
            start,
        })
    }

    fn bind(config: &Config) -> std::io::Result<Option<StatusSocket>> {
        let path = &config.status.socket;
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        StatusSocket::bind(path).map(Some)
    }

    /// Time since the start.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        self.tell(Event::Started { version: env!("CARGO_PKG_VERSION") });
        self.open_storage();
        self.look();
        self.reconcile().await;
        self.manager.ready();
        loop {
            let happening = self.wait().await;
            self.handle(happening);
            self.reconcile().await;
            if self.stopping.is_some_and(|since| self.is_over(since)) {
                break;
            }
        }
        self.teller.stop(STOP_LIMIT, self.storage.ledger.as_ref()).await;
        log::info!(event = "stopped"; "stopped");
    }

    /// Whether nothing more is waited for, or it has taken too long.
    fn is_over(&self, since: Duration) -> bool {
        (!self.trainer.is_there() && self.hook.is_none())
            || self.now().saturating_sub(since) >= STOP_LIMIT
    }

    async fn wait(&mut self) -> Happening {
        let until_tick = self.next_tick.saturating_sub(self.now());
        let Self { trainer, teller, storage, hook, socket, signals, .. } = self;
        tokio::select! {
            event = trainer.next() => Happening::Worker(event),
            event = teller.next(storage.ledger.as_ref()) => Happening::Link(event),
            outcome = ended(hook.as_mut()) => Happening::Hook(outcome),
            stream = asked(socket.as_ref()) => Happening::Asked(stream),
            _ = signals.terminate.recv() => Happening::Stop,
            _ = signals.interrupt.recv() => Happening::Stop,
            _ = signals.reload.recv() => Happening::Reload,
            () = tokio::time::sleep(until_tick) => Happening::Tick,
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Tick => self.tick(),
            Happening::Worker(event) => self.worker_event(event),
            Happening::Link(event) => self.link_event(event),
            Happening::Asked(stream) => {
                let document = serde_json::to_vec(&self.status()).unwrap_or_default();
                if let Some(socket) = &self.socket {
                    socket.answer(stream, document);
                }
            }
            Happening::Hook(outcome) => self.hook_ended(outcome),
            Happening::Stop => {
                if self.stopping.is_none() {
                    self.stopping = Some(self.now());
                    self.manager.stopping();
                    self.tell(Event::Stopped { reason: Sentence::new("asked to stop") });
                    self.next_tick = self.now();
                }
            }
            Happening::Reload => self.reload(),
        }
    }

    /// The regular look at everything that does not announce itself.
    fn tick(&mut self) {
        let now = self.now();
        if let Some(by_s) = self.clock.look(now, wall()) {
            self.tell(Event::ClockJumped { by_s });
        }
        self.retry_faults();
        self.look();
        self.watch_worker();
        self.take_tasks();
        self.run_due_hook();
        self.state_due();
        if let Some(every) = self.manager.ping_every()
            && self.trainer.is_sound(now)
            && (now.saturating_sub(self.pinged) >= every / 2 || self.pinged.is_zero())
        {
            self.manager.ping();
            self.pinged = now;
        }
        let working = self.trainer.is_running();
        self.next_tick = self.now() + if working { TICK_WORKING } else { TICK_RESTING };
        if self.more_waiting || self.stopping.is_some() {
            self.next_tick = self.now() + Duration::from_millis(20);
        }
    }

    /// The worker begins to compute: what the device needs must be seen soon from now on.
    fn look_soon(&mut self) {
        self.next_tick = self.next_tick.min(self.now() + TICK_WORKING);
    }

    /// Looks at the device.
    fn look(&mut self) {
        let now = self.now();
        let pids = self.trainer.own_pids();
        let own = Own { pids: &pids, training: self.trainer.is_running(), on_gpu: false };
        self.reading = self.activity.sample(now, &Zoned::now(), &own);
        self.condition = self.judge.observe(now, &self.reading);
    }

    /// Asks the scheduler, and does as it says.
    async fn reconcile(&mut self) {
        for _ in 0..MAX_ORDERS {
            let work = self.work();
            let world = World {
                ready: self.storage.is_open() || self.faults.reason().is_some(),
                stopping: self.stopping.is_some(),
                paused: self.wishes.paused.then_some("paused by an operator"),
                fault: self.faults.reason(),
                condition: &self.condition,
                work: &work,
                worker: self.trainer.state(),
            };
            let now = self.began.elapsed();
            let decision = self.scheduler.observe(now, &world);
            self.note_state(decision.state, decision.reason);
            match decision.order {
                Some(order) if self.carry_out(order).await => {}
                _ => return,
            }
        }
    }

    /// What there is to do.
    fn work(&self) -> Work {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let known = Known {
            stage: self.storage.cycle.as_ref().map(|cycle| cycle.record.stage),
            train: count(self.counts.train),
            held_out: count(self.counts.held_out),
            new_tasks: count(self.new_tasks),
            last_ended: self.last.ended,
            failures: self.last.failures,
            train_now: self.wishes.train_now.is_some(),
            fresh_held_out: self.judged.version.is_some().then(|| count(self.fresh_held_out)),
            check_now: self.wishes.check_now.is_some(),
        };
        plan(&self.config.cycle, &known, wall())
    }

    /// Tells of a change of state.
    fn note_state(&mut self, state: State, reason: String) {
        let changed = state != self.scheduler_state_told();
        if changed {
            self.state_since = self.now();
            log::info!(event = "state", state = state.name(), reason = reason.as_str(); "{}: {reason}", state.name());
        }
        if changed || reason != self.reason {
            self.manager.status(&format!("{}: {reason}", state.name()));
        }
        self.reason = reason;
        if changed {
            self.teller.told = Some(state);
            self.publish_state();
        }
    }

    fn scheduler_state_told(&self) -> State {
        self.teller.told.unwrap_or(State::Starting)
    }
}

/// The wall clock, in unix seconds. It may be wrong, and jump.
fn wall() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Waits for the hook to end; how it went, unless it broke down.
async fn ended(hook: Option<&mut JoinHandle<HookOutcome>>) -> Option<HookOutcome> {
    match hook {
        Some(hook) => hook.await.ok(),
        None => std::future::pending().await,
    }
}

/// Waits for somebody who asks for the status.
async fn asked(socket: Option<&StatusSocket>) -> tokio::net::UnixStream {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                log::warn!("cannot answer `latrod status`: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
