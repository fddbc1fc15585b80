//! The device's side of the contract: one [`Link`] that keeps connecting, reports, and takes commands.
//!
//! ```text
//!            ┌────────────── lost ──────────────┐
//!            ▼                                  │
//!  waiting ── full jitter ──► connecting ── CONNACK ──► up: subscribe, birth, status, state,
//!     ▲                            │                    then the outbox from its oldest message
//!     └────────── failed ──────────┘
//! ```
//!
//! The MQTT session at the broker is persistent (stable client id, no clean session), so that
//! commands sent while the device is away arrive. For what the device sends, the outbox alone
//! decides: all of it goes out again after every CONNACK, with the same message ids, and leaves the
//! outbox on PUBACK only. Each attempt to connect has a number of its own, which its last will carries as
//! `connection`: a will that a broker publishes late is older than the birth that is already there.
//!
//! Knows nothing of what commands do. All of its time-critical work is in [`Link::poll`], whose
//! future may be dropped at any point.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rusqlite::Connection as Ledger;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::contract::event::Event;
use crate::contract::keys::OperatorKeys;
use crate::contract::topics::Kind;
use crate::contract::wire::{Birth, Message, Presence, State, Status, StepProgress, wall_clock_ms};
use crate::report::inbox::{Accepted, CommandOutcome, Inbox};
use crate::report::mqtt::connection::{Connection, Incoming, Signal};
use crate::report::mqtt::home_assistant::Discovery;
use crate::report::mqtt::retained::{Retained, Which};
use crate::report::mqtt::settings::{Broker, MqttSettings};
use crate::report::mqtt::{backoff, tls};
use crate::report::outbox::{Limits, Outbox, encode};
use crate::report::{ReportError, inbox, outbox};

mod identity;
mod receive;
mod reconnect;
mod send;

pub use identity::{DeviceIdentity, LinkCounts, LinkEvent};
use receive::Held;
use send::{Token, Volatile};

/// After the ledger failed it is left alone for this long.
const LEDGER_PAUSE: Duration = Duration::from_secs(5);

/// Signals worked off before the ledger is written to, so that many acknowledgements cost one
/// transaction.
const BATCH: usize = 64;

enum Phase {
    Waiting { until: Instant },
    Open { connection: Connection, since: Instant, up: bool },
}

/// See the module's text.
pub struct Link {
    settings: MqttSettings,
    broker: Option<Broker>,
    identity: DeviceIdentity,
    outbox: Outbox,
    inbox: Inbox,
    password: Option<String>,
    clock: fn() -> u64,
    phase: Phase,
    attempt: u32,
    discard_session: bool,
    stopping: bool,
    last_heard: Instant,
    ready: VecDeque<LinkEvent>,
    retained: Retained,
    /// What Home Assistant is told of the device.
    discovery: Option<Discovery>,
    volatile: VecDeque<Volatile>,
    progress: VecDeque<Vec<u8>>,
    held: VecDeque<Held>,
    tokens: HashMap<u64, Token>,
    next_token: u64,
    /// Counts messages that are made in memory.
    seq: u64,
    /// The last message of the outbox that was sent on this connection.
    sent_up_to: i64,
    /// Messages of the outbox that the broker has and that are still to be removed.
    acknowledged: Vec<i64>,
    ledger_rests_until: Option<Instant>,
    counts: LinkCounts,
    last_turned_away: Option<Instant>,
}

impl Link {
    /// A link that connects once it is polled, or does nothing if no broker is set. Reads the
    /// operators' keys and checks the certificates.
    ///
    /// # Errors
    /// [`ReportError::Setting`] and [`ReportError::File`] for settings that cannot work.
    pub fn new(settings: MqttSettings, identity: DeviceIdentity) -> Result<Self, ReportError> {
        settings.check()?;
        let unusable = |why| ReportError::Setting { key: "broker", why };
        let broker = if settings.is_on() {
            Some(Broker::parse(&settings.broker).map_err(unusable)?)
        } else {
            None
        };
        if broker.as_ref().is_some_and(|b| b.tls) {
            tls::client_config(&settings)?;
        }
        let limits = Limits {
            messages: settings.max_outbox_messages.into(),
            bytes: u64::from(settings.max_outbox_mib) << 20,
        };
        let keys = OperatorKeys::load(&settings.operator_keys)?;
        let now = Instant::now();
        let first = backoff::first_delay(settings.reconnect_min_s);
        Ok(Self {
            outbox: Outbox::new(identity.topics.clone(), limits),
            inbox: Inbox::new(keys, settings.allow_unsigned),
            phase: Phase::Waiting { until: now + first },
            settings,
            broker,
            identity,
            password: None,
            clock: wall_clock_ms,
            attempt: 0,
            discard_session: false,
            stopping: false,
            last_heard: now,
            ready: VecDeque::new(),
            retained: Retained::default(),
            discovery: None,
            volatile: VecDeque::new(),
            progress: VecDeque::new(),
            held: VecDeque::new(),
            tokens: HashMap::new(),
            next_token: 0,
            seq: 0,
            sent_up_to: 0,
            acknowledged: Vec::new(),
            ledger_rests_until: None,
            counts: LinkCounts::default(),
            last_turned_away: None,
        })
    }

