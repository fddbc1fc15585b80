//! The loop of the daemon: it waits for what happens, hands it to the owner that it concerns, and
//! carries out what they answer.
//!
//! ```text
//!   tick, worker, broker, signal, status request, hook ──► wait ──► handle ──► reconcile
//!                                                                               │
//!                Inputs (facts as they are) ──► Scheduler ──► Action ──► carried out
//! ```
//!
//! One task on one thread. The worker's process does the computing, the link's task talks to the broker;
//! both are heard through bounded channels. Whatever fails becomes a fault with a sentence, is told, and
//! is looked at again until its cause is gone.

mod channels;
mod commands;
mod effects;
mod fleet;
mod jobs;
mod ledger;
mod pace;
mod promotion;
mod settings;
mod status;

use jiff::Zoned;

use crate::contract::event::{Event as Told, Sentence};
use crate::daemon::activity::{DeviceWatch, Own};
use crate::daemon::adapters::Adapters;
use crate::daemon::adapters::hook::HookOutcome;
use crate::daemon::cycle::Cycles;
use crate::daemon::faults::{FaultKind, Faults};
use crate::daemon::operator::Operator;
use crate::daemon::scheduler::{Action, Inputs, News, Scheduler};
use crate::daemon::storage::Storage;
use crate::daemon::supervisor::Supervisor;
use crate::report::mqtt::LinkEvent;
use crate::store::StoreError;
use crate::worker::child::WorkerEvent;
use crate::worker::hash::Stamp;

use channels::Channels;
use fleet::{Lasting, Reporter};
use pace::{Pace, STOP_LIMIT};
use settings::Settings;
pub use settings::Start;

/// Actions that may follow each other before the driver waits again.
const MAX_ACTIONS: usize = 8;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon works in the state folder.
    #[error(transparent)]
    Taken(StoreError),
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it says.
        source: std::io::Error,
    },
    /// Settings that turn out to be unusable only when they are used.
    #[error("{0}")]
    Settings(String),
}

/// Something that has happened.
enum Event {
    Tick,
    Worker(WorkerEvent),
    Link(LinkEvent),
    StatusAsked(tokio::net::UnixStream),
    /// The hook has ended; nothing if it broke down.
    Hook(Option<HookOutcome>),
    Stop,
    Reload,
}

/// The daemon. See the module's text.
pub struct Driver {
    settings: Settings,
    pace: Pace,
    watch: DeviceWatch,
    scheduler: Scheduler,
    faults: Faults,
    storage: Storage,
    cycles: Cycles,
    adapters: Adapters,
    operator: Operator,
    supervisor: Supervisor,
    reporter: Reporter,
    lasting: Lasting,
    channels: Channels,
}

impl Driver {
    /// Gets ready. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]. A disk, model or broker that is missing is not an error: it is waited for.
    pub fn new(start: Start) -> Result<Self, StartError> {
        let config = &start.config;
        let mut storage =
            Storage::new(config.state_dir.clone(), config.tasks.clone(), config.adapters.clone());
        match storage.lock() {
            Err(error) if error.is_busy() => return Err(StartError::Taken(error)),
            // Anything else is seen, told and looked at again in the loop.
            _ => {}
        }
        let watch =
            DeviceWatch::new(config.idle.clone(), start.root.clone(), config.state_dir.clone())
                .map_err(|e| StartError::Settings(e.to_string()))?;
        let channels = Channels::open(config)?;
        let reporter = Reporter::new(config).map_err(StartError::Settings)?;
        let settings = Settings::new(start);
        Ok(Self {
            scheduler: Scheduler::new(settings.unload_after()),
            pace: Pace::default(),
            watch,
            faults: Faults::default(),
            storage,
            cycles: Cycles::default(),
            adapters: Adapters::default(),
            operator: Operator::default(),
            supervisor: Supervisor::default(),
            reporter,
            lasting: Lasting::default(),
            channels,
            settings,
        })
    }

    /// Runs until it is asked to stop.
    pub async fn run(mut self) {
        self.tell(Told::Started { version: env!("CARGO_PKG_VERSION") });
        self.open_storage();
        self.look();
        self.reconcile().await;
        self.channels.manager.ready();
        while !self.pace.is_over(self.supervisor.is_present() || self.adapters.hook.is_running()) {
            let event = self.wait().await;
            self.handle(event);
            self.reconcile().await;
        }
        self.reporter.stop(STOP_LIMIT, self.storage.ledger.as_ref()).await;
        log::info!(event = "stopped"; "stopped");
    }

