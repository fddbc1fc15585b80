//! Connecting and reconnecting: options and last will, what is sent first on a new connection, the
//! delay after a lost one, and cutting one that has gone silent.

use std::time::Duration;

use rusqlite::Connection as Ledger;
use tokio::time::Instant;

use super::{LEDGER_PAUSE, Link, LinkEvent, Phase};
use crate::contract::keys::read_small;
use crate::contract::topics::Kind;
use crate::contract::wire::{Message, Presence};
use crate::report::ReportError;
use crate::report::mqtt::backoff;
use crate::report::mqtt::backoff::seconds;
use crate::report::mqtt::connection::{ConnectOptions, Connection, Lost, Will};
use crate::report::mqtt::home_assistant::birth_topic;
use crate::report::outbox::{encode, head};

/// A connection that lasted this long counts as good: the next delay is short again. One that the
/// broker accepts and cuts at once does not.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Link {
    pub(super) fn connect(&mut self, db: Option<&Ledger>) {
        let now_s = (self.clock)() / 1000;
        let db = db.filter(|db| db.is_autocommit());
        if let Err(e) = self.outbox.begin_connection(db, now_s) {
            self.ledger_failed(e);
        }
        match self.connect_options() {
            Ok(options) => {
                let now = Instant::now();
                self.last_heard = now;
                let connection = Connection::open(&options);
                self.phase = Phase::Open { connection, since: now, up: false };
            }
            Err(e) => self.lost(Lost { reason: e.to_string(), unreadable: false }),
        }
    }

    fn connect_options(&mut self) -> Result<ConnectOptions, ReportError> {
        let settings = &self.settings;
        let (fleet, device) = (self.identity.topics.fleet(), self.identity.topics.device());
        let client_id = if settings.client_id.is_empty() {
            format!("latrod-{fleet}-{device}")
        } else {
            settings.client_id.clone()
        };
        let credentials = if settings.username.is_empty() {
            None
        } else {
            let password = match (&self.password, &settings.password_file) {
                (Some(password), _) => password.clone(),
                (None, Some(path)) => {
                    read_small("password", path)?.trim_end_matches(['\r', '\n']).to_owned()
                }
                (None, None) => String::new(),
            };
            Some((settings.username.clone(), password))
        };
        let options = settings.connect_options(client_id, credentials)?;
        Ok(ConnectOptions { clean: self.discard_session, will: Some(self.will()?), ..options })
    }

    /// What the broker publishes for us when it loses us. Its `seq` is 0, below every message of the
    /// process, which count from 1.
    fn will(&self) -> Result<Will, ReportError> {
        let topic = self.identity.topics.of(&Kind::Status);
        let connection = self.outbox.connection();
        let mut head = head(&self.identity.boot_id, 0, connection, (self.clock)());
        head.id = format!("{}-will-{connection}", self.identity.boot_id);
        let body = self.status(Presence::Offline, "connection lost");
        let payload = encode(&topic, &Message { head, body })?;
        Ok(Will { topic, payload })
    }

    pub(super) fn came_up(&mut self) {
        if std::mem::take(&mut self.discard_session) {
            // A clean session ends with its connection; commands need one that lasts.
            self.attempt = 0;
            let reason = "an unreadable message was discarded".to_owned();
            return self.lost(Lost { reason, unreadable: false });
        }
        let number = self.outbox.connection();
        self.sent_up_to = 0;
        self.retained.begin();
        self.set_status(Presence::Online, "connected");
        self.announce();
        if let Phase::Open { connection, since, up } = &mut self.phase {
            *up = true;
            *since = Instant::now();
            // It fails only if the connection is over already; that is the next thing we hear.
            let _ = connection.subscribe(&self.identity.topics.command_filter());
            let prefix = &self.settings.home_assistant;
            if !prefix.is_empty() {
                let _ = connection.subscribe(&birth_topic(prefix));
            }
        }
        self.ready.push_back(LinkEvent::Connected { connection: number });
    }

    pub(super) fn lost(&mut self, lost: Lost) {
        if let Phase::Open { since, up: true, .. } = &self.phase
            && since.elapsed() >= GOOD_CONNECTION
        {
            self.attempt = 0;
        }
        self.discard_session |= lost.unreadable;
        // Held commands were not acknowledged: the broker delivers them again.
        self.held.clear();
        self.tokens.clear();
        for message in &mut self.volatile {
            message.sent = false;
        }
        let (min, max) = (self.settings.reconnect_min_s, self.settings.reconnect_max_s);
        let retry_in = backoff::delay(self.attempt, seconds(min), seconds(max), backoff::random());
        self.attempt = self.attempt.saturating_add(1);
        self.phase = Phase::Waiting { until: Instant::now() + retry_in };
        self.ready.push_back(LinkEvent::Disconnected { reason: lost.reason, retry_in });
    }

    /// Cuts a connection that was silent for longer than its keep-alive allows, or that is not
    /// established in time: a peer that vanished may leave a write waiting for many minutes.
    pub(super) fn check_silence(&mut self) {
        if Instant::now() >= self.silent_from() {
            let reason = "the broker does not answer".to_owned();
            self.lost(Lost { reason, unreadable: false });
        }
    }

    fn silent_from(&self) -> Instant {
        let keep_alive = Duration::from_secs(self.settings.keep_alive_s.into());
        let patience = if self.is_up() { keep_alive * 5 / 2 } else { CONNECT_TIMEOUT };
        self.last_heard + patience
    }

    /// When to wake up though nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Waiting { until } => until,
            Phase::Open { .. } => {
                let work_waits = !self.held.is_empty() || !self.acknowledged.is_empty();
                let retry = work_waits.then(|| Instant::now() + LEDGER_PAUSE);
                retry.into_iter().fold(self.silent_from(), Instant::min)
            }
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Open { up: true, .. })
    }
}