    /// Uses this password instead of reading the settings' file.
    #[must_use]
    pub fn with_password(mut self, password: String) -> Self {
        self.password = Some(password);
        self
    }

    /// Uses another wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> u64) -> Self {
        self.clock = clock;
        self
    }

    /// Refuses commands issued at `unix_s` or before: the time at which the ledger was made anew.
    pub const fn refuse_issued_until(&mut self, unix_s: u64) {
        self.inbox.refuse_issued_until(unix_s);
    }

    /// The device's names and boot id.
    #[must_use]
    pub const fn identity(&self) -> &DeviceIdentity {
        &self.identity
    }

    /// Works until there is something to report; without a broker, forever. Dropping the future
    /// loses nothing. Without a ledger (`None`) commands wait and the outbox is left alone.
    pub async fn poll(&mut self, db: Option<&Ledger>) -> LinkEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            self.turn(db).await;
        }
    }

    /// Ends the connection in good order: sends what waits, tells that we stop, waits for the
    /// acknowledgements, all within `within`. Commands that arrive meanwhile stay at the broker.
    pub async fn stop(&mut self, db: Option<&Ledger>, within: Duration) {
        let end = Instant::now() + within;
        let half = Instant::now() + within / 2;
        self.stopping = true;
        while self.is_up() && !self.is_drained(db) {
            if timeout_at(half, self.turn(db)).await.is_err() {
                break;
            }
        }
        self.set_status(Presence::Offline, "stopped");
        while self.is_up() && !self.retained.is_settled() {
            if timeout_at(end, self.turn(db)).await.is_err() {
                break;
            }
        }
        self.work(db);
        if let Phase::Open { connection, up: true, .. } = &mut self.phase {
            connection.disconnect();
            let closed = async { while !matches!(connection.next().await, Signal::Down(_)) {} };
            let _ = timeout_at(end + Duration::from_millis(500), closed).await;
        }
        self.phase = Phase::Waiting { until: Instant::now() + Duration::from_secs(3600) };
    }

    /// Tells who we are, now and at every connection.
    pub fn set_birth(&mut self, mut birth: Birth) {
        birth.boot_id.clone_from(&self.identity.boot_id);
        birth.memory_plan_mib.retain(|_, mib| mib.is_finite());
        let prefix = &self.settings.home_assistant;
        let discovery =
            (!prefix.is_empty()).then(|| Discovery::new(prefix, &self.identity.topics, &birth));
        if discovery != self.discovery {
            self.discovery = discovery;
            self.announce();
        }
        let result = self.retained.set(Which::Birth, &birth);
        self.log(result);
    }

    /// Tells what we do, now and at every connection; the newest state replaces what waits.
    pub fn set_state(&mut self, mut state: State) {
        state.signals.retain(|_, value| value.is_finite());
        let result = self.retained.set(Which::State, &state);
        self.log(result);
    }

    /// Tells of a training step; if too many wait the oldest is dropped and counted.
    pub fn progress(&mut self, progress: &StepProgress) {
        if self.broker.is_none() {
            return;
        }
        let topic = self.identity.topics.of(&Kind::Progress);
        let head = self.head();
        match encode(&topic, &Message { head, body: progress }) {
            Ok(payload) => self.progress.push_back(payload),
            Err(e) => self.log(Err(e)),
        }
        self.bound_progress();
    }

    /// Tells of an event, through the outbox. If the ledger fails it is kept in memory, and
    /// [`LinkEvent::LedgerFailed`] follows. Does nothing without a broker.
    pub fn event(&mut self, db: Option<&Ledger>, event: &Event) {
        if self.broker.is_none() {
            return;
        }
        let now_ms = (self.clock)();
        match db.map(|db| self.outbox.event(db, now_ms, event)) {
            Some(Ok(())) => {}
            Some(Err(e)) if !e.is_ledger() => self.log(Err(e)),
            failed => {
                if let Some(Err(e)) = failed {
                    self.ledger_failed(e);
                }
                let topic = self.identity.topics.of(&Kind::Event);
                self.tell_from_memory(topic, crate::contract::wire::EventMessage::from(event));
            }
        }
    }

    /// Enqueues an event within the caller's transaction: it is told if that is committed.
    ///
    /// # Errors
    /// [`ReportError::Ledger`].
    pub fn event_in(&self, db: &Ledger, event: &Event) -> Result<(), ReportError> {
        if self.broker.is_none() {
            return Ok(());
        }
        self.outbox.event(db, (self.clock)(), event)
    }

    /// Marks a command as running and tells so, within the caller's transaction if there is one.
    ///
    /// # Errors
    /// [`ReportError::Transition`], [`ReportError::Ledger`].
    pub fn start(&self, db: &Ledger, id: &str) -> Result<(), ReportError> {
        inbox::start(db, &self.outbox, (self.clock)(), id)
    }

    /// Ends a command and tells so, within the caller's transaction if there is one: put the
    /// command's effect into the same, and both hold after a power cut or neither.
    ///
    /// # Errors
    /// As for [`Link::start`].
    pub fn finish(
        &self,
        db: &Ledger,
        id: &str,
        outcome: CommandOutcome,
    ) -> Result<(), ReportError> {
        inbox::finish(db, &self.outbox, (self.clock)(), id, outcome)
    }

    /// Commands that an earlier start of the daemon left unfinished, oldest first. One that this
    /// version cannot read is refused.
    ///
    /// # Errors
    /// [`ReportError::Ledger`].
    pub fn unfinished(&self, db: &Ledger) -> Result<Vec<Accepted>, ReportError> {
        inbox::unfinished(db, &self.outbox, (self.clock)())
    }

    /// How the link is doing.
    #[must_use]
    pub fn counts(&self, db: Option<&Ledger>) -> LinkCounts {
        let on_disk = db.and_then(|db| outbox::counts(db).ok()).unwrap_or_default();
        LinkCounts {
            connected: self.is_up(),
            connection: self.outbox.connection(),
            waiting: on_disk.messages + self.volatile.len() as u64,
            waiting_bytes: on_disk.bytes,
            dropped_events: on_disk.dropped,
            ..self.counts
        }
    }

    /// One wait, and the work that follows from it.
    async fn turn(&mut self, db: Option<&Ledger>) {
        if self.broker.is_none() {
            return std::future::pending().await;
        }
        self.work(db);
        if !self.ready.is_empty() && !self.stopping {
            return;
        }
        let deadline = self.deadline();
        match &mut self.phase {
            Phase::Waiting { .. } => {
                sleep_until(deadline).await;
                self.connect(db);
            }
            Phase::Open { connection, .. } => {
                tokio::select! {
                    biased;
                    signal = connection.next() => self.take(signal, db),
                    () = sleep_until(deadline) => self.check_silence(),
                }
            }
        }
    }

    /// What can be done without waiting: removing acknowledged messages, retrying held commands,
    /// sending.
    fn work(&mut self, db: Option<&Ledger>) {
        // Within the caller's transaction nothing is certain yet.
        let db = db.filter(|db| db.is_autocommit() && !self.ledger_rests());
        if let Some(db) = db {
            self.remove_acknowledged(db);
            self.retry_held(db);
        }
        self.send(db);
    }

    /// Works off a signal and those that are there already.
    fn take(&mut self, first: Signal, db: Option<&Ledger>) {
        let mut signal = first;
        for left in (0..BATCH).rev() {
            self.last_heard = Instant::now();
            match signal {
                Signal::Up => self.came_up(),
                Signal::Subscribed { granted: true } | Signal::Alive => {}
                Signal::Subscribed { granted: false } => {
                    self.ready.push_back(LinkEvent::NotListening);
                }
                Signal::Acknowledged { token, refusal } => self.acknowledge(token, refusal),
                Signal::Message(message) => self.receive(message, db),
                Signal::Down(lost) => return self.lost(lost),
            }
            let Phase::Open { connection, .. } = &mut self.phase else { return };
            let next = if left > 0 { connection.try_next() } else { None };
            let Some(next) = next else { return };
            signal = next;
        }
    }

    fn set_status(&mut self, presence: Presence, reason: &str) {
        let status = self.status(presence, reason);
        let result = self.retained.set(Which::Status, &status);
        self.log(result);
    }

    fn status(&self, presence: Presence, reason: &str) -> Status {
        let boot_id = self.identity.boot_id.clone();
        Status { status: presence, boot_id, reason: reason.to_owned() }
    }

    fn ledger_rests(&self) -> bool {
        self.ledger_rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn ledger_failed(&mut self, error: ReportError) {
        if !self.ledger_rests() {
            self.ledger_rests_until = Some(Instant::now() + LEDGER_PAUSE);
            self.ready.push_back(LinkEvent::LedgerFailed(error));
        }
    }

    /// A message that cannot be written is a fault of latrod's own, and no reason to stop.
    #[expect(clippy::unused_self, reason = "called as the other ways to tell something")]
    fn log(&self, result: Result<(), ReportError>) {
        if let Err(e) = result {
            log::error!("{e}");
        }
    }
}