    async fn wait(&mut self) -> Event {
        let until_tick = self.pace.until_tick();
        let ledger = self.storage.ledger.as_ref();
        let Channels { hook, socket, signals, .. } = &mut self.channels;
        tokio::select! {
            event = channels::worker(&mut self.supervisor) => Event::Worker(event),
            event = self.reporter.next(ledger) => Event::Link(event),
            outcome = channels::ended(hook.as_mut()) => Event::Hook(outcome),
            stream = channels::asked(socket.as_ref()) => Event::StatusAsked(stream),
            _ = signals.terminate.recv() => Event::Stop,
            _ = signals.interrupt.recv() => Event::Stop,
            _ = signals.reload.recv() => Event::Reload,
            () = tokio::time::sleep(until_tick) => Event::Tick,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Worker(event) => self.worker_event(event),
            Event::Link(event) => self.link_event(event),
            Event::StatusAsked(stream) => {
                let document = serde_json::to_vec(&self.status()).unwrap_or_default();
                if let Some(socket) = &self.channels.socket {
                    socket.answer(stream, document);
                }
            }
            Event::Hook(outcome) => self.hook_ended(outcome.as_ref()),
            Event::Stop => {
                if self.pace.stop() {
                    self.channels.manager.stopping();
                    self.tell(Told::Stopped { reason: Sentence::new("asked to stop") });
                }
            }
            Event::Reload => self.reload(),
        }
    }

    /// The regular look at everything that does not announce itself.
    fn tick(&mut self) {
        let now = self.pace.now();
        if let Some(by_s) = self.watch.clock_jump(now, wall()) {
            self.tell(Told::ClockJumped { by_s });
        }
        let due = self.faults.look(now, self.storage.is_open());
        self.perform(due);
        self.look();
        self.watch_worker();
        let more_waiting = self.take_tasks();
        self.run_due_hook();
        self.publish_state_if_due();
        if let Some(every) = self.channels.manager.ping_every()
            && self.supervisor.is_sound(now)
            && self.pace.ping_is_due(now, every)
        {
            self.channels.manager.ping();
        }
        self.pace.ticked(self.supervisor.is_running(), more_waiting);
    }

    /// Looks at the device.
    fn look(&mut self) {
        let pids: Vec<u32> =
            std::iter::once(std::process::id()).chain(self.supervisor.pid()).collect();
        let own = Own { pids: &pids, training: self.supervisor.is_running(), on_gpu: false };
        self.watch.look(self.pace.now(), &Zoned::now(), &own);
    }

    /// Looks at the worker, and at the model's file.
    fn watch_worker(&mut self) {
        let config = &self.settings.effective;
        let lost = self.supervisor.watch(self.pace.now(), config.compute.stall_s);
        let path = &config.model;
        let found = Stamp::of(path)
            .map_err(|error| format!("{}: {error}; put the model there", path.display()));
        let is_faulty = self.faults.has(FaultKind::Model);
        self.perform(lost);
        let effects = self.supervisor.watch_model(found, is_faulty);
        self.perform(effects);
    }

    /// Asks the scheduler, and does as it says.
    async fn reconcile(&mut self) {
        for _ in 0..MAX_ACTIONS {
            let in_progress = self.storage.cycle.as_ref().map(|cycle| &cycle.record);
            let work = self.cycles.work(
                &self.settings.effective.cycle,
                in_progress,
                self.operator.state(),
                &self.adapters,
                wall(),
            );
            let fault = self.faults.reason();
            let inputs = Inputs {
                ready: self.storage.is_open() || fault.is_some(),
                stopping: self.pace.is_stopping(),
                paused: self.operator.state().paused.then_some("paused by an operator"),
                fault,
                condition: self.watch.condition(),
                work: &work,
                worker: self.supervisor.state(),
            };
            let decision = self.scheduler.observe(self.pace.now(), &inputs);
            self.note_state(decision.news);
            match decision.action {
                Some(action) if self.act(action).await => {}
                _ => return,
            }
        }
    }

    /// Tells of a change of state, or of its reason.
    fn note_state(&mut self, news: News) {
        let (state, reason) = (self.scheduler.state().name(), self.scheduler.reason());
        match news {
            News::None => return,
            News::Reason => {}
            News::State => {
                log::info!(event = "state", state = state, reason = reason; "{state}: {reason}");
            }
        }
        self.channels.manager.status(&format!("{state}: {reason}"));
        if news == News::State {
            self.publish_state();
        }
    }

    /// Does as the scheduler says. True if that changed what it decides on.
    async fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Freeze => {
                self.supervisor.process().is_some_and(|worker| worker.freeze().is_ok())
            }
            Action::Thaw => {
                self.pace.look_soon();
                self.supervisor.process().is_some_and(|worker| worker.thaw().is_ok())
            }
            Action::EndWorker => {
                self.supervisor.kill(self.pace.now());
                true
            }
            Action::StartWorker => {
                self.pace.look_soon();
                self.start_worker().await
            }
            Action::BeginCycle => self.begin_cycle(),
            Action::Judge => self.judge_cycle(),
            Action::Give(job) => self.give(job).await,
        }
    }
}

/// The wall clock, in unix seconds. It may be wrong, and jump.
fn wall() -> i64 {
    jiff::Timestamp::now().as_second()
}
