//! What is true of a crowd, for a test that compares a dashboard with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::device::{Device, Presence, TOPICS};

/// Everything that is true at one moment.
#[derive(Debug, Serialize)]
pub struct Truth<'c> {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// Whether nothing more will happen.
    ended: bool,
    totals: Totals,
    /// By fleet and name: `press/sim-00001`. Of two processes with one name, the one that connected last.
    devices: BTreeMap<String, Entry<'c>>,
}

/// A crowd in a few numbers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Totals {
    /// Processes that have been started; a cloned device has two.
    pub processes: usize,
    /// Those that are connected.
    pub connected: usize,
    /// Those whose connection broke and has not come back.
    pub lost: usize,
    /// Messages that were handed to a connection.
    pub sent: u64,
    /// Messages that the broker has acknowledged.
    pub acknowledged: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Commands that came in.
    pub commands: u64,
}

#[derive(Debug, Serialize)]
struct Entry<'c> {
    presence: &'static str,
    connection: u64,
    boot_id: &'c str,
    flaky: bool,
    cloned: bool,
    silent: bool,
    /// The device's clock minus the right time.
    skew_ms: i64,
    state: &'static str,
    step: u64,
    steps: u64,
    /// The active version of the adapter; nothing while the base model serves.
    adapter: Option<&'c str>,
    alarms: Vec<String>,
    sent: BTreeMap<&'static str, u64>,
    acknowledged: u64,
    reconnects: u64,
    lost: u64,
    /// Events and acknowledgements of commands that wait for the broker.
    outbox: usize,
    /// How far each command is, by its id.
    commands: BTreeMap<&'c str, &'static str>,
}

impl Totals {
    /// Those of some devices.
    pub(super) fn of(devices: &[Device], now_ms: u64) -> Self {
        let mut totals = Self { processes: devices.len(), ..Self::default() };
        for device in devices {
            let counts = device.counts();
            match device.presence(now_ms) {
                Presence::Online | Presence::Silent => totals.connected += 1,
                Presence::Lost => totals.lost += 1,
                Presence::New | Presence::Stopped => {}
            }
            totals.sent += counts.sent.iter().sum::<u64>();
            totals.acknowledged += counts.acknowledged;
            totals.reconnects += counts.reconnects;
            totals.commands += counts.commands;
        }
        totals
    }
}

impl<'c> Truth<'c> {
    /// The truth of some devices at `now_ms`.
    pub fn of(devices: &'c [Device], now_ms: u64, ended: bool) -> Self {
        let mut entries = BTreeMap::<String, Entry<'c>>::new();
        for device in devices {
            let topics = device.process().topics();
            let name = format!("{}/{}", topics.fleet(), topics.device());
            let entry = entry(device, now_ms);
            match entries.get_mut(&name) {
                Some(twin) if twin.connection > entry.connection => {}
                Some(twin) => *twin = entry,
                None => {
                    entries.insert(name, entry);
                }
            }
        }
        Self { at_ms: now_ms, ended, totals: Totals::of(devices, now_ms), devices: entries }
    }
}

fn entry(device: &Device, now_ms: u64) -> Entry<'_> {
    let (process, oddities, counts) = (device.process(), device.oddities(), device.counts());
    let (life, post) = (process.life(), process.post());
    let (step, steps) = life.steps();
    let presence = match device.presence(now_ms) {
        Presence::New => "new",
        Presence::Online => "online",
        Presence::Silent => "silent",
        Presence::Lost => "lost",
        Presence::Stopped => "stopped",
    };
    Entry {
        presence,
        connection: post.connection(),
        boot_id: post.boot_id(),
        flaky: oddities.flaky,
        cloned: oddities.cloned,
        silent: oddities.silent_after_ms.is_some(),
        skew_ms: oddities.skew_ms,
        state: life.phase().name(),
        step,
        steps,
        adapter: life.active(),
        alarms: life.alarms(),
        sent: TOPICS.into_iter().zip(counts.sent).collect(),
        acknowledged: counts.acknowledged,
        reconnects: counts.reconnects,
        lost: counts.lost,
        outbox: post.waiting(),
        commands: process.commands().map(|ack| (ack.command.as_str(), ack.state.name())).collect(),
    }
}
