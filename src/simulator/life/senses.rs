//! What a made-up device's sensors say: numbers that wander, because somebody uses it or it trains.

use std::collections::BTreeMap;

use super::TICK_S;
use crate::simulator::random::Random;

/// Load above which a device counts as in use, in percent.
pub const MAX_LOAD_PERCENT: f64 = 20.0;
/// Temperature above which a device stops training, in °C.
const MAX_CELSIUS: f64 = 80.0;
/// Temperature below which it goes on, in °C.
pub const COOL_CELSIUS: f64 = 72.0;
/// How long people leave a device alone, on average, in seconds.
const IDLE_S: f64 = 1500.0;
/// How long they use it, on average, in seconds.
const BUSY_S: f64 = 300.0;

/// Sensors.
#[derive(Debug, Clone)]
pub struct Senses {
    in_use: bool,
    load_percent: f64,
    celsius: f64,
    free_mib: f64,
    /// Temperature of the device at rest.
    rest_celsius: f64,
    memory_mib: f64,
    hot: bool,
}

impl Senses {
    /// Those of a device with this much memory, in MiB.
    pub fn new(random: &mut Random, memory_mib: u64) -> Self {
        let rest_celsius = random.between(30.0, 50.0);
        let memory_mib = memory_mib as f64;
        Self {
            in_use: random.chance(BUSY_S / (IDLE_S + BUSY_S)),
            load_percent: 4.0,
            celsius: rest_celsius,
            free_mib: 0.7 * memory_mib,
            rest_celsius,
            memory_mib,
            hot: false,
        }
    }

    /// A tick passes.
    pub fn tick(&mut self, random: &mut Random, trains: bool) {
        let stays_s = if self.in_use { BUSY_S } else { IDLE_S };
        if random.chance(TICK_S / stays_s) {
            self.in_use = !self.in_use;
        }
        let load = if self.in_use { 58.0 } else { 4.0 };
        let heat = 0.18 * self.load_percent + if trains { 27.0 } else { 0.0 };
        let taken = 0.3 + 0.002 * self.load_percent + if trains { 0.25 } else { 0.0 };
        // Towards where it would settle, with some noise; heat is slow.
        self.load_percent += 0.4 * (load - self.load_percent) + 0.08 * load * random.noise();
        self.load_percent = self.load_percent.clamp(0.0, 100.0);
        self.celsius += 0.04 * (self.rest_celsius + heat - self.celsius) + 0.3 * random.noise();
        let free = self.memory_mib * (1.0 - taken);
        self.free_mib += 0.3 * (free - self.free_mib) + 0.004 * self.memory_mib * random.noise();
        self.free_mib = self.free_mib.clamp(0.0, self.memory_mib);
        self.hot = self.celsius > if self.hot { COOL_CELSIUS } else { MAX_CELSIUS };
    }

    /// The load, in percent.
    pub const fn load_percent(&self) -> f64 {
        self.load_percent
    }

    /// The temperature, in °C.
    pub const fn celsius(&self) -> f64 {
        self.celsius
    }

    /// Whether somebody else needs the device.
    pub fn is_busy(&self) -> bool {
        self.load_percent > MAX_LOAD_PERCENT
    }

    /// Whether it is too hot to train, until it has cooled down for good.
    pub const fn is_hot(&self) -> bool {
        self.hot
    }

    /// The numbers by name, as messages have them.
    pub fn signals(&self) -> BTreeMap<String, f64> {
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        let signals = [
            ("cpu_load_percent", self.load_percent),
            ("free_memory_mib", self.free_mib),
            ("temperature_celsius", self.celsius),
        ];
        signals.map(|(name, number)| (name.to_owned(), rounded(number))).into()
    }
}
