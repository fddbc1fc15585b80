//! What the dashboard's threads share.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::Settings;
use super::fleet::{DeviceId, Fleet, Seen};
use super::history::{Batch, HistoryError, Reader};
use super::orders::{Giver, Outgoing, Wish};
use super::rollout::Rollout;
use super::web::access::Access;
pub use crate::contract::wire::wall_clock_ms as now_ms;

/// Batches that wait for the disk, at most. Beyond, they are dropped and counted.
const WAITING_BATCHES: usize = 1024;
/// Commands that wait for the listener, at most: more than devices that are shown.
const WAITING_ORDERS: usize = 250_000;

/// Roll-outs that are remembered.
pub const MAX_ROLLOUTS: usize = 50;

/// Whether the broker can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Not yet known.
    Trying,
    /// Messages come in.
    Up,
    /// They don't, and why.
    Down(String),
}

/// What is shared.
pub struct Hub {
    /// The settings.
    pub settings: Settings,
    /// Who may see what.
    pub access: Access,
    /// Who gives commands.
    pub giver: Giver,
    fleet: Mutex<Fleet>,
    line: Mutex<Line>,
    reader: Mutex<Reader>,
    records: SyncSender<Batch>,
    notes: Sender<Batch>,
    orders: mpsc::Sender<Outgoing>,
    dropped: Mutex<u64>,
    rollouts: Mutex<Vec<Rollout>>,
}

/// The ends of the hub's channels that belong to the other threads.
pub struct Channels {
    /// For the recorder: what devices have said.
    pub records: Receiver<Batch>,
    /// For the recorder: what operators have done.
    pub notes: Receiver<Batch>,
    /// For the listener.
    pub orders: mpsc::Receiver<Outgoing>,
}

/// A panic elsewhere leaves nothing half-changed behind: what is locked is changed by one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub, and the other ends of its channels.
    ///
    /// # Errors
    /// A history that cannot be read.
    pub fn new(
        settings: Settings,
        reader: Reader,
        access: Access,
        giver: Giver,
    ) -> Result<(Self, Channels), HistoryError> {
        let (records, records_out) = sync_channel(WAITING_BATCHES);
        let (notes, notes_out) = channel();
        let (orders, orders_out) = mpsc::channel(WAITING_ORDERS);
        let mut fleet = Fleet::default();
        for seen in reader.acknowledgments()? {
            let Some(device) = DeviceId::parse(&seen.device) else { continue };
            let at_ms = u64::try_from(seen.at_ms).unwrap_or_default();
            fleet.acknowledge(&device, &seen.alarm, Seen { who: seen.who, at_ms });
        }
        let mut rollouts = Vec::new();
        for json in reader.rollouts(MAX_ROLLOUTS)? {
            let Ok(mut rollout) = serde_json::from_str::<Rollout>(&json) else { continue };
            // What devices have answered meanwhile is not known.
            rollout.stop("the dashboard was started anew");
            rollouts.insert(0, rollout);
        }
        let hub = Self {
            settings,
            access,
            giver,
            fleet: Mutex::new(fleet),
            line: Mutex::new(Line::Trying),
            reader: Mutex::new(reader),
            records,
            notes,
            orders,
            dropped: Mutex::default(),
            rollouts: Mutex::new(rollouts),
        };
        Ok((hub, Channels { records: records_out, notes: notes_out, orders: orders_out }))
    }

    /// What is known of the fleet. Keep it for as short as can be: the listener waits.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.fleet)
    }

    /// The past.
    pub fn reader(&self) -> MutexGuard<'_, Reader> {
        lock(&self.reader)
    }

    /// Whether the broker can be reached.
    pub fn line(&self) -> Line {
        lock(&self.line).clone()
    }

    /// Notes whether it can.
    pub fn set_line(&self, line: Line) {
        *lock(&self.line) = line;
    }

    /// Hands what devices have said to the disk; drops it if the disk is too far behind.
    pub fn record(&self, batch: Batch) {
        let records = (batch.samples.len() + batch.happenings.len() + batch.spent.len()) as u64;
        if records > 0 && self.records.try_send(batch).is_err() {
            *lock(&self.dropped) += records;
        }
    }

    /// Hands what an operator has done to the disk. That is little, and nothing of it is dropped.
    pub fn note(&self, batch: Batch) {
        if self.notes.send(batch).is_err() {
            log::error!("the history's thread has ended: what operators do is no longer kept");
        }
    }

    /// Records that were dropped because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        *lock(&self.dropped)
    }

    /// Hands a command, or the end of a device, to the listener.
    ///
    /// # Errors
    /// A sentence: too many wait already.
    pub fn send(&self, outgoing: Outgoing) -> Result<(), &'static str> {
        self.orders.try_send(outgoing).map_err(|_| "too many commands wait for the broker")
    }

    /// Gives a device the command for what is wanted of it; its id.
    ///
    /// # Errors
    /// A sentence: there is no such device, nothing to approve there, no key, or no room.
    pub fn give(
        &self,
        who: &str,
        device: &DeviceId,
        wish: &Wish,
        now_ms: u64,
    ) -> Result<String, String> {
        let wanted = self.fleet().get(device).map(|device| wish.of(device));
        let action = wanted.ok_or("there is no such device")??;
        let (outgoing, order) = self.giver.make(device, action, who, now_ms)?;
        let id = order.id.clone();
        let known = self.fleet().get_mut(device).map(|device| device.orders.give(order));
        let sent = known.ok_or("there is no such device").and_then(|()| self.send(outgoing));
        sent.map(|()| id.clone()).map_err(|why| {
            self.giver.ended(&id);
            self.unsent(device, &id, why);
            why.to_owned()
        })
    }

    /// The roll-outs, oldest first.
    pub fn rollouts(&self) -> MutexGuard<'_, Vec<Rollout>> {
        lock(&self.rollouts)
    }

    /// Begins a roll-out, under a number that no other has.
    pub fn begin(&self, mut rollout: Rollout) {
        let mut rollouts = self.rollouts();
        let newest = rollouts.last().map_or(0, |newest| newest.id);
        rollout.id = rollout.id.max(newest + 1);
        self.keep(&rollout);
        if rollouts.len() >= MAX_ROLLOUTS {
            rollouts.remove(0);
        }
        rollouts.push(rollout);
    }

    /// Writes a roll-out down.
    pub fn keep(&self, rollout: &Rollout) {
        let (id, json) = (i64::try_from(rollout.id), serde_json::to_string(rollout));
        if let (Ok(id), Ok(json)) = (id, json) {
            self.note(Batch { rollouts: vec![(id, json)], ..Batch::default() });
        }
    }

    /// Notes in the fleet that a command never left, and why.
    pub fn unsent(&self, device: &DeviceId, id: &str, why: &str) {
        if let Some(device) = self.fleet().get_mut(device) {
            device.orders.unsent(id, why);
        }
    }
}
